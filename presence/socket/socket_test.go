package socket_test

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/seed-57c14f3c/caddy-presence/presence"
	"github.com/seed-57c14f3c/caddy-presence/presence/socket"

	"github.com/coder/websocket"
)

// everywhere runs a test over TCP, where a write can be tried, with parked
// readers and with such that wait; over TLS; and in memory, where all writes go
// through the queue.
func everywhere(t *testing.T, test func(t *testing.T, f *fixture), change ...func(*socket.Limits)) {
	t.Run("tcp", func(t *testing.T) { test(t, overTCP(t, change...)) })
	t.Run("tcp, waiting", func(t *testing.T) {
		socket.WithoutParking(t)
		test(t, overTCP(t, change...))
	})
	t.Run("tls", func(t *testing.T) { test(t, overTLS(t, change...)) })
	t.Run("memory", func(t *testing.T) { test(t, inMemory(t, change...)) })
}

func TestMessages(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		c := f.client()
		c.send("ping")
		c.want("pong")
		c.send(open(7))
		if got := c.next(); !strings.HasPrefix(got, `{"action":"reply","ref":0,"ok":true`) {
			t.Fatalf("opening: %s", got)
		}
		for _, n := range []int{0, 1, 125, 126, 127, 65_000} {
			data := strings.Repeat("x", n)
			if r := f.push(`{"to":{"ids":[7]},"text":"` + data + `"}`); r.Sent != 1 {
				t.Errorf("a push of %d bytes: %+v", n, r)
			}
			c.want(data)
		}
	})
}

// TestEarlyFrame sends a client's first frame together with its handshake.
func TestEarlyFrame(t *testing.T) {
	f := overTCP(t)
	for range 50 {
		c, res := f.rawClient("", append(frame(text, "ping"), frame(text, "ping")...)...)
		if res.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("status %d", res.StatusCode)
		}
		c.want(text, "pong")
		c.want(text, "pong")
	}
}

func TestFragments(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		c, _ := f.rawClient("")
		c.write(frame(part, "pi")...)
		c.write(frame(ping, "between")...)
		c.want(pong, "between")
		c.write(frame(0, "n")...)
		c.write(frame(cont, "g")...)
		c.want(text, "pong")
		for _, b := range frame(text, "ping") {
			c.write(b)
		}
		c.want(text, "pong")
	})
}

func TestUpgradeWithBody(t *testing.T) {
	f := overTCP(t)
	for _, header := range []string{"Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"} {
		_, res := f.rawClient(header)
		if res.StatusCode != http.StatusBadRequest {
			t.Errorf("%sgot status %d", header, res.StatusCode)
		}
	}
}

func TestSubprotocol(t *testing.T) {
	f := overTCP(t)
	for offer, want := range map[string]string{
		"": "", "other": "", "presence.v1": "presence.v1", "other, presence.v1": "presence.v1",
	} {
		header := ""
		if offer != "" {
			header = "Sec-WebSocket-Protocol: " + offer + "\r\n"
		}
		_, res := f.rawClient(header)
		if got := res.Header.Get("Sec-WebSocket-Protocol"); got != want || res.StatusCode != 101 {
			t.Errorf("offer %q: status %d, got %q", offer, res.StatusCode, got)
		}
	}
}

