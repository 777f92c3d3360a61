package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// stage is what a server is started with.
type stage struct {
	ctx      context.Context
	programs string // the folder of the programs
	dir      string // an empty folder
}

// running is a server that was started.
type running struct {
	url, push string
	cmds      []*exec.Cmd
	logs      []*bytes.Buffer
}

// command is a command that ends with the context.
func command(ctx context.Context, dir, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	return cmd
}

func (s *stage) command(program string, args ...string) *exec.Cmd {
	return command(s.ctx, s.dir, filepath.Join(s.programs, program), args...)
}

// nextPort is where the search for a free port goes on. It is below the ports that
// the system gives to clients, of which there are thousands.
var nextPort = 18_000

// address returns a loopback address with a port that is free, and another one each
// time.
func (s *stage) address() string {
	for ; nextPort < 30_000; nextPort++ {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(nextPort))
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			nextPort++
			return address
		}
	}
	return "127.0.0.1:0" // the server will say why it cannot listen
}

// site is the block of a Caddyfile for a site with one directive.
func (s *stage) site(scheme, address, directive string) string {
	tls := ""
	if scheme == "https" {
		tls = "\ttls internal\n"
	}
	return fmt.Sprintf("%s://%s {\n\tbind 127.0.0.1\n%s\t%s\n}\n", scheme, address, tls, directive)
}

// caddy starts a Caddy program, and waits until it listens at the addresses.
func (s *stage) caddy(program, caddyfile string, r *running, addresses ...string) error {
	file := filepath.Join(s.dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(caddyfile), 0o600); err != nil {
		return err
	}
	cmd := s.command(program, "run", "--config", file, "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), "HOME="+s.dir, "XDG_DATA_HOME="+s.dir, "XDG_CONFIG_HOME="+s.dir)
	network := "tcp"
	if strings.HasPrefix(r.url, "wss:") {
		network = "tls"
	}
	if err := s.run(r, cmd, network, addresses[0]); err != nil {
		return err
	}
	for _, address := range addresses[1:] {
		if err := await(s.ctx, "tcp", address); err != nil {
			return err
		}
	}
	return nil
}

// run starts a process, and waits until it listens.
func (s *stage) run(r *running, cmd *exec.Cmd, network, address string) error {
	log := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	r.cmds, r.logs = append(r.cmds, cmd), append(r.logs, log)
	return await(s.ctx, network, address)
}

// await waits until something listens at an address, and speaks TLS if it must.
func await(ctx context.Context, network, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for {
		var conn net.Conn
		var err error
		if network == "tls" {
			// Caddy makes itself a certificate after it listens.
			dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
			conn, err = dialer.DialContext(ctx, "tcp", address)
		} else {
			conn, err = new(net.Dialer).DialContext(ctx, network, address)
		}
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("nothing listens at %s: %w", address, err)
		case <-time.After(20 * time.Millisecond): // between two looks
		}
	}
}

// stop ends the processes, and nothing else: there is nothing to keep. It returns
// what CPU time they used.
func (r *running) stop() (cpu time.Duration) {
	for _, cmd := range r.cmds {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		cpu += cpuOf(cmd)
	}
	return cpu
}

// cpuOf is what a command that has ended used.
func cpuOf(cmd *exec.Cmd) time.Duration {
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

// log is what the processes have printed, at its end; they must have ended.
func (r *running) log() string {
	var b strings.Builder
	for _, log := range r.logs {
		text := log.String()
		b.WriteString(text[max(0, len(text)-1000):])
	}
	return b.String()
}

// turnLimit is how long a server may have, so that one that hangs does not take
// all time there is.
const turnLimit = 90 * time.Second

// turn starts a server, loads it, and ends it. It also returns what CPU time server
// and clients used.
func turn(ctx context.Context, programs string, s server, o options) ([]line, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, turnLimit)
	defer cancel()
	dir, err := os.MkdirTemp(programs, "turn")
	if err != nil {
		return nil, 0, err
	}
	r, err := s.start(&stage{ctx, programs, dir})
	var out []byte
	var clients time.Duration
	if err == nil {
		out, clients, err = loadServer(ctx, filepath.Join(programs, "bench"), s, r, o)
	}
	cpu := r.stop() + clients
	if err != nil {
		return nil, cpu, fmt.Errorf("%w\n%s", err, r.log())
	}
	lines, err := parseLines(out)
	return lines, cpu, err
}

// loadServer runs the load generator, and returns what it printed and used.
func loadServer(ctx context.Context, program string, s server, r *running, o options) ([]byte, time.Duration, error) {
	pids := make([]string, len(r.cmds))
	for i, cmd := range r.cmds {
		pids[i] = strconv.Itoa(cmd.Process.Pid)
	}
	codec := s.codec
	if codec == "" {
		codec = ours
	}
	args := []string{
		"-url", r.url, "-push", r.push, "-codec", codec, "-pid", strings.Join(pids, ","),
		"-conns", strconv.Itoa(o.conns), "-time", o.time.String(), "-idle", o.idle.String(),
	}
	cmd := command(ctx, "", program, append(args, strings.Fields(s.scenarios)...)...)
	var errors bytes.Buffer
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %s", err, &errors)
	}
	return out, cpuOf(cmd), nil
}

// line is what the load generator prints for a scenario.
type line struct {
	scenario string
	numbers  map[string]float64
}

func parseLines(out []byte) ([]line, error) {
	var lines []line
	for text := range bytes.Lines(out) {
		var fields map[string]any
		if err := json.Unmarshal(text, &fields); err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		l := line{numbers: map[string]float64{}}
		for name, value := range fields {
			switch value := value.(type) {
			case float64:
				l.numbers[name] = value
			case string:
				l.scenario = value
			case []any: // by process, in the order they were started
				for i := range value {
					if number, ok := value[i].(float64); ok {
						l.numbers[fmt.Sprintf("%s.%d", name, i)] = number
					}
				}
			}
		}
		lines = append(lines, l)
	}
	return lines, nil
}
