// Package redistest starts real Redis servers for tests.
package redistest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Server is a redis-server of a test. It listens on a free loopback port and on
// a unix socket, keeps nothing on disk, and ends with the test.
type Server struct {
	Addr   string // host:port
	Socket string // path of the unix socket

	t    testing.TB
	args []string
	cmd  *exec.Cmd
	log  string
}

// Start starts a server, with further arguments for redis-server, and waits
// until it answers. Without redis-server the test is skipped, or fails in CI.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	return start(t, nil, append([]string{"--save", "", "--appendonly", "no", "--enable-debug-command", "yes"}, args...)...)
}

// start is Start with arguments that go first, such as a configuration file, and
// nothing that only a data server takes.
func start(t testing.TB, before []string, args ...string) *Server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("redis-server is not installed")
		}
		t.Skip("redis-server is not installed")
	}
	dir, err := os.MkdirTemp("", "redis") // short: a socket's path is limited
	if err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	s := &Server{
		Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Socket: filepath.Join(dir, "s"),
		t: t, log: filepath.Join(dir, "log"),
	}
	s.args = append(append(before,
		"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--unixsocket", s.Socket, "--dir", dir, "--logfile", s.log,
	), args...)
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			b, _ := os.ReadFile(s.log)
			t.Logf("log of redis-server:\n%s", b)
		}
		_ = os.RemoveAll(dir)
	})
	s.Restart()
	return s
}

// URL is the address of the server as a URL.
func (s *Server) URL() string { return "redis://" + s.Addr }

// Client returns a client of the server, which is closed with the test.
func (s *Server) Client() *redis.Client { return s.DB(0) }

// DB is Client for another database.
func (s *Server) DB(n int) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: s.Addr, DB: n})
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

// Kill ends the server without a word, as a crash does.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
}

// Restart starts the server after Kill, empty and at the same address.
func (s *Server) Restart() {
	s.t.Helper()
	s.cmd = exec.Command("redis-server", s.args...)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	const limit = 10 * time.Second
	for until := time.Now().Add(limit); ; {
		err := s.answers()
		if err == nil {
			return
		}
		if time.Now().After(until) {
			s.t.Fatalf("redis-server does not answer: %v", err)
		}
		time.Sleep(5 * time.Millisecond) // between two looks at a condition
	}
}

// answers reports whether the server takes commands; one that wants a password
// does.
func (s *Server) answers() error {
	conn, err := net.Dial("unix", s.Socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := fmt.Fprint(conn, "PING\r\n"); err != nil {
		return err
	}
	buf := make([]byte, 64)
	n, err := conn.Read(buf)
	if err != nil {
		return err
	}
	if answer := string(buf[:n]); answer[0] != '+' && answer[0] != '-' || answer[:2] == "-L" {
		return fmt.Errorf("it answered %q", answer)
	}
	return nil
}

// Flush empties the server.
func (s *Server) Flush() {
	s.t.Helper()
	if err := s.Client().FlushAll(context.Background()).Err(); err != nil {
		s.t.Fatal(err)
	}
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
