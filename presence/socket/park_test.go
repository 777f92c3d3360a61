package socket_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/seed-57c14f3c/caddy-presence/presence"
	"github.com/seed-57c14f3c/caddy-presence/presence/socket"
)

// readers is how many goroutines read from connections.
func readers() int {
	buf := make([]byte, 16<<20)
	return strings.Count(string(buf[:runtime.Stack(buf, true)]), "socket.(*Conn).read(")
}

// TestParked sees that idle connections have no goroutine, also after pings of
// either kind, and that they still do all they should.
func TestParked(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("readers are parked on Linux only")
	}
	for name, serve := range map[string]func(*testing.T, ...func(*socket.Limits)) *fixture{"tcp": overTCP, "tls": overTLS} {
		t.Run(name, func(t *testing.T) {
			f := serve(t)
			const n = 50
			var clients []*raw
			for i := range n {
				c, _ := f.rawClient("", frame(text, open(i))...)
				_, _, _ = c.read()
				clients = append(clients, c)
			}
			parked := func() bool { return readers() == 0 }
			f.eventually("all readers are parked", parked)
			for _, c := range clients {
				c.write(frame(ping, "x")...)
				c.want(pong, "x")
				c.write(frame(pong, "unasked")...)
			}
			f.eventually("all readers are parked after control frames", parked)
			for _, c := range clients {
				c.write(frame(part, "pi")...)
			}
			f.eventually("readers in the middle of a message wait for it", func() bool { return readers() == n })
			for _, c := range clients {
				c.write(frame(cont, "ng")...)
				c.want(text, "pong")
			}
			f.eventually("all readers are parked after fragments", parked)
			if r := f.push(`{"to":{"all":true},"text":"x"}`); r.Sent != n {
				t.Errorf("a push: %+v", r)
			}
			for i, c := range clients {
				c.want(text, "x")
				switch i % 3 {
				case 0:
					_ = c.Close()
				case 1:
					c.write(frame(done, "\x03\xe8")...)
				case 2:
					if !f.hub.KickConn(presence.ConnID{Node: f.store.Node(), Num: uint64(i + 1)}) {
						t.Errorf("connection %d is not there", i+1)
					}
					c.wantClosed(presence.CloseKicked)
				}
			}
			f.eventually("all are gone", func() bool { return f.hub.Connections() == 0 && readers() == 0 })
		})
	}
}

// TestUnparkedOnClose closes parked connections from the server: those whose
// peer does not answer are gone soon, too.
func TestUnparkedOnClose(t *testing.T) {
	for name, serve := range map[string]func(*testing.T, ...func(*socket.Limits)) *fixture{"tcp": overTCP, "tls": overTLS} {
		t.Run(name, func(t *testing.T) {
			f := serve(t)
			for i := range 20 {
				c, _ := f.rawClient("", frame(text, open(fmt.Sprint(i)))...)
				_, _, _ = c.read()
			}
			f.server.Drain(0)
			if n := f.hub.Connections(); n != 0 {
				t.Errorf("%d connections are left", n)
			}
		})
	}
}
