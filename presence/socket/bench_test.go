package socket_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/seed-57c14f3c/caddy-presence/presence"
	"github.com/seed-57c14f3c/caddy-presence/presence/memstore"
	"github.com/seed-57c14f3c/caddy-presence/presence/socket"
)

// benchServer serves a hub over TCP, and returns how to connect.
func benchServer(b *testing.B) (*presence.Hub, func() net.Conn) {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	store := memstore.New()
	hub := presence.NewHub("default")
	hub.Configure(presence.Settings{Store: store, Sessions: presence.Sessions{Max: 1}, Log: zap.NewNop()})
	limits := socket.Limits{MaxMessage: 64 << 10, MaxQueue: 256 << 10, Log: zap.NewNop()}
	server := socket.NewServer(hub, limits)
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = server.Upgrade(w, r, socket.Peer{}, server.Admit(""))
	})}
	go func() { _ = web.Serve(l) }()
	b.Cleanup(func() {
		_ = web.Close()
		server.Shutdown()
		_ = store.Shutdown(context.Background())
	})
	return hub, func() net.Conn {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = conn.Close() })
		if _, err := io.WriteString(conn, handshake+"\r\n"); err != nil {
			b.Fatal(err)
		}
		readUntil(b, conn, "\r\n\r\n")
		return conn
	}
}

// readUntil reads byte by byte, so that nothing behind is taken.
func readUntil(b *testing.B, r io.Reader, end string) {
	b.Helper()
	var got []byte
	one := make([]byte, 1)
	for len(got) < len(end) || string(got[len(got)-len(end):]) != end {
		if _, err := r.Read(one); err != nil {
			b.Fatalf("after %q: %v", got, err)
		}
		got = append(got, one[0])
	}
}

// BenchmarkHeartbeat is a ping's way to its pong, over loopback TCP, with the
// client's part in it.
func BenchmarkHeartbeat(b *testing.B) {
	_, dial := benchServer(b)
	conn := dial()
	ping := frame(text, "ping")
	pong := make([]byte, 6)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := conn.Write(ping); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(conn, pong); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPushToAll pushes 256 bytes to open connections over loopback TCP.
// The clients' part, which is only to throw away, is in it. 9,900 is what 20,000
// descriptors allow with both ends in one process.
func BenchmarkPushToAll(b *testing.B) {
	for _, n := range []int{1000, 9900} {
		b.Run(fmt.Sprintf("%d", n), func(b *testing.B) { pushToAll(b, n) })
	}
}

func pushToAll(b *testing.B, n int) {
	hub, dial := benchServer(b)
	for i := range n {
		conn := dial()
		if _, err := conn.Write(frame(text, fmt.Sprintf(`{"action":"open","id":%d}`, i))); err != nil {
			b.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, conn) }()
	}
	for hub.Stats().Members < int64(n) {
		time.Sleep(time.Millisecond) // between two looks at the condition
	}
	body := strings.Repeat("x", 256)
	wait := presence.Wait(10 * time.Second)
	p := &presence.Push{To: presence.Selector{All: true}, Text: &body, Wait: &wait}
	b.ReportAllocs()
	for b.Loop() {
		r, err := hub.Push(b.Context(), p)
		if err != nil || r.Sent != n {
			b.Fatalf("%+v, %v", r, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/delivery")
}
