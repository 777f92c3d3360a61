package redisstore

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

// topologyInterval is how often a Cluster is asked which server has which slots;
// go-redis does every minute, and when it is told of a move.
const topologyInterval = 5 * time.Second

// newClient makes the client that fits the options.
func newClient(o *redis.UniversalOptions) redis.UniversalClient {
	if o.MasterName != "" || len(o.Addrs) < 2 && !o.IsClusterMode {
		return redis.NewUniversalClient(o)
	}
	options := o.Cluster()
	options.ClusterStateReloadInterval = topologyInterval
	client := redis.NewClusterClient(options)
	client.AddHook(topology{client})
	return client
}

// topology has a Cluster asked anew which server has which slots when a call has
// failed: a server that is dead cannot tell who has its slots now.
type topology struct{ client *redis.ClusterClient }

func (t topology) look(ctx context.Context, err error) {
	var answered redis.Error
	switch {
	case err == nil, errors.Is(err, errBroken), errors.Is(err, context.Canceled):
	case errors.As(err, &answered) && !hasAnyPrefix(err.Error(), transient):
	default:
		t.client.ReloadState(ctx) // behind, and not while it is under way
	}
}

// DialHook implements redis.Hook.
func (t topology) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

// ProcessHook implements redis.Hook.
func (t topology) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		t.look(ctx, err)
		return err
	}
}

// ProcessPipelineHook implements redis.Hook.
func (t topology) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		t.look(ctx, err)
		return err
	}
}
