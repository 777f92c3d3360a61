package socket_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/zap"

	"github.com/seed-57c14f3c/caddy-presence/presence"
	"github.com/seed-57c14f3c/caddy-presence/presence/memstore"
	"github.com/seed-57c14f3c/caddy-presence/presence/socket"
)

// fixture is an HTTP server whose every request becomes a connection of a hub.
type fixture struct {
	*testing.T
	hub    *presence.Hub
	store  presence.Store
	server *socket.Server
	dial   func() (net.Conn, error)

	// Of connections that are made from then on.
	identity presence.UserID
	expires  time.Time
}

func defaults() socket.Limits {
	return socket.Limits{
		PingInterval: 25 * time.Second, PongTimeout: 10 * time.Second, IdleTimeout: 130 * time.Second,
		OpenTimeout: time.Minute, MaxMessage: 64 << 10, MaxQueue: 256 << 10, Log: zap.NewNop(),
	}
}

// overTCP serves on a loopback port, inMemory over pipes, whose time
// synctest can control.
func overTCP(t *testing.T, change ...func(*socket.Limits)) *fixture {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, l, func() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) }, change)
}

// overTLS is overTCP with TLS, where all writes go through the queue.
func overTLS(t *testing.T, change ...func(*socket.Limits)) *fixture {
	t.Helper()
	certified := httptest.NewUnstartedServer(nil)
	certified.StartTLS() // for its certificate
	certified.Close()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: certified.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, l, func() (net.Conn, error) {
		return tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	}, change)
}

func inMemory(t *testing.T, change ...func(*socket.Limits)) *fixture {
	t.Helper()
	l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	return serve(t, l, l.dial, change)
}

func serve(t *testing.T, l net.Listener, dial func() (net.Conn, error), change []func(*socket.Limits)) *fixture {
	t.Helper()
	limits := defaults()
	for _, c := range change {
		c(&limits)
	}
	store := memstore.New()
	hub := presence.NewHub("default")
	hub.Configure(presence.Settings{
		Store: store, Sessions: presence.Sessions{Max: 1}, Grace: time.Minute, StopGrace: time.Minute, Log: zap.NewNop(),
	})
	f := &fixture{T: t, hub: hub, store: store, server: socket.NewServer(hub, limits), dial: dial}
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		addr, _, _ := net.SplitHostPort(r.RemoteAddr)
		refusal := f.server.Admit(addr)
		if refusal != nil && r.Header.Get("Sec-WebSocket-Protocol") == "" {
			http.Error(w, refusal.Reason, refusal.Status)
			return
		}
		_ = f.server.Upgrade(w, r, socket.Peer{Addr: addr, Identity: f.identity, Expires: f.expires}, refusal)
	})}
	go func() { _ = web.Serve(l) }()
	t.Cleanup(func() {
		_ = web.Close()
		f.server.Shutdown()
		_ = store.Shutdown(context.Background())
		if n := hub.Connections(); n != 0 {
			t.Errorf("%d connections are left", n)
		}
	})
	return f
}

// pipeListener accepts connections in memory.
type pipeListener struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *pipeListener) dial() (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// client connects as an ordinary client: its library answers pings, as long as
// somebody reads.
func (f *fixture) client() *client {
	f.Helper()
	return f.clientWith(websocket.CompressionDisabled)
}

// clientWith connects with a kind of compression, if the server agrees.
func (f *fixture) clientWith(mode websocket.CompressionMode) *client {
	f.Helper()
	ws, _, err := websocket.Dial(f.Context(), "ws://host/", &websocket.DialOptions{
		HTTPClient: &http.Client{
			Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return f.dial() }},
		},
		CompressionMode: mode, CompressionThreshold: 1,
	})
	if err != nil {
		f.Fatal(err)
	}
	ws.SetReadLimit(1 << 20)
	c := &client{f: f, ws: ws, frames: make(chan string, 10_000), ended: make(chan struct{})}
	go c.read()
	f.Cleanup(func() { _ = ws.CloseNow(); <-c.ended })
	return c
}

type client struct {
	f      *fixture
	ws     *websocket.Conn
	frames chan string
	ended  chan struct{}
	err    error // why, once ended is closed
}

func (c *client) read() {
	defer close(c.ended)
	for {
		_, data, err := c.ws.Read(context.Background())
		if err != nil {
			c.err = err
			return
		}
		c.frames <- string(data)
	}
}

func (c *client) send(frames ...string) {
	c.f.Helper()
	for _, frame := range frames {
		if err := c.ws.Write(context.Background(), websocket.MessageText, []byte(frame)); err != nil {
			c.f.Fatalf("sending %.50s: %v", frame, err)
		}
	}
}

// next returns the next frame.
func (c *client) next() string {
	c.f.Helper()
	select {
	case frame := <-c.frames:
		return frame
	case <-c.ended:
		c.f.Fatalf("the connection ended: %v", c.err)
	case <-time.After(20 * time.Second):
		c.f.Fatal("no frame came")
	}
	return ""
}

func (c *client) want(frames ...string) {
	c.f.Helper()
	for _, want := range frames {
		if got := c.next(); got != want {
			c.f.Fatalf("got %.200q, want %.200q", got, want)
		}
	}
}

