package socket_test

import (
	"context"
	"crypto/tls"
	"net"
	"runtime"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/seed-57c14f3c/caddy-presence/presence"
	"github.com/seed-57c14f3c/caddy-presence/presence/socket"
)

// together is a connection that holds back what is written until release.
type together struct {
	net.Conn
	hold bool
	held []byte
}

func (c *together) Write(p []byte) (int, error) {
	if c.hold {
		c.held = append(c.held, p...)
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func (c *together) release(t *testing.T) {
	t.Helper()
	c.hold = false
	if _, err := c.Conn.Write(c.held); err != nil {
		t.Fatal(err)
	}
	c.held = nil
}

// TestTwoRecordsAtOnce sends two frames in two TLS records that arrive together:
// TLS gives them one by one, and the poller knows of none.
func TestTwoRecordsAtOnce(t *testing.T) {
	f := overTLS(t)
	probe, err := f.dial()
	if err != nil {
		t.Fatal(err)
	}
	addr := probe.RemoteAddr().String()
	_ = probe.Close()
	under := new(together)
	f.dial = func() (net.Conn, error) {
		under.Conn, err = net.Dial("tcp", addr)
		return tls.Client(under, &tls.Config{InsecureSkipVerify: true}), err
	}
	c, _ := f.rawClient("")
	c.write(frame(text, "ping")...)
	c.want(text, "pong")
	for range 20 {
		f.eventually("the reader is parked", func() bool { return readers() == 0 || runtime.GOOS != "linux" })
		under.hold = true
		c.write(frame(text, "ping")...)
		c.write(frame(text, "ping")...)
		under.release(t)
		c.want(text, "pong")
		c.want(text, "pong")
	}
}

// busyStore holds an open up until it is released.
type busyStore struct {
	presence.Store
	entered, release chan struct{}
}

func (s *busyStore) Open(ctx context.Context, r presence.OpenRequest) (presence.OpenResult, error) {
	close(s.entered)
	<-s.release
	return s.Store.Open(ctx, r)
}

// TestEndBehindData has a client send its last message, and hang up, while the
// reader is at work on the one before.
func TestEndBehindData(t *testing.T) {
	f := overTCP(t)
	s := &busyStore{f.store, make(chan struct{}), make(chan struct{})}
	f.hub.Configure(presence.Settings{Store: s, Sessions: presence.Sessions{Max: 1}, Log: zap.NewNop()})
	c, _ := f.rawClient("")
	c.write(frame(text, "ping")...)
	c.want(text, "pong")
	c.write(frame(text, open("u"))...)
	<-s.entered
	c.write(frame(text, "ping")...)
	if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	close(s.release)
	f.eventually("the connection ends", func() bool { return f.hub.Connections() == 0 })
}

// TestQueueOfEndedConnection pushes more than one write carries to a client that
// reads nothing and is cut off: each push is told, and counted, for what it is.
func TestQueueOfEndedConnection(t *testing.T) {
	f := overTCP(t)
	c, _ := f.rawClient("", frame(text, open("u"))...)
	_, _, _ = c.read()
	const pushes = 200
	wait, long := presence.Wait(presence.MaxPushWait), strings.Repeat("x", 30_000)
	results := make(chan presence.PushResult, pushes)
	for range pushes {
		d, err := f.hub.Start(t.Context(), &presence.Push{To: presence.Selector{All: true}, Text: &long, Wait: &wait})
		if err != nil {
			t.Fatal(err)
		}
		go func() { results <- d.Result(context.Background()) }()
	}
	_ = c.Conn.(*net.TCPConn).SetLinger(0)
	_ = c.Conn.Close()
	var sent, dropped int64
	for range pushes {
		r := <-results
		sent, dropped = sent+int64(r.Sent), dropped+int64(r.Dropped)
		if r.Unconfirmed != 0 {
			t.Fatalf("a push to a connection that has ended: %+v", r)
		}
	}
	s := f.hub.Stats()
	if s.Sent != sent || s.Dropped[presence.DropClosed]+s.Dropped[presence.DropQueueFull] != dropped {
		t.Errorf("the pushes say %d sent and %d dropped, the counters %d and %v", sent, dropped, s.Sent, s.Dropped)
	}
}

// TestPingFlood has a client send pings and read none of the pongs: only the latest
// is kept for it.
func TestPingFlood(t *testing.T) {
	f := overTCP(t, func(l *socket.Limits) { l.MaxQueue = 64 << 10 })
	c, _ := f.rawClient("")
	lot := []byte(strings.Repeat(string(frame(ping, strings.Repeat("p", 125))), 500))
	before := measure()
	const flood, most = 15 << 20, 5 << 20
	for sent := 0; sent < flood; sent += len(lot) {
		if _, err := c.Conn.Write(lot); err != nil {
			return // also well
		}
	}
	if after := measure(); after.heap > before.heap+most {
		t.Errorf("the heap has grown from %d to %d bytes", before.heap, after.heap)
	}
}

// TestRefusedAreFew refuses clients that want to be told why: not all at once.
func TestRefusedAreFew(t *testing.T) {
	f := overTCP(t, func(l *socket.Limits) { l.MaxConnections = 1 })
	f.online(1)
	told, refused := 0, 0
	for range 300 {
		_, res := f.rawClient("Sec-WebSocket-Protocol: presence.v1\r\n")
		if res.StatusCode == 101 {
			told++
		} else {
			refused++
		}
	}
	if told == 0 || refused == 0 {
		t.Errorf("%d were told by a close code, %d refused at once", told, refused)
	}
}
