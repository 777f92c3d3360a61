package redisstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/presence"
	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore"
	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore/redistest"
)

// slow is a hub that takes long to register its connections again.
type slow struct {
	nobody
	asked   chan struct{} // closed when it is asked to
	release chan struct{} // closed when it may go on
}

func (slow) EachOpen(fn func(presence.UserID, uint64)) { fn("ann", 1) }

func (s slow) Assert(ctx context.Context, _ func(presence.UserID) bool, _ bool) (int, error) {
	select {
	case <-s.asked:
	default:
		close(s.asked)
	}
	select {
	case <-s.release:
	case <-ctx.Done():
	}
	return 0, ctx.Err()
}

// TestLeaseWhileRegistering renews the lease while connections are registered
// again, however long that takes.
func TestLeaseWhileRegistering(t *testing.T) {
	server := redistest.Start(t)
	s := open(t, redisstore.Config{URLs: []string{server.URL()}, Lease: time.Second, Prefix: "slow"})
	hub := slow{asked: make(chan struct{}), release: make(chan struct{})}
	s.Join("default", hub)
	t.Cleanup(func() { _ = s.Shutdown(context.Background()) })
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-hub.asked
	client := server.Client()
	lease := func() float64 { return client.ZScore(t.Context(), "slow:{g}:nodes", string(s.Node())).Val() }
	before := lease()
	const beats = 3
	for n, until := 0, time.Now().Add(10*time.Second); n < beats; {
		if now := lease(); now > before {
			before = now
			n++
		}
		if time.Now().After(until) {
			t.Fatalf("the lease was renewed %d times, want %d", n, beats)
		}
		time.Sleep(5 * time.Millisecond) // between two looks at a condition
	}
	close(hub.release)
}