// wantClosed waits until the server closes with a code.
func (c *client) wantClosed(code presence.CloseCode) {
	c.f.Helper()
	select {
	case <-c.ended:
	case <-time.After(5 * time.Minute): // in fake time
		c.f.Fatalf("the connection did not end, want %d", code)
	}
	if got := websocket.CloseStatus(c.err); presence.CloseCode(got) != code {
		c.f.Fatalf("closed with %d (%v), want %d", got, c.err, code)
	}
}

// raw is a client that does just what it is told.
type raw struct {
	net.Conn
	f *fixture
	r *bufio.Reader
}

const handshake = "GET / HTTP/1.1\r\nHost: host\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"

// rawClient connects, sends the handshake with what comes right behind it, and
// reads the answer.
func (f *fixture) rawClient(headers string, behind ...byte) (*raw, *http.Response) {
	f.Helper()
	c, res := f.passing(headers, behind...)
	f.Cleanup(func() { _ = c.Conn.Close() })
	return c, res
}

// passing is rawClient for one of many, which the caller closes.
func (f *fixture) passing(headers string, behind ...byte) (*raw, *http.Response) {
	f.Helper()
	conn, err := f.dial()
	if err != nil {
		f.Fatal(err)
	}
	c := &raw{Conn: conn, f: f, r: bufio.NewReader(conn)}
	c.write(append([]byte(handshake+headers+"\r\n"), behind...)...)
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		f.Fatal(err)
	}
	return c, res
}

func (c *raw) write(data ...byte) {
	c.f.Helper()
	if _, err := c.Conn.Write(data); err != nil {
		c.f.Fatalf("writing: %v", err)
	}
}

// frame is a masked frame of a client.
func frame(first byte, payload string) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	key := [4]byte{1, 2, 3, 4}
	b = append(b, key[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^key[i%4])
	}
	return b
}

const (
	text = 0x81
	bin  = 0x82
	cont = 0x80
	part = 0x01 // the first part of a text
	done = 0x88
	ping = 0x89
	pong = 0x8a
)

// read reads one frame; it returns io.EOF when the connection has ended.
func (c *raw) read() (first byte, payload string, err error) {
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Minute))
	var head [2]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		if strings.Contains(err.Error(), "reset") || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe) {
			err = io.EOF
		}
		return 0, "", err
	}
	n := int(head[1])
	switch n {
	case 126:
		var b [2]byte
		_, _ = io.ReadFull(c.r, b[:])
		n = int(binary.BigEndian.Uint16(b[:]))
	case 127:
		var b [8]byte
		_, _ = io.ReadFull(c.r, b[:])
		n = int(binary.BigEndian.Uint64(b[:]))
	}
	buf := make([]byte, n)
	_, err = io.ReadFull(c.r, buf)
	return head[0], string(buf), err
}

func (c *raw) want(first byte, payload string) {
	c.f.Helper()
	gotFirst, got, err := c.read()
	if err != nil || gotFirst != first || got != payload {
		c.f.Fatalf("got frame %x %.100q, %v; want %x %.100q", gotFirst, got, err, first, payload)
	}
}

// wantClosed reads until a close frame, wants its code, and answers it.
func (c *raw) wantClosed(code presence.CloseCode) {
	c.f.Helper()
	for {
		first, payload, err := c.read()
		if err != nil {
			c.f.Fatalf("no close frame: %v", err)
		}
		if first != done {
			continue
		}
		if got := binary.BigEndian.Uint16([]byte(payload)); presence.CloseCode(got) != code {
			c.f.Fatalf("closed with %d, want %d", got, code)
		}
		_, _ = c.Conn.Write(frame(done, payload[:2]))
		return
	}
}

// wantEnd reads until the connection ends.
func (c *raw) wantEnd() {
	c.f.Helper()
	for {
		if _, _, err := c.read(); err == io.EOF {
			return
		} else if err != nil {
			c.f.Fatalf("the connection did not end: %v", err)
		}
	}
}

func (f *fixture) push(body string) presence.PushResult {
	f.Helper()
	p, err := presence.DecodePush([]byte(body))
	if err != nil {
		f.Fatal(err)
	}
	r, err := f.hub.Push(context.Background(), p)
	if err != nil {
		f.Fatal(err)
	}
	return r
}

func (f *fixture) state(id presence.UserID) string {
	f.Helper()
	users, err := f.store.Lookup(context.Background(), "default", []presence.UserID{id})
	switch {
	case err != nil:
		f.Fatal(err)
	case len(users) == 0:
		return "offline"
	case users[0].Lingering:
		return "lingering"
	}
	return "online"
}

// eventually waits for a condition.
func (f *fixture) eventually(what string, ok func() bool) {
	f.Helper()
	for until := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) {
			f.Fatalf("never: %s", what)
		}
	}
}

func open(id any) string { return fmt.Sprintf(`{"action":"open","id":"%v","ref":0}`, id) }

// online connects a client and opens it.
func (f *fixture) online(id any) *client {
	f.Helper()
	c := f.client()
	c.send(open(id))
	if got := c.next(); !strings.Contains(got, `"ok":true`) {
		f.Fatalf("opening %v: %s", id, got)
	}
	return c
}

func unmarshal(t *testing.T, text string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}
