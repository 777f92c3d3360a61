package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// The value of an idempotency key is the digest of the push, then pending or
// done and the result.
const (
	pending = "\n-"
	done    = "\n+"
)

// Claim implements presence.Store.
func (s *Store) Claim(ctx context.Context, hub, key, digest string, ttl time.Duration) (presence.Claim, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	old, err := s.client.SetArgs(ctx, s.claimKey(hub, key), digest+pending, redis.SetArgs{
		Mode: "NX", Get: true, TTL: ttl,
	}).Result()
	if errors.Is(err, redis.Nil) {
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
	err := settleScript.Run(ctx, s.client, []string{s.claimKey(hub, key)}, digest, value, ttl.Milliseconds()).Err()
	if err := s.result(ctx, "keeping a push's result", err); err != nil {
		return fmt.Errorf("push %q: %w", key, err)
	}
	return nil
}
