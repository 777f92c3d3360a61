package redisstore

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// A node holds a lease, which it renews at each beat. When a lease has lapsed,
// one of the other nodes claims it, fences the node in all partitions, so that
// what it still sends changes nothing, and takes its members out. A node that
// was only paused finds at its next beat, or open, that its lease is gone: it
// goes on as a new incarnation, and registers its connections again.

const (
	defaultLease = 10 * time.Second

	// beatsPerLease is how often a lease is renewed before it would lapse.
	beatsPerLease = 10.0 / 3

	// claimTime is how long a claim holds without a sign of the claimant.
	claimTime = 30 * time.Second

	// fenceTime is how long a call of a dead node may be under way.
	fenceTime = 10 * time.Minute

	// reapBatch is about how many users one call of reap.lua looks at.
	reapBatch = 100
)

// identity is which incarnation of this node is the present one.
type identity struct {
	mu      sync.Mutex // guards the fields below
	node    presence.NodeID
	earlier []presence.NodeID
}

func (i *identity) now() presence.NodeID {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.node
}

func (i *identity) owns(node presence.NodeID) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return node == i.node || slices.Contains(i.earlier, node)
}

// renew makes a new incarnation, unless the one that was found dead is an earlier
// one already. It returns the present one, and whether it is new.
func (i *identity) renew(dead presence.NodeID) (presence.NodeID, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.node != dead {
		return i.node, false
	}
	i.earlier = append(i.earlier, dead)
	i.node = presence.NewNodeID()
	return i.node, true
}

// Node implements presence.Store.
func (s *Store) Node() presence.NodeID { return s.identity.now() }

// Owns implements presence.Store.
func (s *Store) Owns(node presence.NodeID) bool { return s.identity.owns(node) }

// lease is the state of the goroutine that renews it.
type lease struct {
	time    time.Duration
	renewed presence.NodeID // the incarnation that holds it; empty: none yet
	at      time.Time       // when it was renewed last
	wake    chan struct{}   // never closed; a beat is wanted now
}

func (l *lease) beat() time.Duration { return time.Duration(float64(l.time) / beatsPerLease) }

// live renews the lease until ctx ends, and does what is found at the beats.
func (s *Store) live(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var work sync.WaitGroup
	defer work.Wait()
	var reconciling atomic.Bool
	var before error // of the last beat
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.lease.wake:
		}
		claimed, err := s.renewLease(probe(ctx))
		// Beside the beats: to register many connections again takes longer than a
		// lease lasts, and a node that lost its lease by that would begin anew.
		if err == nil && reconciling.CompareAndSwap(false, true) {
			wasAway := before != nil
			work.Go(func() {
				defer reconciling.Store(false)
				s.reconcile(ctx)
				if wasAway {
					s.resync()
				}
			})
		}
		before = err
		for _, dead := range claimed {
			work.Go(func() { s.reap(ctx, dead) })
		}
		timer.Reset(s.nextBeat(err))
	}
}

// resync has the connections that resume look for what they may have missed while
// Redis was away, or the inbox lost.
func (s *Store) resync() {
	s.eachLocal(func(_ string, local presence.Local) { local.Resync() })
}

// nextBeat is when the lease is renewed again: sooner while Redis is away, because
// all else waits for that.
func (s *Store) nextBeat(err error) time.Duration {
	beat := s.lease.beat()
	if err == nil {
		return beat
	}
	const soon = 500 * time.Millisecond
	return min(beat, soon/2+rand.N(soon))
}

