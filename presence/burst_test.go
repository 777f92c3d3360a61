package presence_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// TestBurst has pushes wait behind one that is held up: a connection gets those
// that are meant for it together, in order, and each push its own report.
func TestBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a := f.open(`{"action":"open","id":"a","type":"x"}`)
		b := f.open(`{"action":"open","id":"b","type":"y"}`)
		full := f.open(`{"action":"open","id":"full","type":"y"}`)
		slow := f.open(`{"action":"open","id":"slow","type":"y"}`)
		full.answer, slow.answer = presence.Full, presence.Queued
		held := make(chan struct{})
		a.held = held
		f.push(`{"to":{"ids":["a"]},"text":"0","wait":"0s"}`)
		synctest.Wait() // it is being handed out

		results := make([]presence.PushResult, 4)
		var wg sync.WaitGroup
		for i, body := range []string{
			`{"to":{"all":true},"text":"1","wait":"1s"}`,
			`{"to":{"types":["x"]},"text":"2","wait":"1s"}`,
			`{"to":{"all":true},"except":{"ids":["a"]},"text":"3","wait":"1s"}`,
			`{"to":{"all":true},"text":"4","wait":"1s"}`,
		} {
			wg.Go(func() { results[i] = f.push(body) })
			synctest.Wait()
		}
		close(held)
		wg.Wait()
		f.wantFrames(a, "0", "1", "2", "4")
		f.wantFrames(b, "1", "3", "4")
		for name, c := range map[string]*conn{"a": a, "b": b, "full": full, "slow": slow} {
			if want := []int{3}; !slices.Equal(c.bursts, want) {
				t.Errorf("%s had bursts of %v messages, want %v", name, c.bursts, want)
			}
		}
		for i, want := range []string{"4 2 1 1", "1 1 0 0", "3 1 1 1", "4 2 1 1"} {
			r := results[i]
			if got := fmt.Sprint(r.Matched, r.Sent, r.Dropped, r.Unconfirmed); got != want {
				t.Errorf("push %d: matched, sent, dropped, unconfirmed are %s, want %s", i+1, got, want)
			}
		}
		if n := slow.flush(); n != 3 {
			t.Errorf("%d messages were queued", n)
		}
	})
}

// TestBurstsGather has four who push one broadcast after the other: from the
// second on, all four leave together.
func TestBurstsGather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		const members, pushers, pushes = 40, 4, 5
		var conns []*conn
		for i := range members {
			conns = append(conns, f.open(fmt.Sprintf(`{"action":"open","id":%d}`, i)))
		}
		conns[0].slow = 10 * time.Millisecond
		var wg sync.WaitGroup
		for range pushers {
			wg.Go(func() {
				for range pushes {
					f.push(`{"to":{"all":true},"text":"m"}`)
					time.Sleep(100 * time.Microsecond)
				}
			})
			synctest.Wait() // the first is being handed out, and the others wait
		}
		wg.Wait()
		time.Sleep(time.Second) // no more come
		if want := []int{3, 4, 4, 4, 4}; !slices.Equal(conns[0].bursts, want) {
			t.Errorf("bursts of %v messages, want %v", conns[0].bursts, want)
		}
		for _, c := range conns {
			if got := len(c.take()); got != pushers*pushes {
				t.Fatalf("%d messages came, want %d", got, pushers*pushes)
			}
		}
	})
}
