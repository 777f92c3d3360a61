package memstore

import (
	"context"
	"sync"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// claims are the idempotency keys of pushes.
type claims struct {
	mu   sync.Mutex // guards the field below
	keys map[claimKey]*claim
}

type claimKey struct{ hub, key string }

type claim struct {
	digest string
	done   bool
	result []byte
	until  time.Time
}

// Claim implements presence.Store.
func (s *Store) Claim(ctx context.Context, hub, key, digest string, ttl time.Duration) (presence.Claim, error) {
	if err := ctx.Err(); err != nil {
		return presence.Claim{}, err
	}
	c := &s.claims
	c.mu.Lock()
	defer c.mu.Unlock()
	now, k := time.Now(), claimKey{hub, key}
	if old := c.keys[k]; old != nil && now.Before(old.until) {
		switch {
		case old.digest != digest:
			return presence.Claim{State: presence.ClaimConflict}, nil
		case !old.done:
			return presence.Claim{State: presence.ClaimPending}, nil
		}
		return presence.Claim{State: presence.ClaimDone, Result: old.result}, nil
	}
	if c.keys == nil {
		c.keys = make(map[claimKey]*claim)
	}
	c.keys[k] = &claim{digest: digest, until: now.Add(ttl)}
	return presence.Claim{State: presence.ClaimNew}, nil
}

// Settle implements presence.Store.
func (s *Store) Settle(_ context.Context, hub, key, digest string, result []byte, ttl time.Duration) error {
	c := &s.claims
	c.mu.Lock()
	defer c.mu.Unlock()
	k := claimKey{hub, key}
	old := c.keys[k]
	switch {
	case old == nil || old.digest != digest:
	case result == nil:
		delete(c.keys, k)
	default:
		old.done, old.result, old.until = true, result, time.Now().Add(ttl)
	}
	return nil
}

// sweep forgets the keys whose time is over.
func (c *claims) sweep(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, claim := range c.keys {
		if !now.Before(claim.until) {
			delete(c.keys, k)
		}
	}
}