// renewLease renews the lease, as a new incarnation if it is lost, and returns the
// dead nodes that this one has claimed.
func (s *Store) renewLease(ctx context.Context) ([]presence.NodeID, error) {
	node := s.Node()
	first := node != s.lease.renewed
	before := ""
	if first {
		before = string(s.lease.renewed)
	}
	if err := s.keepInbox(ctx, first); err != nil {
		return nil, err
	}
	// After an outage all leases have lapsed: let the others renew theirs first.
	mayClaim := !first && time.Since(s.lease.at) < s.lease.time
	reply, err := s.runGlobal(ctx, beatScript, []string{s.global("nodes"), s.global("dead"), s.global("info")},
		string(node), s.lease.time.Milliseconds(), s.self(), flag(first), flag(mayClaim), claimTime.Milliseconds(), before)
	switch {
	case errors.Is(err, errFenced):
		s.declaredDead(node)
		return nil, err
	case err != nil:
		return nil, err
	}
	if first {
		s.entropy.reset()
	}
	s.lease.renewed, s.lease.at = node, time.Now()
	s.renewedAt.Store(s.lease.at.UnixMilli())
	claimed := make([]presence.NodeID, 0, len(reply))
	for _, v := range reply {
		text, _ := v.(string)
		claimed = append(claimed, presence.NodeID(text))
	}
	return claimed, nil
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// declaredDead makes a new incarnation, and has its connections registered soon.
func (s *Store) declaredDead(dead presence.NodeID) presence.NodeID {
	node, isNew := s.identity.renew(dead)
	if isNew {
		s.outage.log.Warn("this node was declared dead, or redis has lost its data: it goes on as a new one",
			zap.String("was", string(dead)), zap.String("is", string(node)))
		select {
		case s.lease.wake <- struct{}{}:
		default:
		}
	}
	return node
}

// runGlobal calls a script that has no prelude.
func (s *Store) runGlobal(ctx context.Context, script *redis.Script, keys []string, args ...any) ([]any, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	reply, err := s.run(ctx, script, keys, args...)
	if errors.Is(err, errFenced) {
		return nil, err
	}
	return reply, s.result(ctx, "renewing the lease", err)
}

// self is what this node says of itself, as JSON.
func (s *Store) self() string {
	host, _ := os.Hostname()
	info := presence.NodeInfo{Host: host, PID: os.Getpid(), Started: processStart}
	s.eachLocal(func(_ string, local presence.Local) {
		local.EachOpen(func(presence.UserID, uint64) { info.Connections++ })
	})
	if err := s.Ready(); err != nil {
		info.Trouble = err.Error()
	}
	b, _ := json.Marshal(info) // plain values
	return string(b)
}

// reap takes the members of a dead node out of all hubs, then ends the claim. If
// it fails, the claim lapses, and a node claims anew.
func (s *Store) reap(ctx context.Context, dead presence.NodeID) {
	log := s.outage.log.With(zap.String("node", string(dead)))
	began, removed := time.Now(), 0
	hubs, err := s.everyHub(ctx)
	if err == nil {
		err = s.fence(ctx, hubs, dead)
	}
	for _, hub := range hubs {
		var counts []count
		if err == nil {
			counts, err = s.counts(ctx, hub, dead)
		}
		for p := range counts {
			if err == nil && counts[p].conns > 0 {
				var n int
				n, err = s.reapPartition(ctx, hub, p, dead)
				removed += n
			}
		}
	}
	if err == nil {
		err = s.client.Del(ctx, s.inboxKey(dead)).Err()
	}
	if err == nil {
		err = s.claim(ctx, dead, 0)
	}
	if err != nil {
		log.Warn("taking the members of a dead node out: tried again later", zap.Int("removed", removed), zap.Error(err))
		return
	}
	log.Info("a node is gone: its members are out", zap.Int("removed", removed), zap.Duration("took", time.Since(began)))
}

// everyHub returns the hubs that any node has used.
func (s *Store) everyHub(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	hubs, err := s.client.SMembers(ctx, s.global("hubs")).Result()
	return hubs, s.result(ctx, "listing hubs", err)
}

// fence keeps a dead node from changing anything.
func (s *Store) fence(ctx context.Context, hubs []string, dead presence.NodeID) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	now := s.clock.now()
	pipe := s.client.Pipeline()
	for _, hub := range hubs {
		for p := range partitions {
			f := s.key(hub, p, "f")
			pipe.ZRemRangeByScore(ctx, f, "-inf", strconv.FormatInt(now, 10))
			pipe.ZAdd(ctx, f, redis.Z{Score: float64(now + fenceTime.Milliseconds()), Member: string(dead)})
		}
	}
	_, err := pipe.Exec(ctx)
	return s.result(ctx, "fencing a dead node", err)
}

// reapPartition takes the members of a dead node out of a partition, in slices, and
// returns how many connections that were.
func (s *Store) reapPartition(ctx context.Context, hub string, p int, dead presence.NodeID) (int, error) {
	if err := s.claim(ctx, dead, claimTime); err != nil {
		return 0, err
	}
	removed := 0
	for cursor := "0"; ; {
		began := time.Now()
		reply, err := s.reapSlice(ctx, hub, p, dead, cursor)
		if err != nil {
			return removed, err
		}
		next, _ := reply[0].(string)
		removed += len(reply) - 1
		if s.mirror != nil {
			s.mirror.removed(hub, reply[1:])
		}
		// Half of Redis's time is for all the others.
		select {
		case <-time.After(time.Since(began)):
		case <-ctx.Done():
			return removed, ctx.Err()
		}
		if cursor = next; cursor == "0" || cursor == "" {
			return removed, nil
		}
	}
}

func (s *Store) reapSlice(ctx context.Context, hub string, p int, dead presence.NodeID, cursor string) ([]any, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	reply, err := s.run(ctx, reapScript, s.keys(hub, p), s.notAfter(), string(dead), cursor, reapBatch)
	if err = s.result(ctx, "taking members of a dead node out", err); err != nil {
		return nil, err
	}
	if len(reply) == 0 {
		return nil, errors.New("taking members of a dead node out: redis answered nothing")
	}
	return reply, nil
}

var errNotOurs = errors.New("another node has claimed it")

// claim keeps the claim on a dead node for a time, or ends it if that is 0.
func (s *Store) claim(ctx context.Context, dead presence.NodeID, d time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	ours, err := claimScript.Run(ctx, s.client, []string{s.global("dead"), s.global("info")},
		string(dead), string(s.Node()), d.Milliseconds()).Int()
	if err = s.result(ctx, "claiming a dead node", err); err == nil && ours == 0 {
		err = errNotOurs
	}
	return err
}

// leaveNodes gives the lease up, because this node stops. Another node looks
// whether anything is left of it.
func (s *Store) leaveNodes(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	pipe := s.client.Pipeline()
	pipe.ZRem(ctx, s.global("nodes"), string(s.Node()))
	pipe.HSet(ctx, s.global("dead"), string(s.Node()), "0 -")
	pipe.Del(ctx, s.inboxKey(s.Node()))
	_, err := pipe.Exec(ctx)
	return s.result(ctx, "giving the lease up", err)
}
