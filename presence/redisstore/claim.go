package redisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// The value of an idempotency key is the digest of the push, then pending and the
// mark of the call that claimed it, or done and the result.
const (
	pending = "\n-"
	done    = "\n+"
)

// Claim implements presence.Store.
func (s *Store) Claim(ctx context.Context, hub, key, digest string, ttl time.Duration) (presence.Claim, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	mine := digest + pending + rand.Text()
	old := ""
	err := again(ctx, func() (err error) {
		old, err = s.client.SetArgs(ctx, s.claimKey(hub, key), mine, redis.SetArgs{
			Mode: "NX", Get: true, TTL: ttl,
		}).Result()
		return err
	})
	// It is ours too if it was claimed, and only the answer was lost: otherwise
	// the push could not be made before the claim is over.
	if errors.Is(err, redis.Nil) || err == nil && old == mine {
		s.outage.success()
		return presence.Claim{State: presence.ClaimNew}, nil
	}
	if err := s.result(ctx, "claiming a push id", err); err != nil {
		return presence.Claim{}, err
	}
	rest, same := strings.CutPrefix(old, digest)
	result, settled := strings.CutPrefix(rest, done)
	switch {
	case !same:
		return presence.Claim{State: presence.ClaimConflict}, nil
	case !settled:
		return presence.Claim{State: presence.ClaimPending}, nil
	}
	return presence.Claim{State: presence.ClaimDone, Result: []byte(result)}, nil
}

// Settle implements presence.Store.
func (s *Store) Settle(ctx context.Context, hub, key, digest string, result []byte, ttl time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	value := ""
	if result != nil {
		value = digest + done + string(result)
	}
	err := again(ctx, func() error {
		return settleScript.Run(ctx, s.client, []string{s.claimKey(hub, key)}, digest, value, ttl.Milliseconds()).Err()
	})
	if err := s.result(ctx, "keeping a push's result", err); err != nil {
		return fmt.Errorf("push %q: %w", key, err)
	}
	return nil
}
