package redisstore

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// The script that changes a user's state writes the change to a stream of the
// user's partition, if somebody listens. Whether something is new in any of them is
// asked for all at once, and for all who follow on this node together.

const (
	// listenTime is how long changes are written down for who has asked for them,
	// and kept. listenAgain is how often that is renewed.
	listenTime  = 10 * time.Minute
	listenAgain = time.Minute

	// maxChanges is about how many are kept in a partition.
	maxChanges = 1000

	// pageChanges is how many of a partition one call returns.
	pageChanges = 100

	// headsLife is how long it is not asked again what is new.
	headsLife = 90 * time.Millisecond
)

// log is what this node knows of where the changes of a hub end.
type log struct {
	stale atomic.Bool // something was changed from here

	mu       sync.Mutex // guards the fields below; held while Redis is asked
	heads    presence.Position
	taken    time.Time
	listened time.Time // when it was renewed that somebody listens
}

func (s *Store) log(hub string) *log {
	l, ok := s.logs.Load(hub)
	if !ok {
		l, _ = s.logs.LoadOrStore(hub, new(log))
	}
	return l.(*log)
}

// changed notes that there may be something new.
func (s *Store) changed(hub string) {
	if l, ok := s.logs.Load(hub); ok {
		l.(*log).stale.Store(true)
	}
}

// headsOf returns where the changes of a hub end. fresh: at the moment.
func (s *Store) headsOf(ctx context.Context, hub string, fresh bool) (presence.Position, error) {
	l := s.log(hub)
	l.mu.Lock()
	defer l.mu.Unlock()
	if stale := l.stale.Swap(false); !fresh && !stale && time.Since(l.taken) < headsLife {
		return l.heads, nil
	}
	listen := fresh || time.Since(l.listened) > listenAgain
	heads, err := s.askHeads(ctx, hub, listen)
	if err != nil {
		l.stale.Store(true)
		return presence.Position{}, err
	}
	l.heads, l.taken = heads, time.Now()
	if listen {
		l.listened = l.taken
	}
	return heads, nil
}

func (s *Store) askHeads(ctx context.Context, hub string, listen bool) (presence.Position, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if err := s.learnTime(ctx); err != nil {
		return presence.Position{}, err
	}
	pipe := s.client.Pipeline()
	replies := make([]*redis.SliceCmd, partitions)
	until, epoch := s.clock.now()+listenTime.Milliseconds(), newEpoch()
	for p := range replies {
		m := s.key(hub, p, "m")
		if listen {
			pipe.HSetNX(ctx, m, "e", epoch)
			pipe.HSet(ctx, m, "w", until)
		}
		replies[p] = pipe.HMGet(ctx, m, "e", "v")
	}
	_, err := pipe.Exec(ctx)
	if err := s.result(ctx, "asking for changes", err); err != nil {
		return presence.Position{}, err
	}
	epochs := fnv.New64a()
	pos := presence.Position{Seqs: make([]int64, partitions)}
	for p, r := range replies {
		epoch, _ := r.Val()[0].(string)
		_, _ = epochs.Write([]byte(epoch + " ")) // never fails
		text, _ := r.Val()[1].(string)
		pos.Seqs[p], _ = strconv.ParseInt(text, 10, 64)
	}
	pos.Epoch = strconv.FormatUint(epochs.Sum64(), 36)
	return pos, nil
}

// Position implements presence.Store.
func (s *Store) Position(ctx context.Context, hub string) (presence.Position, error) {
	s.begin()
	return s.headsOf(ctx, hub, true)
}

// Changes implements presence.Store.
func (s *Store) Changes(ctx context.Context, hub string, after presence.Position) ([]presence.Change, presence.Position, error) {
	s.begin()
	heads, err := s.headsOf(ctx, hub, false)
	if err != nil {
		return nil, after, err
	}
	if !covers(heads, after) { // another node may have given a position that is newer than the heads
		if heads, err = s.headsOf(ctx, hub, true); err != nil {
			return nil, after, err
		}
	}
	if !covers(heads, after) {
		return nil, after, fmt.Errorf("%w: the store has lost data", presence.ErrChangesLost)
	}
	var parts []int
	for p, seq := range after.Seqs {
		if seq != heads.Seqs[p] {
			parts = append(parts, p)
		}
	}
	if len(parts) == 0 {
		return nil, after, nil
	}
	return s.readChanges(ctx, hub, after, parts)
}

