package redisstore

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// Whatever happens to Redis (emptied, restarted from an old snapshot, failed over
// to a replica that lags), each node compares at each beat how many of its
// connections each partition counts with how many it has, and registers its
// connections again where they differ.

// Join implements presence.Store.
func (s *Store) Join(hub string, local presence.Local) {
	s.locals.Store(hub, local)
	s.hubs.LoadOrStore(hub, struct{}{})
}

// Leave implements presence.Store.
func (s *Store) Leave(hub string) { s.locals.Delete(hub) }

func (s *Store) eachLocal(fn func(hub string, local presence.Local)) {
	s.locals.Range(func(hub, local any) bool {
		fn(hub.(string), local.(presence.Local))
		return true
	})
}

// entropy is what was found when counts were compared last. It is owned by the
// goroutine that reconciles, of which there is one at a time.
type entropy struct {
	mu   sync.Mutex       // guards the fields below
	all  bool             // everything is to be registered
	seen map[string]int64 // by partition, the sequence that calls of this node left

	// Owned by that goroutine.
	suspect map[place]bool
	last    map[place]count
}

// place is a partition of a hub.
type place struct {
	hub       string
	partition int
}

// reset has all connections registered at the next beat.
func (e *entropy) reset() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = true
}

// saw notes the sequence that a call left in a partition.
func (e *entropy) saw(partition string, seq int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.seen == nil {
		e.seen = make(map[string]int64)
	}
	e.seen[partition] = max(e.seen[partition], seq)
}

// takeSeen returns what was seen until now, and forgets it: it holds for what is
// read from now on.
func (e *entropy) takeSeen() map[string]int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	seen := e.seen
	e.seen = nil
	return seen
}

func (e *entropy) takeAll() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := e.all
	e.all = false
	return all
}

// reconcile makes Redis have exactly the connections of this node.
func (s *Store) reconcile(ctx context.Context) {
	all, seen := s.entropy.takeAll(), s.entropy.takeSeen()
	s.eachLocal(func(hub string, local presence.Local) {
		if err := s.reconcileHub(ctx, hub, local, all, seen); err != nil && ctx.Err() == nil {
			s.entropy.reset() // what was left out is not known
		}
	})
}

func (s *Store) reconcileHub(ctx context.Context, hub string, local presence.Local, all bool, seen map[string]int64) error {
	var have [partitions]int
	local.EachOpen(func(user presence.UserID, _ uint64) { have[partition(user)]++ })
	counts, err := s.counts(ctx, hub, s.Node())
	if err != nil {
		return err
	}
	var missing, emptied, ghosts [partitions]bool
	for p, c := range counts {
		v := s.entropy.judge(place{hub, p}, c, c.conns != have[p], seen[s.key(hub, p, "u")])
		lost := v.differs || v.gone || all
		emptied[p] = v.gone && have[p] > 0
		missing[p] = lost && !v.gone && have[p] > 0
		ghosts[p] = lost && c.conns > 0
		if v.back {
			if err := s.renewEpoch(ctx, hub, p, c); err != nil {
				return err
			}
		}
	}
	// Where the data is gone, that the users are there again is no change.
	if err := s.assert(ctx, hub, local, &emptied, true); err != nil {
		return err
	}
	if err := s.assert(ctx, hub, local, &missing, false); err != nil {
		return err
	}
	for p, ghost := range ghosts {
		if ghost {
			if err := s.audit(ctx, hub, p, local); err != nil {
				return err
			}
		}
	}
	return nil
}

// verdict is what is wrong with a partition.
type verdict struct {
	differs bool // its count does, at two beats; at one, something may just be under way
	gone    bool // it has lost data: it has another epoch, or has gone back
	back    bool // it has gone back, and its epoch does not tell
}

