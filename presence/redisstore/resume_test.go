package redisstore_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/presence"
	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore"
	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore/redistest"
)

var keeping = presence.Keeping{Window: 2 * time.Minute, Messages: 100}

// TestResumeAfterLoss empties Redis: what was kept is lost, and who resumes is told.
func TestResumeAfterLoss(t *testing.T) {
	server := redistest.Start(t)
	s := open(t, redisstore.Config{URLs: []string{server.URL()}})
	t.Cleanup(func() { _ = s.Shutdown(context.Background()) })
	before, err := s.Recover(t.Context(), "default", "7", presence.Offset{}, keeping)
	if err != nil {
		t.Fatal(err)
	}
	req := presence.KeepRequest{Hub: "default", Body: []byte("x"), Keeping: keeping}
	for range 3 {
		if users, err := s.Keep(t.Context(), []presence.UserID{"7"}, req); err != nil || len(users) != 1 {
			t.Fatal(users, err)
		}
	}
	if err := server.Client().FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	after, err := s.Recover(t.Context(), "default", "7", before.Now, keeping)
	if err != nil || after.Complete || len(after.User) > 0 {
		t.Errorf("after the loss: got %+v, %v", after, err)
	}
	if r, err := s.Recover(t.Context(), "default", "7", after.Now, keeping); err != nil || !r.Complete {
		t.Errorf("from then on: got %+v, %v", r, err)
	}
}

// BenchmarkKeep is one push to one user, who resumes or does not.
func BenchmarkKeep(b *testing.B) {
	for _, resumes := range []bool{false, true} {
		b.Run(fmt.Sprintf("resumes %v", resumes), func(b *testing.B) {
			onEachStore(b, func(b *testing.B, s presence.Store) {
				if _, err := s.Open(b.Context(), request(s, 7)); err != nil {
					b.Fatal(err)
				}
				if resumes {
					if _, err := s.Recover(b.Context(), "default", "7", presence.Offset{}, keeping); err != nil {
						b.Fatal(err)
					}
				}
				req := presence.KeepRequest{Hub: "default", Body: bytes.Repeat([]byte("x"), 200), Keeping: keeping}
				b.ReportAllocs()
				for b.Loop() {
					if users, err := s.Keep(b.Context(), []presence.UserID{"7"}, req); err != nil || len(users) != 1 {
						b.Fatal(users, err)
					}
				}
			})
		})
	}
}

// BenchmarkKeptBytes reports what Redis needs for the messages of one user, of 200
// bytes each.
func BenchmarkKeptBytes(b *testing.B) {
	server := redistest.Start(b)
	for _, n := range []int{1, 10, 50} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := open(b, redisstore.Config{URLs: []string{server.URL()}, Prefix: fmt.Sprint("kept", n)})
			defer func() { _ = s.Shutdown(context.Background()) }()
			req := presence.KeepRequest{Hub: "default", Body: bytes.Repeat([]byte("x"), 200), Keeping: keeping}
			for b.Loop() {
				server.Client().FlushAll(b.Context())
				if _, err := s.Recover(b.Context(), "default", "7", presence.Offset{}, keeping); err != nil {
					b.Fatal(err)
				}
				for range n {
					if _, err := s.Keep(b.Context(), []presence.UserID{"7"}, req); err != nil {
						b.Fatal(err)
					}
				}
			}
			keys, err := server.Client().Keys(b.Context(), "*:q:7").Result()
			if err != nil || len(keys) != 1 {
				b.Fatal(keys, err)
			}
			b.ReportMetric(float64(server.Client().MemoryUsage(b.Context(), keys[0]).Val()), "bytes/user")
		})
	}
}
