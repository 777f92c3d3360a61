package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/seed-57c14f3c/caddy-presence/presence"
	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore"
)

const (
	hub = "default"

	// callers is how many calls of a store are under way at once.
	callers = 64

	// closing is how many connections of a batch are closed in one call: about 64
	// in each partition, which is how many a script takes.
	closing = 4096

	// asking is how many users of a batch are looked up in one call.
	asking = 100

	// lingering is how many users linger and are forgotten: no more than the
	// first sweep behind their time takes.
	lingering = 2000
)

// filler is a process that holds many members, and is killed later: a node that
// crashes. It registers them through the store, as a node does, but for sockets.
type filler struct {
	ctx     context.Context
	redis   *server
	store   *redisstore.Store
	members int
	nextNum atomic.Uint64
	failed  atomic.Int64         // calls that were made again
	conns   []presence.Departure // the connection of each member
	out     io.Writer
}

// fillAndWait is what the process does: it fills Redis, measures, says so in lines of
// JSON, and holds its lease until its input ends.
func fillAndWait(ctx context.Context, address string, members int, lease time.Duration) error {
	redis := connectTo(address, 0)
	defer redis.client.Close()
	store, err := redisstore.New(redisstore.Config{URLs: []string{"redis://" + address}, Lease: lease}, zap.NewNop())
	if err != nil {
		return err
	}
	defer func() { _ = store.Shutdown(ctx) }()
	f := &filler{ctx: ctx, redis: redis, store: store, members: members, out: os.Stdout}
	if err := f.run(); err != nil {
		return err
	}
	if err := json.NewEncoder(f.out).Encode(map[string]any{"scenario": "ready", "failed": f.failed.Load()}); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// run fills Redis, and measures what calls cost among so many members.
func (f *filler) run() error {
	if err := f.store.Check(f.ctx); err != nil {
		return err
	}
	f.conns = make([]presence.Departure, f.members)
	before, err := f.redis.sample(f.ctx)
	if err != nil {
		return err
	}
	if err := f.measure("open", 0, f.members, 1, f.open); err != nil {
		return err
	}
	after, err := f.redis.sample(f.ctx)
	if err != nil {
		return err
	}
	if err := f.print("fill", map[string]any{"members": f.members, "bytes": (after.memory - before.memory) / float64(f.members)}); err != nil {
		return err
	}
	some := min(20_000, f.members)
	forgotten := min(lingering, f.members)
	return errors.Join(
		f.measure("replace", 0, some, 1, f.open),
		f.measure("lookup", 0, some, 1, f.lookup),
		f.measure("lookup batch", 0, some, asking, f.lookup),
		f.measure("close", 0, some, 1, f.close(0)),
		f.restore(some),
		f.measure("close batch", 0, some, closing, f.close(0)),
		f.restore(some),
		f.measure("linger", 0, forgotten, 1, f.close(100*time.Millisecond), f.allForgotten),
		f.restore(forgotten),
	)
}

// measure does something with members, so many in a call, then what comes behind,
// and prints what a member cost.
func (f *filler) measure(name string, from, to, batch int, call func(from, to int) error, behind ...func() error) error {
	cpu, took, err := f.redis.cost(f.ctx, func() error {
		err := f.each(from, to, batch, call)
		for _, then := range behind {
			err = errors.Join(err, then())
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	n := float64(to - from)
	return f.print(name, map[string]any{"redis_us": micros(cpu) / n, "per_second": n / took.Seconds()})
}

func (f *filler) print(name string, figures map[string]any) error {
	figures["scenario"] = name
	return json.NewEncoder(f.out).Encode(figures)
}

// each makes calls concurrently, and returns their errors.
func (f *filler) each(from, to, batch int, call func(from, to int) error) error {
	var wg sync.WaitGroup
	var next atomic.Int64
	next.Store(int64(from))
	errs := make([]error, callers)
	for i := range callers {
		wg.Go(func() {
			for errs[i] == nil {
				first := int(next.Add(int64(batch))) - batch
				if first >= to {
					return
				}
				errs[i] = f.retried(func() error { return call(first, min(first+batch, to)) })
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// retried makes a call until Redis answers in time: on a machine that is shared, all
// processes may stand still for longer than a call may take.
func (f *filler) retried(call func() error) error {
	const pause, most = 200 * time.Millisecond, 50
	for range most {
		err := call()
		if !errors.Is(err, presence.ErrStoreUnavailable) {
			return err
		}
		f.failed.Add(1)
		if err := sleep(f.ctx, pause); err != nil {
			return err
		}
	}
	return call()
}

func userID(n int) presence.UserID { return presence.UserID(fmt.Sprintf("member%d", n)) }

// memberJSON has about a hundred bytes.
func memberJSON(n int) []byte {
	return fmt.Appendf(nil, `{"id":%q,"type":"driver","name":"User Name %d","phone":"+86138%08d"}`, userID(n), n, n)
}

// open opens a new connection of each member, which replaces an earlier one.
func (f *filler) open(from, to int) error {
	for n := from; n < to; n++ {
		conn := presence.ConnID{Node: f.store.Node(), Num: f.nextNum.Add(1)}
		result, err := f.store.Open(f.ctx, presence.OpenRequest{
			Hub: hub, Conn: conn, Max: 1,
			Member: &presence.Member{ID: userID(n), Type: "driver", JSON: memberJSON(n)},
		})
		if err != nil {
			return err
		}
		if !result.Accepted {
			return fmt.Errorf("the open of %s is refused", userID(n))
		}
		f.conns[n] = presence.Departure{User: userID(n), Conn: conn, At: result.At}
	}
	return nil
}

func (f *filler) lookup(from, to int) error {
	ids := make([]presence.UserID, 0, to-from)
	for n := from; n < to; n++ {
		ids = append(ids, userID(n))
	}
	users, err := f.store.Lookup(f.ctx, hub, ids)
	if err == nil && len(users) != len(ids) {
		err = fmt.Errorf("%d of %d members are found", len(users), len(ids))
	}
	return err
}

func (f *filler) close(linger time.Duration) func(from, to int) error {
	return func(from, to int) error {
		gone := append([]presence.Departure(nil), f.conns[from:to]...)
		for i := range gone {
			gone[i].Linger = linger
		}
		found, err := f.store.Close(f.ctx, hub, gone)
		if err != nil {
			return err
		}
		for i, ok := range found {
			if !ok && f.failed.Load() == 0 {
				return fmt.Errorf("%s was not open", gone[i].User)
			}
		}
		return nil
	}
}

// restore opens members again that were closed.
func (f *filler) restore(n int) error { return f.each(0, n, 1, f.open) }

// allForgotten waits until no user lingers any more.
func (f *filler) allForgotten() error {
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); time.Sleep(100 * time.Millisecond) {
		if n, err := f.store.Count(f.ctx, hub, ""); err != nil || n == f.members-min(lingering, f.members) {
			return err
		}
	}
	return errors.New("users linger for too long")
}