func TestCloseCodes(t *testing.T) {
	for name, test := range map[string]struct {
		frame []byte
		code  presence.CloseCode
	}{
		"binary":             {frame(bin, "x"), presence.CloseUnsupported},
		"bad UTF-8":          {frame(text, "\xff"), presence.CloseInvalidData},
		"half a character":   {frame(text, "\xc3"), presence.CloseInvalidData},
		"too big":            {frame(text, strings.Repeat("x", 64<<10+1)), presence.CloseTooBig},
		"reserved bits":      {frame(text|0x40, "x"), presence.CloseProtocolError},
		"unknown opcode":     {frame(0x83, "x"), presence.CloseProtocolError},
		"lost continuation":  {frame(cont, "x"), presence.CloseProtocolError},
		"long control frame": {frame(ping, strings.Repeat("x", 126)), presence.CloseProtocolError},
	} {
		t.Run(name, func(t *testing.T) {
			everywhere(t, func(t *testing.T, f *fixture) {
				other := f.online(8)
				c, _ := f.rawClient("")
				c.write(frame(text, open(7))...)
				_, _, _ = c.read()
				// The server may hang up before it has read all.
				go func() { _, _ = c.Conn.Write(test.frame) }()
				c.wantClosed(test.code)
				c.wantEnd()
				state := ""
				defer func() {
					if t.Failed() {
						t.Logf("user 7 is %q", state)
					}
				}()
				f.eventually("the user lingers", func() bool {
					state = f.state("7")
					return state == "lingering"
				})
				other.send("ping")
				other.want("pong")
			})
		})
	}
}

func TestUnmasked(t *testing.T) {
	f := overTCP(t)
	c, _ := f.rawClient("")
	c.write(0x81, 4, 'p', 'i', 'n', 'g')
	c.wantEnd()
}

func TestClientCloses(t *testing.T) {
	for code, want := range map[websocket.StatusCode]string{1000: "offline", 1001: "lingering", 3001: "lingering", 4321: "lingering"} {
		f := overTCP(t)
		c := f.online(7)
		if err := c.ws.Close(code, ""); err != nil {
			t.Errorf("closing with %d: %v", code, err)
		}
		f.eventually(fmt.Sprintf("closed with %d, the user is %s", code, want), func() bool { return f.state("7") == want })
		if n := f.hub.Stats().Closed[presence.CloseCode(code)]; n != 1 {
			t.Errorf("closed with %d: counted %d", code, n)
		}
	}
	f := overTCP(t)
	c, _ := f.rawClient("", frame(text, open(7))...)
	_, _, _ = c.read()
	_ = c.Conn.Close()
	f.eventually("cut, the user lingers", func() bool { return f.state("7") == "lingering" })
	if n := f.hub.Stats().Closed[1006]; n != 1 {
		t.Errorf("cut: counted %d", n)
	}
}

func TestReplaced(t *testing.T) {
	f := overTCP(t)
	first := f.online(7)
	second := f.online(7)
	first.wantClosed(presence.CloseReplaced)
	f.eventually("one connection is left", func() bool { return f.hub.Connections() == 1 })
	second.send("ping")
	second.want("pong")
	if f.state("7") != "online" {
		t.Error("the user is offline")
	}
}

// TestPeerThatDoesNotAnswerClose sees that nobody waits long for it.
func TestPeerThatDoesNotAnswerClose(t *testing.T) {
	f := overTCP(t)
	c, _ := f.rawClient("", frame(text, open(7))...)
	_, _, _ = c.read()
	f.online(7)
	if first, _, err := c.read(); first != done || err != nil {
		t.Fatalf("got frame %x, %v", first, err)
	}
	c.write(frame(text, open(7))...) // not carried out any more
	c.wantEnd()
	if f.state("7") != "online" {
		t.Error("the user is offline")
	}
}

func TestAdmit(t *testing.T) {
	f := overTCP(t, func(l *socket.Limits) { l.MaxConnections = 3; l.MaxUnopened = 1 })
	for n := 1; n <= 2; n++ {
		c := f.client()
		if _, res := f.rawClient(""); res.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("a second that is not open: status %d", res.StatusCode)
		}
		c.send(open(n))
		c.next()
		// Its place is released just after the reply was sent.
		f.eventually("there is room again", func() bool {
			c, res := f.rawClient("")
			_ = c.Close()
			return res.StatusCode == http.StatusSwitchingProtocols
		})
		f.eventually("it is left alone", func() bool { return f.hub.Connections() == n })
	}
	f.online(3)
	if _, res := f.rawClient(""); res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a fourth: status %d", res.StatusCode)
	}
	c, res := f.rawClient("Sec-WebSocket-Protocol: presence.v1\r\n")
	if res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("a fourth that offers the subprotocol: status %d", res.StatusCode)
	}
	c.wantClosed(presence.CloseFull)
}

