package integration

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Caddy is a running Caddy process.
type Caddy struct {
	URL   string // of the site: http://127.0.0.1:port
	Admin string // of the admin endpoint, likewise

	t       testing.TB
	cmd     *exec.Cmd
	program string
	file    string // the Caddyfile it was started with
	env     []string
	log     *logBuffer
	exited  chan struct{} // closed when the process has ended
	start   usage         // what the process held after its start
}

// waitLimit is how long the harness waits for anything.
const waitLimit = 20 * time.Second

// programs are those that were built, by package; a sync.OnceValues each.
var programs sync.Map

// build builds a package of this module once, and returns the program's path.
func build(pkg string) (string, error) {
	once, _ := programs.LoadOrStore(pkg, sync.OnceValues(func() (string, error) {
		dir, err := os.MkdirTemp("", "caddy")
		if err != nil {
			return "", err
		}
		path := filepath.Join(dir, "caddy")
		args := []string{"build", "-o", path}
		if raceEnabled {
			args = append(args, "-race")
		}
		build := exec.Command("go", append(args, "github.com/seed-57c14f3c/caddy-presence/"+pkg)...)
		if out, err := build.CombinedOutput(); err != nil {
			return "", errors.New("building caddy: " + string(out))
		}
		return path, nil
	}))
	return once.(func() (string, error))()
}

// Program returns the path of the caddy program.
func Program(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("CADDY"); path != "" {
		return path
	}
	return buildProgram(t, "cmd/caddy")
}

func buildProgram(t testing.TB, pkg string) string {
	t.Helper()
	path, err := build(pkg)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// CleanUp removes the programs that were built; TestMain calls it.
func CleanUp() {
	programs.Range(func(pkg, _ any) bool {
		if path, err := build(pkg.(string)); err == nil {
			_ = os.RemoveAll(filepath.Dir(path))
		}
		return true
	})
}

// Start starts Caddy with a Caddyfile and waits until it serves. Each of env is
// NAME=value for its environment. It is stopped with the test.
func Start(t testing.TB, caddyfile string, env ...string) *Caddy {
	t.Helper()
	return start(t, Program(t), caddyfile, env)
}

func start(t testing.TB, program, caddyfile string, env []string) *Caddy {
	t.Helper()
	c := prepare(t, env)
	c.program, c.file = program, caddyfile
	c.run()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of caddy:\n%s", c.Log())
		}
	})
	t.Cleanup(c.Stop) // also if the check below fails
	t.Cleanup(c.checkLeaks)
	return c
}

// StartText is Start with the Caddyfile's text.
func StartText(t testing.TB, text string, env ...string) *Caddy {
	t.Helper()
	return Start(t, WriteFile(t, "Caddyfile", text), env...)
}

