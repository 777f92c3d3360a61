// Package stage starts servers on loopback for the benchmarks, says what machine they
// run on, and writes what was measured into the documents. Nothing in it may be
// called concurrently, unless it says so.
package stage

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Stage is what a server is started with.
type Stage struct {
	Ctx      context.Context
	Programs string // the folder of the programs
	Dir      string // an empty folder
}

// Running is a server that was started.
type Running struct {
	URL, Push string // where clients connect, and where pushes are posted
	Cmds      []*exec.Cmd
	logs      []*log
}

// Command is a command that ends with the context.
func Command(ctx context.Context, dir, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	return cmd
}

// Command is a command of one of the programs.
func (s *Stage) Command(program string, args ...string) *exec.Cmd {
	return Command(s.Ctx, s.Dir, filepath.Join(s.Programs, program), args...)
}

// nextPort is where the search for a free port goes on. It is below the ports that
// the system gives to clients, of which there are thousands.
var nextPort = 18_000

// Address returns a loopback address with a port that is free, and another one each
// time.
func (s *Stage) Address() string {
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

// Site is the block of a Caddyfile for a site with one directive.
func (s *Stage) Site(scheme, address, directive string) string {
	tls := ""
	if scheme == "https" {
		tls = "\ttls internal\n"
	}
	return fmt.Sprintf("%s://%s {\n\tbind 127.0.0.1\n%s\t%s\n}\n", scheme, address, tls, directive)
}

// Caddy starts a Caddy program, and waits until it listens at the addresses.
func (s *Stage) Caddy(program, caddyfile string, r *Running, addresses ...string) error {
	file := filepath.Join(s.Dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(caddyfile), 0o600); err != nil {
		return err
	}
	cmd := s.Command(program, "run", "--config", file, "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), "HOME="+s.Dir, "XDG_DATA_HOME="+s.Dir, "XDG_CONFIG_HOME="+s.Dir)
	network := "tcp"
	if strings.HasPrefix(r.URL, "wss:") {
		network = "tls"
	}
	if err := s.Run(r, cmd, network, addresses[0]); err != nil {
		return err
	}
	for _, address := range addresses[1:] {
		if err := await(s.Ctx, "tcp", address); err != nil {
			return err
		}
	}
	return nil
}

// Run starts a process, and waits until it listens.
func (s *Stage) Run(r *Running, cmd *exec.Cmd, network, address string) error {
	printed := new(log)
	cmd.Stdout, cmd.Stderr = printed, printed
	if err := cmd.Start(); err != nil {
		return err
	}
	r.Cmds, r.logs = append(r.Cmds, cmd), append(r.logs, printed)
	return await(s.Ctx, network, address)
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

// Stop ends the processes, and nothing else: there is nothing to keep. It returns
// what CPU time they used.
func (r *Running) Stop() (cpu time.Duration) {
	for _, cmd := range r.Cmds {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		cpu += CPUOf(cmd)
	}
	return cpu
}

// CPUOf is what a command that has ended used.
func CPUOf(cmd *exec.Cmd) time.Duration {
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

// Log is the end of what each process has printed. It may be called while they run,
// as Printed may.
func (r *Running) Log() string {
	var b strings.Builder
	for _, printed := range r.logs {
		text := printed.String()
		b.WriteString(text[max(0, len(text)-1000):])
	}
	return b.String()
}

// Printed is all that the processes have printed, one after the other.
func (r *Running) Printed() string {
	var b strings.Builder
	for _, printed := range r.logs {
		b.WriteString(printed.String())
	}
	return b.String()
}

// log keeps what a process prints.
type log struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

// Write implements io.Writer.
func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Build makes programs of a module's packages, in a folder.
func Build(ctx context.Context, folder, module string, packages ...string) error {
	args := append([]string{"build", "-o", folder + string(filepath.Separator)}, packages...)
	if out, err := Command(ctx, module, "go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w\n%s", strings.Join(packages, " "), err, out)
	}
	return nil
}