func TestDrain(t *testing.T) {
	f := overTCP(t)
	var clients []*client
	for n := range 20 {
		clients = append(clients, f.online(n))
	}
	silent, _ := f.rawClient("")
	f.server.Drain(0)
	for n, c := range clients {
		c.wantClosed(presence.CloseRestart)
		if got := f.state(presence.UserID(fmt.Sprint(n))); got != "lingering" {
			t.Errorf("user %d is %s", n, got)
		}
	}
	silent.wantEnd()
	if n := f.hub.Connections(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
	if _, res := f.rawClient(""); res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("while draining: status %d", res.StatusCode)
	}
}

// TestSlowReader sees that a client that does not read loses messages itself,
// delays nobody, and gets the rest whole and in order.
func TestSlowReader(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		slow, _ := f.rawClient("", frame(text, open("slow"))...)
		_, _, _ = slow.read()
		fine := f.online("fine")
		const size = 32 << 10
		sent, dropped := 0, 0
		for n := range 400 {
			body := fmt.Sprintf("%d %s", n, strings.Repeat("x", size))
			f.push(`{"to":{"ids":["slow"]},"text":"` + body + `","wait":"0s"}`)
			if r := f.push(fmt.Sprintf(`{"to":{"ids":["fine"]},"text":"%d"}`, n)); r.Sent != 1 {
				t.Fatalf("push %d to a client that reads: %+v", n, r)
			}
			fine.want(fmt.Sprint(n))
		}
		stats := f.hub.Stats()
		dropped = int(stats.Dropped[presence.DropQueueFull])
		if dropped == 0 {
			t.Fatalf("nothing was dropped: %+v", stats)
		}
		last := -1
		for sent < 400-dropped {
			first, payload, err := slow.read()
			if err != nil || first != text {
				t.Fatalf("after %d messages: frame %x, %v", sent, first, err)
			}
			var n int
			var rest string
			if _, err := fmt.Sscan(payload, &n, &rest); err != nil || n <= last || len(rest) != size {
				t.Fatalf("message %d behind %d has %d bytes, %v", n, last, len(rest), err)
			}
			last = n
			sent++
		}
		slow.write(frame(text, "ping")...)
		slow.want(text, "pong")
	}, func(l *socket.Limits) { l.MaxQueue = 128 << 10 })
}

// TestCompression has a client with permessage-deflate and one without get the
// same messages, the former in fewer bytes.
func TestCompression(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		small := f.clientWith(websocket.CompressionNoContextTakeover)
		taking := f.clientWith(websocket.CompressionContextTakeover)
		plain := f.client()
		for n, c := range []*client{small, taking, plain} {
			c.send(open(n))
			c.next()
		}
		for _, text := range []string{"short", strings.Repeat("long ", 2000), rand.Text() + rand.Text() + rand.Text() + rand.Text() + rand.Text() + rand.Text()} {
			if r := f.push(`{"to":{"all":true},"text":"` + text + `"}`); r.Sent != 3 {
				t.Errorf("a push: %+v", r)
			}
			for _, c := range []*client{small, taking, plain} {
				c.want(text)
			}
		}
		small.send(`{"action":"nothing","ref":1,"text":"` + strings.Repeat("x", 10_000) + `"}`)
		if got := small.next(); !strings.Contains(got, "unknown_action") {
			t.Errorf("got %s", got)
		}
		small.send(strings.Repeat("x", 64<<10+1)) // small as it comes
		small.wantClosed(presence.CloseTooBig)
		plain.send("ping")
		plain.want("pong")
	}, func(l *socket.Limits) { l.Compression = true })
}

func TestCompressionIsOff(t *testing.T) {
	f := overTCP(t)
	_, res := f.rawClient("Sec-WebSocket-Extensions: permessage-deflate\r\n")
	if got := res.Header.Get("Sec-WebSocket-Extensions"); got != "" {
		t.Errorf("agreed on %q", got)
	}
}
