package socket_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"

	"github.com/seed-57c14f3c/caddy-presence/presence/socket"
)

// stress multiplies what the tests below do; STRESS=1 makes it a million frames
// and a hundred thousand connections.
func stress(few, many int) int {
	if os.Getenv("STRESS") != "" {
		return many
	}
	return few
}

// TestInterleaving has several push at once to clients that send pings, fragments
// and pieces of frames meanwhile, while others come and are cut off: who stays
// gets every message whole, once, and in the order of its pusher.
func TestInterleaving(t *testing.T) {
	everywhere(t, func(t *testing.T, f *fixture) {
		const clients, pushers = 40, 4
		messages := stress(100, 1600)
		var readers, rest sync.WaitGroup
		for n := range clients {
			c, _ := f.rawClient("", frame(text, open(n))...)
			_, _, _ = c.read()
			rest.Go(func() { pester(c, messages) })
			readers.Go(func() { c.wantSequences(t, pushers, messages) })
		}
		for n := range 3 {
			c := f.clientWith(websocket.CompressionNoContextTakeover)
			c.send(open(clients + n))
			c.next()
			readers.Go(func() { c.wantSequences(t, pushers, messages) })
		}
		ctx, stop := context.WithCancel(t.Context())
		for n := range 2 {
			rest.Go(func() { f.cutOff(ctx, 1000+n) })
		}
		var pushing sync.WaitGroup
		for p := range pushers {
			pushing.Go(func() {
				for n := range messages {
					f.push(fmt.Sprintf(`{"to":{"all":true},"text":"m%d.%d %s"}`, p, n, strings.Repeat("x", rand.IntN(3000))))
				}
			})
		}
		pushing.Wait()
		readers.Wait()
		stop()
		rest.Wait()
	}, func(l *socket.Limits) { l.Compression, l.MaxQueue = true, 64<<20 })
}

// cutOff connects as a user, with its first frame behind the handshake, reads a
// few messages, and hangs up in the middle of a frame, again and again.
func (f *fixture) cutOff(ctx context.Context, n int) {
	for ctx.Err() == nil {
		c, _ := f.passing("", frame(text, open(n))...)
		hangUp := context.AfterFunc(ctx, func() { _ = c.Conn.Close() })
		for range rand.IntN(5) {
			if _, _, err := c.read(); err != nil {
				break
			}
		}
		data := frame(part, open(n))
		_, _ = c.Conn.Write(data[:rand.IntN(len(data))])
		_ = c.Conn.Close()
		hangUp()
	}
}

// pester sends pings and text pings in random pieces.
func pester(c *raw, n int) {
	for range n {
		data := frame(ping, "p")
		if rand.IntN(2) == 0 {
			data = append(frame(part, "pi"), append(frame(ping, "p"), frame(cont, "ng")...)...)
		}
		for len(data) > 0 {
			k := 1 + rand.IntN(len(data))
			if _, err := c.Conn.Write(data[:k]); err != nil {
				return
			}
			data = data[k:]
		}
	}
}

// sequences checks the messages of several pushers.
type sequences struct {
	next []int
	left int
}

func newSequences(pushers, messages int) *sequences {
	return &sequences{make([]int, pushers), pushers * messages}
}

func (s *sequences) take(message string) error {
	var pusher, n int
	if _, err := fmt.Sscanf(message, "m%d.%d ", &pusher, &n); err != nil || pusher >= len(s.next) {
		return fmt.Errorf("not a message: %.40q", message)
	}
	if _, padding, _ := strings.Cut(message, " "); strings.Trim(padding, "x") != "" {
		return fmt.Errorf("message %d.%d is not whole", pusher, n)
	}
	if n != s.next[pusher] {
		return fmt.Errorf("message %d of pusher %d came, want %d", n, pusher, s.next[pusher])
	}
	s.next[pusher]++
	s.left--
	return nil
}

func (c *raw) wantSequences(t *testing.T, pushers, messages int) {
	s := newSequences(pushers, messages)
	for s.left > 0 {
		first, payload, err := c.read()
		switch {
		case err != nil:
		case first == pong && payload == "p", first == text && payload == "pong":
			continue
		case first != text:
			err = fmt.Errorf("frame %x %.40q", first, payload)
		default:
			err = s.take(payload)
		}
		if err != nil {
			t.Errorf("with %d messages to come: %v", s.left, err)
			return
		}
	}
}

func (c *client) wantSequences(t *testing.T, pushers, messages int) {
	s := newSequences(pushers, messages)
	for s.left > 0 {
		select {
		case frame := <-c.frames:
			if err := s.take(frame); err != nil {
				t.Errorf("with %d messages to come: %v", s.left, err)
				return
			}
		case <-c.ended:
			t.Errorf("with %d messages to come: %v", s.left, c.err)
			return
		}
	}
}

// TestComeAndGo looks for connections, goroutines, descriptors and memory that
// are left over when many connections have come and gone.
func TestComeAndGo(t *testing.T) {
	f := overTCP(t)
	comeAndGo(f, 50) // what is made once is there
	before := measure()
	comeAndGo(f, stress(2000, 100_000))
	if s := f.hub.Stats(); s.Members != 0 {
		t.Errorf("stats: %+v", s)
	}
	after := measure()
	f.eventually("the goroutines are gone", func() bool { return runtime.NumGoroutine() <= before.goroutines+4 })
	f.eventually("the descriptors are closed", func() bool { return measure().descriptors <= before.descriptors+4 })
	if most := before.heap + 4<<20; after.heap > most {
		t.Errorf("the heap has %d bytes, %d before", after.heap, before.heap)
	}
	t.Logf("before %+v, after %+v", before, after)
}

func comeAndGo(f *fixture, conns int) {
	const workers = 8
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for n := range conns / workers {
				c, _ := f.passing("", frame(text, open(w))...)
				_, _, _ = c.read()
				if n%3 == 0 {
					_, _ = c.Conn.Write(frame(done, "\x03\xe8"))
				}
				_ = c.Conn.Close()
			}
		})
	}
	wg.Wait()
	f.eventually("all are gone", func() bool { return f.hub.Connections() == 0 })
}

type used struct {
	goroutines, descriptors int
	heap                    uint64
}

// measure counts what the process uses; other systems than Linux have no count of
// descriptors.
func measure() used {
	runtime.GC()
	runtime.GC() // finalizers have run
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fds, _ := os.ReadDir("/proc/self/fd")
	return used{runtime.NumGoroutine(), len(fds), m.HeapAlloc}
}
