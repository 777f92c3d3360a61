package socket_test

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/seed-57c14f3c/caddy-presence/presence"
	"github.com/seed-57c14f3c/caddy-presence/presence/socket"
)

// within checks that fake time has passed: at least d, and at most a tenth and
// a second more, which is what the sweep takes.
func within(t *testing.T, began time.Time, d time.Duration) {
	t.Helper()
	if took := time.Since(began); took < d || took > d+d/10+time.Second {
		t.Errorf("after %v, want %v", took, d)
	}
}

func TestDeadLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := inMemory(t)
		began := time.Now()
		c, _ := f.rawClient("", frame(text, open(7))...)
		_, _, _ = c.read()
		c.want(ping, "")
		within(t, began, 25*time.Second)
		c.wantClosed(presence.CloseNoLife)
		within(t, began, 35*time.Second)
		c.wantEnd()
		f.eventually("the user is offline", func() bool { return f.state("7") == "offline" })
	})
}

// TestFrozenPage answers pings, as a browser does for a page that is frozen.
func TestFrozenPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := inMemory(t)
		began := time.Now()
		c := f.online(7)
		c.wantClosed(presence.CloseNoLife)
		within(t, began, 130*time.Second)
	})
}

func TestBeat(t *testing.T) {
	for beat, want := range map[string]time.Duration{"10": 30 * time.Second, "60": 180 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			f := inMemory(t)
			c := f.client()
			began := time.Now()
			c.send(`{"action":"open","id":7,"beat":` + beat + `}`)
			c.wantClosed(presence.CloseNoLife)
			within(t, began, want)
		})
	}
	synctest.Test(t, func(t *testing.T) {
		f := inMemory(t)
		c := f.client()
		c.send(`{"action":"open","id":7,"beat":0}`)
		time.Sleep(time.Hour) // of fake time: it only listens, and is let be
		f.push(`{"to":{"ids":[7]},"text":"still there"}`)
		c.want("still there")
	})
}

// TestBeating is a client whose library does not answer protocol pings, but
// which says ping every minute: it stays.
func TestBeating(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := inMemory(t)
		c, _ := f.rawClient("", append(frame(text, open(7)), frame(text, "ping")...)...)
		pongs := 0
		var beats sync.WaitGroup
		defer beats.Wait()
		beats.Go(func() {
			for range 10 {
				time.Sleep(time.Minute)
				_, _ = c.Conn.Write(frame(text, "ping"))
			}
		})
		for pongs < 11 {
			first, payload, err := c.read()
			if err != nil || first == done {
				t.Fatalf("after %d pongs: frame %x, %v", pongs, first, err)
			}
			if first == text && payload == "pong" {
				pongs++
			}
		}
	})
}

func TestNotOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := inMemory(t)
		began := time.Now()
		c := f.client()
		c.wantClosed(presence.CloseNotOpened)
		within(t, began, time.Minute)
	})
}

func TestSlowConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := inMemory(t, func(l *socket.Limits) { l.MaxQueue = 64 << 10 })
		c, _ := f.rawClient("", frame(text, open(7))...)
		_, _, _ = c.read()
		began := time.Now()
		for range 100 { // nobody reads: in memory, nothing is buffered below the queue
			f.push(`{"to":{"all":true},"text":"` + longText + `","wait":"0s"}`)
		}
		synctest.Wait()
		f.eventually("it is closed", func() bool { return f.hub.Connections() == 0 || time.Since(began) > 9*time.Second })
		time.Sleep(4 * time.Second)
		if n := f.hub.Connections(); n != 0 {
			t.Errorf("after %v the connection is still there", time.Since(began))
		}
		if n := f.hub.Stats().Closed[presence.CloseSlowConsumer]; n != 1 {
			t.Errorf("closed: %v", f.hub.Stats().Closed)
		}
	})
}

var longText = strings.Repeat("x", 4000)

func TestTooFast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := inMemory(t, func(l *socket.Limits) { l.Rate, l.Burst, l.OpenTimeout = 20, 40, 0 })
		c := f.client()
		for range 41 {
			c.send(`{"action":"x","ref":1}`)
		}
		for range 40 {
			if got := c.next(); code(t, got) != "unknown_action" {
				t.Fatalf("within the burst: %s", got)
			}
		}
		if got := c.next(); code(t, got) != "too_fast" {
			t.Fatalf("over the burst: %s", got)
		}
		time.Sleep(time.Second)
		for range 19 {
			c.send(`{"action":"x","ref":1}`)
			if got := c.next(); code(t, got) != "unknown_action" {
				t.Fatalf("a second later: %s", got)
			}
		}
		// A heartbeat is not counted.
		time.Sleep(10 * time.Second)
		for range 100 {
			time.Sleep(600 * time.Millisecond)
			c.send("ping")
			c.want("pong")
		}
		began := time.Now()
		var writer sync.WaitGroup
		defer writer.Wait()
		writer.Go(func() {
			for time.Since(began) < time.Minute {
				if c.ws.Write(t.Context(), websocket.MessageText, []byte(`{"action":"x"}`)) != nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
		c.wantClosed(presence.CloseTooFast)
		within(t, began, 10*time.Second)
	})
}

func code(t *testing.T, frame string) string {
	t.Helper()
	var f struct{ Code string }
	unmarshal(t, frame, &f)
	return f.Code
}

// TestConfigure gives limits to connections that are there.
func TestConfigure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := inMemory(t)
		c := f.online(7)
		l := defaults()
		l.IdleTimeout = 20 * time.Second
		f.server.Configure(l)
		began := time.Now()
		c.wantClosed(presence.CloseNoLife)
		within(t, began, 20*time.Second)
	})
}

func TestExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := inMemory(t)
		f.expires = time.Now().Add(20 * time.Second)
		began := time.Now()
		c := f.online(7)
		c.wantClosed(presence.CloseIDExpired)
		within(t, began, 20*time.Second)
		f.eventually("the user lingers", func() bool { return f.state("7") == "lingering" })
	})
}

func TestIdentity(t *testing.T) {
	f := overTCP(t)
	f.identity = "ann"
	c := f.client()
	c.send(open("bob"))
	if got := c.next(); code(t, got) != "identity_mismatch" {
		t.Errorf("as somebody else: %s", got)
	}
	c.send(`{"action":"open","type":"driver","ref":1}`)
	c.next()
	users, err := f.store.Lookup(t.Context(), "default", []presence.UserID{"ann", "bob"})
	if err != nil || len(users) != 1 || string(users[0].Member.JSON) != `{"type":"driver","id":"ann"}` {
		t.Errorf("without an id: %+v, %v", users, err)
	}
	c.send(open("ann"))
	if got := c.next(); !strings.Contains(got, `"ok":true`) {
		t.Errorf("as oneself: %s", got)
	}
}
