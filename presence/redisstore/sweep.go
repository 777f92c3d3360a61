package redisstore

import (
	"context"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// sweepInterval is how often lingering users are looked through; until then
	// one whose time is over is passed over when it is read.
	sweepInterval = time.Second

	// sweepBatch is how many users one call forgets.
	sweepBatch = 100
)

// sweep forgets lingering users whose time is over, until ctx ends. All nodes
// do, each a part of the time; it takes only one.
func (s *Store) sweep(ctx context.Context) {
	for {
		// Jitter, so that nodes do not ask all at once.
		pause := sweepInterval/2 + rand.N(sweepInterval/2)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		s.hubs.Range(func(hub, _ any) bool {
			return s.expire(ctx, hub.(string)) == nil
		})
	}
}

// expire forgets the lingering users of a hub whose time is over.
func (s *Store) expire(ctx context.Context, hub string) error {
	due, err := s.due(ctx, hub)
	if err != nil {
		return err
	}
	for _, p := range due {
		callCtx, cancel := context.WithTimeout(ctx, s.timeout)
		_, err := s.run(callCtx, expireScript, s.keys(hub, p), s.notAfter(), sweepBatch)
		err = s.result(callCtx, "forgetting members", err)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// due returns the partitions in which a user's time is over: of lingering, or of
// being kept for.
func (s *Store) due(ctx context.Context, hub string) ([]int, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if err := s.learnTime(ctx); err != nil {
		return nil, err
	}
	now := s.clock.now()
	pipe := s.client.Pipeline()
	var lingering, resuming [partitions]*redis.IntCmd
	for p := range partitions {
		lingering[p] = pipe.ZCount(ctx, s.key(hub, p, "g"), "-inf", strconv.FormatInt(now, 10))
		resuming[p] = pipe.ZCount(ctx, s.key(hub, p, "r"), "-inf", strconv.FormatInt(now, 10))
	}
	_, err := pipe.Exec(ctx)
	if err := s.result(ctx, "looking for lingering members", err); err != nil {
		return nil, err
	}
	var due []int
	for p := range partitions {
		if lingering[p].Val() > 0 || resuming[p].Val() > 0 {
			due = append(due, p)
		}
	}
	return due, nil
}
