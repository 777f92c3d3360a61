package redisstore

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// topologyInterval is how often a Cluster is asked which server has which slots;
// go-redis does every minute, and when it is told of a move.
const topologyInterval = 5 * time.Second

// newClient makes the client that fits the options.
func newClient(o *redis.UniversalOptions) redis.UniversalClient {
	var client redis.UniversalClient
	if o.MasterName == "" && (o.IsClusterMode || len(o.Addrs) > 1) {
		options := o.Cluster()
		options.ClusterStateReloadInterval = topologyInterval
		cluster := redis.NewClusterClient(options)
		cluster.AddHook(hook{func(ctx context.Context, _ []redis.Cmder, call func() error) error {
			return lookAfter(ctx, cluster, call())
		}})
		client = cluster
	} else {
		client = redis.NewUniversalClient(o)
	}
	client.AddHook(hook{rereading})
	return client
}

// lookAfter has a Cluster asked anew which server has which slots if a call has
// failed: a server that is dead cannot tell who has its slots now. It returns the
// error of the call.
func lookAfter(ctx context.Context, cluster *redis.ClusterClient, err error) error {
	var answered redis.Error
	switch {
	case err == nil, errors.Is(err, errBroken), errors.Is(err, context.Canceled):
	case errors.As(err, &answered) && !hasAnyPrefix(err.Error(), transient):
	default:
		cluster.ReloadState(ctx) // behind, and not while it is under way
	}
	return err
}

// tries is how often a call is made whose connection breaks under it: the others
// may have broken with it.
const tries = 3

// again makes a call, and makes it again if its connection broke. It must be one
// that may be carried out twice. One that takes too long is not made again.
func again(ctx context.Context, call func() error) error {
	err := call()
	for n := 1; n < tries && broke(err) && ctx.Err() == nil; n++ {
		err = call()
	}
	return err
}

func broke(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// reads are commands that change nothing.
var reads = []string{
	"hget", "hmget", "hgetall", "smembers", "time", "xrange", "xrevrange", "zcount", "zlexcount", "zrange", "zrangebylex",
}

// rereading makes calls that only read again if their connection broke.
func rereading(ctx context.Context, cmds []redis.Cmder, call func() error) error {
	if slices.ContainsFunc(cmds, func(c redis.Cmder) bool { return !slices.Contains(reads, c.Name()) }) {
		return call()
	}
	return again(ctx, func() error {
		for _, c := range cmds {
			c.SetErr(nil)
		}
		return call()
	})
}

// hook makes a redis.Hook of a function around calls.
type hook struct {
	around func(ctx context.Context, cmds []redis.Cmder, call func() error) error
}

// DialHook implements redis.Hook.
func (h hook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

// ProcessHook implements redis.Hook.
func (h hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return h.around(ctx, []redis.Cmder{cmd}, func() error { return next(ctx, cmd) })
	}
}

// ProcessPipelineHook implements redis.Hook.
func (h hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return h.around(ctx, cmds, func() error { return next(ctx, cmds) })
	}
}