// covers reports whether a position is one that the heads have come from.
func covers(heads, at presence.Position) bool {
	if heads.Epoch != at.Epoch || len(at.Seqs) != len(heads.Seqs) {
		return false
	}
	for p, seq := range at.Seqs {
		if seq > heads.Seqs[p] {
			return false
		}
	}
	return true
}

// readChanges reads the changes of some partitions, each of which has some.
func (s *Store) readChanges(ctx context.Context, hub string, after presence.Position, parts []int) ([]presence.Change, presence.Position, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	pipe := s.client.Pipeline()
	replies := make([]*redis.XMessageSliceCmd, len(parts))
	for i, p := range parts {
		from := "(" + strconv.FormatInt(after.Seqs[p], 10) + "-0"
		replies[i] = pipe.XRangeN(ctx, s.key(hub, p, "ev"), from, "+", pageChanges)
	}
	_, err := pipe.Exec(ctx)
	if err := s.result(ctx, "reading changes", err); err != nil {
		return nil, after, err
	}
	next := presence.Position{Epoch: after.Epoch, Seqs: append([]int64(nil), after.Seqs...)}
	var changes []presence.Change
	for i, p := range parts {
		entries := replies[i].Val()
		if len(entries) == 0 {
			return nil, after, presence.ErrChangesLost
		}
		for _, e := range entries {
			// Not all are written: for a time nobody may have listened.
			if before, _ := e.Values["p"].(string); !reaches(next.Seqs[p], before) {
				return nil, after, presence.ErrChangesLost
			}
			ch := parseChange(p, e)
			next.Seqs[p] = ch.Seq
			changes = append(changes, ch)
		}
	}
	return changes, next, nil
}

// reaches reports whether who has read up to a sequence has also the entry before.
func reaches(seq int64, before string) bool {
	n, err := strconv.ParseInt(before, 10, 64)
	return err == nil && n <= seq
}

func parseChange(p int, e redis.XMessage) presence.Change {
	field := func(name string) string {
		text, _ := e.Values[name].(string)
		return text
	}
	seq, _ := splitEntryID(e.ID)
	ch := presence.Change{Part: p, Seq: int64(seq), Kind: presence.EventKind(field("k")), Cause: presence.Cause(field("r"))}
	ch.Member = &presence.Member{ID: presence.UserID(field("u")), Type: field("t"), JSON: json.RawMessage(field("m"))}
	ch.Conn, _ = presence.ParseConnID(field("c")) // the scripts write no others
	ch.At, _ = strconv.ParseInt(field("a"), 10, 64)
	return ch
}

// TakeTurn implements presence.Store.
func (s *Store) TakeTurn(ctx context.Context, hub string, told presence.Position, first bool) (presence.Turn, error) {
	s.begin()
	return s.turn(ctx, hub, told.String(), first, s.lease.time)
}

// LeaveTurn implements presence.Store.
func (s *Store) LeaveTurn(ctx context.Context, hub string) error {
	_, err := s.turn(ctx, hub, "", false, 0)
	return err
}

// TurnTime implements presence.Store.
func (s *Store) TurnTime() time.Duration { return s.lease.time }

func (s *Store) turn(ctx context.Context, hub, told string, first bool, d time.Duration) (presence.Turn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	keys := []string{s.global("turn:" + hub), s.global("told:" + hub)}
	reply, err := turnScript.Run(ctx, s.client, keys, s.process, d.Milliseconds(), told, flag(first), listenTime.Milliseconds()).Slice()
	if err := s.result(ctx, "taking the turn", err); err != nil {
		return presence.Turn{}, err
	}
	if len(reply) < 2 {
		return presence.Turn{}, nil
	}
	text, _ := reply[1].(string)
	pos, err := presence.ParsePosition(text)
	return presence.Turn{Mine: true, Told: pos}, err
}
