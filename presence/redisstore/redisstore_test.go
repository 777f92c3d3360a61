package redisstore_test

import (
	"fmt"
	"sync/atomic"
	"testing"

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
