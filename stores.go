package caddypresence

import (
	"context"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddyconf "github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/seed-57c14f3c/caddy-presence/caddyfile"
	"github.com/seed-57c14f3c/caddy-presence/presence"
	"github.com/seed-57c14f3c/caddy-presence/presence/memstore"
)

// StoreModule is a module in the namespace presence.stores.
type StoreModule interface {
	caddy.Module

	// Key stands for the module's settings, placeholders resolved:
	// configurations whose stores have the same key share one.
	Key() string

	// OpenStore makes the store, without any network I/O. It is called once for
	// all configurations with the same key. The logger outlives them.
	OpenStore(log *zap.Logger) (presence.Store, error)
}

// stores are the stores of this process by their keys. They outlive
// configurations, as the hubs do.
var stores = caddy.NewUsagePool()

// liveStore is a store that is used by one or more configurations.
type liveStore struct {
	presence.Store
	key string
}

// useStore returns the store with the module's settings; release gives it back.
func useStore(m StoreModule) (*liveStore, error) {
	key := m.Key()
	v, _, err := stores.LoadOrNew(key, func() (caddy.Destructor, error) {
		s, err := m.OpenStore(defaultLog("presence.store"))
		if err != nil {
			return nil, err
		}
		return &liveStore{Store: s, key: key}, nil
	})
	if err != nil {
		return nil, fmt.Errorf("setting up the store: %w", err)
	}
	return v.(*liveStore), nil
}

// retain counts one more user of the store.
func (s *liveStore) retain() {
	_, _ = stores.LoadOrStore(s.key, s)
}

func (s *liveStore) release() error {
	_, err := stores.Delete(s.key)
	return err
}

// Destruct ends the store when nobody uses it any more.
func (s *liveStore) Destruct() error {
	const limit = 5 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return s.Shutdown(ctx)
}

// MemoryStore keeps presence in this process. It needs nothing, and knows
// nothing of other nodes.
type MemoryStore struct{}

// CaddyModule returns the Caddy module information.
func (MemoryStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "presence.stores.memory", New: func() caddy.Module { return new(MemoryStore) }}
}

// Key implements StoreModule.
func (*MemoryStore) Key() string { return "memory" }

// OpenStore implements StoreModule.
func (*MemoryStore) OpenStore(*zap.Logger) (presence.Store, error) { return memstore.New(), nil }

// UnmarshalCaddyfile reads: memory
func (*MemoryStore) UnmarshalCaddyfile(d *caddyconf.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.ArgErr()
	}
	return caddyfile.Block{}.Read(d)
}

var (
	_ StoreModule           = (*MemoryStore)(nil)
	_ caddyconf.Unmarshaler = (*MemoryStore)(nil)
)
