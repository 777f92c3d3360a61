package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// outage tells the log when Redis goes away and when it is back, not each call
// that fails meanwhile.
type outage struct {
	log *zap.Logger

	mu     sync.Mutex // guards the fields below
	down   bool
	failed int       // calls since the beginning
	told   time.Time // when the beginning of an outage was logged last

	toldRefused time.Time // when a refusal was logged last
}

// isOpen reports whether calls should not even be tried.
func (o *outage) isOpen() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.down && o.failed >= breakAfter
}

// quiet is how far apart the log lines of a Redis that comes and goes are.
const quiet = 10 * time.Second

func (o *outage) failure(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failed++
	if o.down {
		return
	}
	o.down = true
	if time.Since(o.told) >= quiet {
		o.told = time.Now()
		o.log.Error("redis does not answer: members of other nodes are not seen until it does", zap.Error(err))
	}
}

// refused tells the log that Redis answers and will not: trying again does not help.
func (o *outage) refused(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if time.Since(o.toldRefused) >= quiet {
		o.toldRefused = time.Now()
		o.log.Error("redis refuses a call", zap.Error(err))
	}
}

func (o *outage) success() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.down {
		return
	}
	o.down = false
	o.log.Info("redis answers again", zap.Int("failed_calls", o.failed))
	o.failed = 0
}

// transient are the beginnings of errors that Redis answers while it is, for a
// while, not able to serve.
var transient = []string{"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "OOM", "MISCONF", "NOREPLICAS"}

// result says what the error of a call means, and keeps the outage's account.
func (s *Store) result(ctx context.Context, doing string, err error) error {
	if err == nil || errors.Is(err, redis.Nil) {
		s.outage.success()
		return nil
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	var answered redis.Error
	if errors.As(err, &answered) && !hasAnyPrefix(err.Error(), transient) {
		err = fmt.Errorf("%s: redis at %s refuses: %w", doing, s.address, err)
		s.outage.refused(err)
		return err
	}
	err = fmt.Errorf("%w: %s at %s: %w", presence.ErrStoreUnavailable, doing, s.address, err)
	s.outage.failure(err)
	return err
}

func hasAnyPrefix(s string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}
