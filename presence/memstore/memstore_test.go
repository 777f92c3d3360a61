package memstore_test

import (
	"testing"

	"github.com/seed-57c14f3c/caddy-presence/presence"
	"github.com/seed-57c14f3c/caddy-presence/presence/memstore"
	"github.com/seed-57c14f3c/caddy-presence/presence/storetest"
)

func TestContract(t *testing.T) {
	storetest.Run(t, func(*testing.T) presence.Store { return memstore.New() })
}
