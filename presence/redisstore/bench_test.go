package redisstore_test

import (
	"fmt"
	"testing"

	"github.com/seed-57c14f3c/caddy-presence/presence"
	"github.com/seed-57c14f3c/caddy-presence/presence/memstore"
	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore"
	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore/redistest"
)

// onEachStore runs a benchmark on a store in memory and on one in Redis, over
// its unix socket.
func onEachStore(b *testing.B, bench func(b *testing.B, s presence.Store)) {
	server := redistest.Start(b)
	stores := map[string]presence.Store{
		"memory": memstore.New(),
		"redis":  open(b, redisstore.Config{URLs: []string{"unix://" + server.Socket}}),
	}
	for name, s := range stores {
		b.Run(name, func(b *testing.B) { bench(b, s) })
		_ = s.Shutdown(b.Context())
	}
}

func request(s presence.Store, n int) presence.OpenRequest {
	id := fmt.Sprint(n)
	return presence.OpenRequest{
		Hub: "default", Conn: presence.ConnID{Node: s.Node(), Num: uint64(n)}, Max: 1,
		Member: &presence.Member{
			ID: presence.UserID(id), Type: "driver",
			JSON: []byte(`{"id":` + id + `,"type":"driver","name":"User Name","phone":"+861380000000"}`),
		},
	}
}

func BenchmarkOpen(b *testing.B) {
	onEachStore(b, func(b *testing.B, s presence.Store) {
		n := 0
		b.ReportAllocs()
		for b.Loop() {
			n++
			if _, err := s.Open(b.Context(), request(s, n)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	onEachStore(b, func(b *testing.B, s presence.Store) {
		for n := range 10_000 {
			if _, err := s.Open(b.Context(), request(s, n)); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportAllocs()
		for b.Loop() {
			if users, err := s.Lookup(b.Context(), "default", []presence.UserID{"7"}); err != nil || len(users) != 1 {
				b.Fatal(users, err)
			}
		}
	})
}
