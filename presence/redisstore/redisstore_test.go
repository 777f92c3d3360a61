package redisstore_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/seed-57c14f3c/caddy-presence/presence"
	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore"
	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore/redistest"
	"github.com/seed-57c14f3c/caddy-presence/presence/storetest"
)

var lastPrefix atomic.Int64

// open makes a store with a prefix of its own.
func open(t testing.TB, cfg redisstore.Config) *redisstore.Store {
	t.Helper()
	if cfg.Prefix == "" {
		cfg.Prefix = fmt.Sprintf("test%d", lastPrefix.Add(1))
	}
	s, err := redisstore.New(cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestContract(t *testing.T) {
	server := redistest.Start(t)
	storetest.Run(t, func(t *testing.T) presence.Store {
		return open(t, redisstore.Config{URLs: []string{server.URL()}})
	})
}

// TestContractOnCluster is the contract on three masters.
func TestContractOnCluster(t *testing.T) {
	var urls []string
	for _, s := range redistest.StartCluster(t, 3) {
		urls = append(urls, s.URL())
	}
	storetest.Run(t, func(t *testing.T) presence.Store {
		return open(t, redisstore.Config{URLs: urls})
	})
}

// TestSentinel loses the master: the replica takes its place, and nobody is lost.
func TestSentinel(t *testing.T) {
	master, _, sentinel := redistest.StartSentinel(t)
	s := open(t, redisstore.Config{URLs: []string{sentinel.URL()}, MasterName: redistest.MasterName})
	t.Cleanup(func() { _ = s.Shutdown(context.Background()) })
	member := &presence.Member{ID: "7", JSON: []byte(`{"id":7}`)}
	req := presence.OpenRequest{Hub: "default", Conn: presence.ConnID{Node: s.Node(), Num: 1}, Member: member, Max: 1}
	if _, err := s.Open(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	master.Client().Do(t.Context(), "WAIT", 1, 5000) // the replica has it
	master.Kill()
	var err error
	for until := time.Now().Add(20 * time.Second); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		var users []presence.User
		if users, err = s.Lookup(t.Context(), "default", []presence.UserID{"7"}); err == nil && len(users) == 1 {
			req.Conn.Num, req.Member = 2, &presence.Member{ID: "8", JSON: []byte(`{"id":8}`)}
			if _, err = s.Open(t.Context(), req); err == nil {
				return
			}
		}
	}
	t.Errorf("after the failover: %v", err)
}

// TestLeastRights is the contract with the rights that docs/redis.md gives, and no
// call refused.
func TestLeastRights(t *testing.T) {
	text, err := os.ReadFile("../../docs/redis.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rule, _ := strings.Cut(string(text), "```acl\nuser presence ")
	rule, _, ok := strings.Cut(rule, "\n")
	if !ok {
		t.Fatal("docs/redis.md has no rule")
	}
	rule = strings.ReplaceAll(rule, "~presence:*", "~test*")
	server := redistest.Start(t)
	args := []any{"ACL", "SETUSER", "presence"}
	for _, word := range strings.Fields(rule) {
		args = append(args, word)
	}
	if err := server.Client().Do(t.Context(), args...).Err(); err != nil {
		t.Fatal(err)
	}
	storetest.Run(t, func(t *testing.T) presence.Store {
		return open(t, redisstore.Config{
			URLs: []string{server.URL()}, Username: "presence", Password: "secret", Lease: time.Second,
		})
	})
	// A node dies, and another takes its members out.
	cfg := redisstore.Config{URLs: []string{server.URL()}, Username: "presence", Password: "secret", Lease: time.Second, Prefix: "testdead"}
	a, b := open(t, cfg), open(t, cfg)
	t.Cleanup(func() { _ = b.Shutdown(context.Background()) })
	a.Join("default", nobody{})
	req := presence.OpenRequest{Hub: "default", Conn: presence.ConnID{Node: a.Node(), Num: 1}, Member: &presence.Member{ID: "7", JSON: []byte(`{}`)}, Max: 1}
	if _, err := a.Open(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	select {
	case answer := <-b.Ask("default", a.Node(), []byte("x"), time.Now().Add(5*time.Second)):
		if answer.Err != nil || string(answer.Data) != "nobody" {
			t.Errorf("asking the other node: %q, %v", answer.Data, answer.Err)
		}
	case <-time.After(10 * time.Second):
		t.Error("asking the other node: no answer")
	}
	server.Client().ZAdd(t.Context(), "testdead:{g}:nodes", redis.Z{Score: 1, Member: "deadnode"})
	gone := func() bool {
		c := server.Client()
		return c.ZScore(t.Context(), "testdead:{g}:nodes", "deadnode").Err() == redis.Nil && c.HLen(t.Context(), "testdead:{g}:dead").Val() == 0
	}
	for until := time.Now().Add(20 * time.Second); !gone(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("a dead node is not taken out")
		}
	}
	log, err := server.Client().Do(t.Context(), "ACL", "LOG").Slice()
	if err != nil || len(log) > 0 {
		t.Errorf("redis has refused %v, %v", log, err)
	}
	_ = a.Shutdown(context.Background())
}

// nobody is a hub without connections.
type nobody struct{}

func (nobody) EachOpen(func(presence.UserID, uint64)) {}

func (nobody) Has(presence.UserID, uint64) bool { return false }

func (nobody) Assert(context.Context, func(presence.UserID) bool, bool) (int, error) { return 0, nil }

func (nobody) Resync() {}

func (nobody) Asked(_ []byte, answer func([]byte)) { answer([]byte("nobody")) }