// WriteFile writes a file into a folder of its own, and returns its path.
func WriteFile(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func prepare(t testing.TB, env []string) *Caddy {
	t.Helper()
	site, admin, home := FreeAddr(t), FreeAddr(t), t.TempDir()
	return &Caddy{
		URL: "http://" + site, Admin: "http://" + admin, t: t, log: new(logBuffer),
		env: append(append(os.Environ(), "SITE=http://"+site, "CADDY_ADMIN="+admin,
			"HOME="+home, "XDG_DATA_HOME="+home, "XDG_CONFIG_HOME="+home), env...),
	}
}

// run starts the process, and waits until it serves.
func (c *Caddy) run() {
	c.t.Helper()
	c.exited = make(chan struct{})
	c.cmd = exec.Command(c.program, "run", "--config", c.file, "--adapter", "caddyfile")
	c.cmd.Env, c.cmd.Stdout, c.cmd.Stderr = c.env, c.log, c.log
	c.cmd.Dir = Root()
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	go func(cmd *exec.Cmd, exited chan struct{}) {
		_ = cmd.Wait()
		close(exited)
	}(c.cmd, c.exited)
	c.await(func() error {
		res, err := http.Get(c.Admin + "/config/")
		if err != nil {
			return err
		}
		return res.Body.Close()
	})
	c.start = c.usage()
}

// Restart starts the process again after Stop or Kill, at the same addresses.
func (c *Caddy) Restart() {
	c.t.Helper()
	c.run()
}

// Root is the root of the source tree.
func Root() string {
	dir, _ := os.Getwd()
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	return "."
}

// await waits until ready returns nil.
func (c *Caddy) await(ready func() error) {
	c.t.Helper()
	var err error
	Eventually(c.t, func() bool {
		select {
		case <-c.exited:
			c.t.Fatalf("caddy ended:\n%s", c.Log())
		default:
		}
		err = ready()
		return err == nil
	}, func() string { return "caddy does not serve: " + err.Error() + "\n" + c.Log() })
}

// Log returns what the process has printed.
func (c *Caddy) Log() string { return c.log.String() }

// PID is the process's id.
func (c *Caddy) PID() int { return c.cmd.Process.Pid }

// Reload loads another Caddyfile, as `caddy reload` does, and fails if that does.
func (c *Caddy) Reload(caddyfile string) {
	c.t.Helper()
	if out, err := c.TryReload(caddyfile); err != nil {
		c.t.Fatalf("reloading: %v\n%s", err, out)
	}
}

// TryReload loads another Caddyfile, and returns what the command printed.
func (c *Caddy) TryReload(caddyfile string) (string, error) {
	cmd := exec.Command(c.program, "reload", "--force", "--config", caddyfile, "--adapter", "caddyfile",
		"--address", strings.TrimPrefix(c.Admin, "http://"))
	cmd.Env = c.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Stop ends the process as an operator does, waits, and wants it to end well.
func (c *Caddy) Stop() {
	c.t.Helper()
	if c.ended() {
		return
	}
	_ = c.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-c.exited:
		if code := c.cmd.ProcessState.ExitCode(); code != 0 {
			c.t.Errorf("caddy ended with code %d", code)
		}
	case <-time.After(waitLimit):
		c.t.Errorf("caddy does not stop")
		c.Kill()
	}
}

// Kill ends the process without a word, as a crash does.
func (c *Caddy) Kill() {
	_ = c.cmd.Process.Kill()
	<-c.exited
}

func (c *Caddy) ended() bool {
	select {
	case <-c.exited:
		return true
	default:
		return false
	}
}

// Call makes a request of the admin API and returns the status and the body.
func (c *Caddy) Call(method, path, body string, headers ...string) (int, string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.Admin+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return res.StatusCode, strings.TrimSpace(string(answer))
}

// logBuffer keeps a log that is written while it is read.
type logBuffer struct {
	mu  sync.Mutex // guards the field below
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// handedOut are the ports that FreeAddr has returned.
var handedOut sync.Map

// FreeAddr returns a loopback address with a port that is free, on all other
// addresses too, because a site listens on all. No two calls return the same.
func FreeAddr(t testing.TB) string {
	t.Helper()
	// Below the ports that systems give to clients, of which tests have many.
	const low, high, tries = 20_000, 32_000, 100
	var err error
	for range tries {
		port := strconv.Itoa(low + rand.IntN(high-low))
		var l net.Listener
		if l, err = net.Listen("tcp", ":"+port); err != nil {
			continue
		}
		_ = l.Close()
		if _, twice := handedOut.LoadOrStore(port, true); !twice {
			return net.JoinHostPort("127.0.0.1", port)
		}
	}
	t.Fatal(err)
	return ""
}

// Eventually waits until ok is true, or fails with what.
func Eventually(t testing.TB, ok func() bool, what func() string) {
	t.Helper()
	for until := time.Now().Add(waitLimit); !ok(); {
		if time.Now().After(until) {
			t.Fatal(what())
		}
		time.Sleep(10 * time.Millisecond) // between two looks at the condition
	}
}