// judge compares what a partition says with what it said before, and what calls
// have seen of its sequence since.
func (e *entropy) judge(p place, c count, differs bool, seen int64) verdict {
	if e.last == nil {
		e.last, e.suspect = make(map[place]count), make(map[place]bool)
	}
	before, known := e.last[p]
	e.last[p] = c
	again := e.suspect[p] && differs
	if e.suspect[p] = differs && !again; !e.suspect[p] {
		delete(e.suspect, p)
	}
	v := verdict{differs: again}
	v.gone = c.seq < max(seen, before.seq) || before.epoch != "" && before.epoch != c.epoch
	v.back = v.gone && c.epoch != "" && (!known || before.epoch == c.epoch)
	return v
}

// assert has the connections registered again whose users are in some partitions.
func (s *Store) assert(ctx context.Context, hub string, local presence.Local, parts *[partitions]bool, quiet bool) error {
	if *parts == [partitions]bool{} {
		return nil
	}
	n, err := local.Assert(ctx, func(user presence.UserID) bool { return parts[partition(user)] }, quiet)
	if n > 0 {
		s.outage.log.Warn("connections that redis did not have are registered again", zap.String("hub", hub), zap.Int("count", n))
	}
	return err
}

// renewEpoch gives a partition that has gone back another epoch: who follows it, or
// has a number of it, must not take what comes for what has been.
func (s *Store) renewEpoch(ctx context.Context, hub string, p int, c count) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	epoch := newEpoch()
	renewed, err := epochScript.Run(ctx, s.client, []string{s.key(hub, p, "m")}, c.epoch, epoch).Int()
	if err := s.result(ctx, "renewing an epoch", err); err != nil {
		return err
	}
	if renewed == 1 {
		c.epoch = epoch
		s.entropy.last[place{hub, p}] = c
	}
	return nil
}

// count is what a partition says of a node.
type count struct {
	epoch string
	seq   int64 // how often it has changed
	conns int
}

// counts asks all partitions of a hub.
func (s *Store) counts(ctx context.Context, hub string, of presence.NodeID) ([]count, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	pipe := s.client.Pipeline()
	pipe.SAdd(ctx, s.global("hubs"), hub) // may have been lost
	node := "n:" + string(of)
	replies := make([]*redis.SliceCmd, partitions)
	for p := range replies {
		replies[p] = pipe.HMGet(ctx, s.key(hub, p, "m"), "e", "s", node)
	}
	_, err := pipe.Exec(ctx)
	if err := s.result(ctx, "comparing members", err); err != nil {
		return nil, err
	}
	counts := make([]count, partitions)
	for p, r := range replies {
		counts[p].epoch, _ = r.Val()[0].(string)
		text, _ := r.Val()[1].(string)
		counts[p].seq, _ = strconv.ParseInt(text, 10, 64)
		text, _ = r.Val()[2].(string)
		counts[p].conns, _ = strconv.Atoi(text)
	}
	return counts, nil
}

// auditLinger is how long users linger whose connection is found to be gone: its
// end may just be on the way here.
const auditLinger = 10 * time.Second

// audit closes connections of this node that a partition has, and the node has
// not.
func (s *Store) audit(ctx context.Context, hub string, p int, local presence.Local) error {
	node := s.Node()
	var gone []presence.Departure
	for cursor := uint64(0); ; {
		fields, next, err := s.scan(ctx, hub, p, cursor)
		if err != nil {
			return err
		}
		for i := 0; i+1 < len(fields); i += 2 {
			for line := range strings.SplitSeq(fields[i+1], "\n") {
				conn, _, _ := strings.Cut(line, "\t")
				id, err := presence.ParseConnID(conn)
				user := presence.UserID(fields[i])
				if err == nil && id.Node == node && !local.Has(user, id.Num) {
					gone = append(gone, presence.Departure{User: user, Conn: id, Linger: auditLinger, Cause: presence.CauseLost})
				}
			}
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	if len(gone) == 0 {
		return nil
	}
	s.outage.log.Warn("connections that are gone are taken out of redis", zap.String("hub", hub), zap.Int("count", len(gone)))
	_, err := s.Close(ctx, hub, gone)
	return err
}

func (s *Store) scan(ctx context.Context, hub string, p int, cursor uint64) ([]string, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	fields, next, err := s.client.HScan(ctx, s.key(hub, p, "u"), cursor, "", reapBatch).Result()
	return fields, next, s.result(ctx, "comparing members", err)
}
