package redisstore

import (
	"context"
	"errors"
	"net"

	"github.com/redis/go-redis/v9"
)

// breakAfter is after how many calls in a row that failed the others are no longer
// tried: a Redis that does not answer would hold each of them up, and when it is
// back would have them all at once.
const breakAfter = 3

// breaker refuses calls while Redis is away, but for those that look whether it is
// back.
type breaker struct{ outage *outage }

var errBroken = errors.New("redis does not answer at the moment, and is not asked")

// probing marks the calls that look whether Redis is back.
type probing struct{}

func probe(ctx context.Context) context.Context { return context.WithValue(ctx, probing{}, true) }

func (b *breaker) check(ctx context.Context) error {
	if b.outage.isOpen() && ctx.Value(probing{}) == nil {
		return errBroken
	}
	return nil
}

// DialHook implements redis.Hook.
func (b *breaker) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

// ProcessHook implements redis.Hook.
func (b *breaker) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if err := b.check(ctx); err != nil {
			cmd.SetErr(err)
			return err
		}
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook implements redis.Hook.
func (b *breaker) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if err := b.check(ctx); err != nil {
			for _, cmd := range cmds {
				cmd.SetErr(err)
			}
			return err
		}
		return next(ctx, cmds)
	}
}
