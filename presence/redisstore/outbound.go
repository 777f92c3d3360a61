package redisstore

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// Requests to other nodes travel through one stream for each node, its inbox,
// because a stream loses nothing while a connection to Redis is cut. A node's
// entries are numbered, so that one that is written twice is carried out once.

const (
	// outboundEntries and outboundBytes are how much may wait to be written.
	outboundEntries = 10_000
	outboundBytes   = 32 << 20

	// outboundBatch is how many entries one round trip writes.
	outboundBatch = 128

	// inboxLength is about how many entries an inbox keeps for a node that does
	// not read.
	inboxLength = 10_000

	// answerTime is how long an answer is worth writing.
	answerTime = 30 * time.Second
)

// outbound holds what waits to be written to the inboxes of other nodes.
type outbound struct {
	lastSeq atomic.Uint64
	more    chan struct{} // never closed; something waits

	mu      sync.Mutex // guards the fields below
	waiting []*letter
	bytes   int
	asked   map[uint64]*letter // requests without an answer yet, by number
}

// letter is an entry on its way to another node.
type letter struct {
	until time.Time // when to give it up
	to    presence.NodeID
	from  presence.NodeID
	seq   uint64
	hub   string
	body  []byte
	reply uint64               // of an answer: the number of the request; else 0
	done  chan presence.Answer // of a request; has place for its answer
}

func newOutbound() *outbound {
	return &outbound{more: make(chan struct{}, 1), asked: make(map[uint64]*letter)}
}

// Ask implements presence.Store.
func (s *Store) Ask(hub string, to presence.NodeID, request []byte, until time.Time) <-chan presence.Answer {
	s.begin()
	l := &letter{until: until, to: to, hub: hub, body: request, done: make(chan presence.Answer, 1)}
	if err := s.outbound.add(l, s.Node()); err != nil {
		l.done <- presence.Answer{Err: err}
	}
	return l.done
}

var errTooMuchWaits = errors.New("too much waits to be written to other nodes")

func (o *outbound) add(l *letter, from presence.NodeID) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.waiting) >= outboundEntries || o.bytes+len(l.body) > outboundBytes {
		return errors.Join(presence.ErrStoreUnavailable, errTooMuchWaits)
	}
	l.from, l.seq = from, o.lastSeq.Add(1)
	o.waiting = append(o.waiting, l)
	o.bytes += len(l.body)
	if l.done != nil {
		o.asked[l.seq] = l
	}
	select {
	case o.more <- struct{}{}:
	default:
	}
	return nil
}

// take removes what one round trip writes.
func (o *outbound) take() []*letter {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := min(len(o.waiting), outboundBatch)
	batch := o.waiting[:n:n]
	if o.waiting = o.waiting[n:]; len(o.waiting) == 0 {
		o.waiting = nil
	}
	for _, l := range batch {
		o.bytes -= len(l.body)
	}
	return batch
}

// answered gives a request its answer. Only the first counts.
func (o *outbound) answered(seq uint64, a presence.Answer) {
	o.mu.Lock()
	l := o.asked[seq]
	delete(o.asked, seq)
	o.mu.Unlock()
	if l != nil {
		l.done <- a
	}
}

// forget gives up the requests whose time is over.
func (o *outbound) forget() {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	for seq, l := range o.asked {
		if now.After(l.until) {
			l.done <- presence.Answer{Err: context.DeadlineExceeded} // there is place
			delete(o.asked, seq)
		}
	}
}

// write writes what waits until ctx ends.
func (s *Store) write(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.outbound.forget()
			continue
		case <-s.outbound.more:
		}
		for batch := s.outbound.take(); len(batch) > 0; batch = s.outbound.take() {
			s.writeBatch(ctx, batch)
		}
	}
}

// writeBatch writes letters in their order, again and again while Redis is away and
// somebody wants them written.
func (s *Store) writeBatch(ctx context.Context, batch []*letter) {
	const pause = 50 * time.Millisecond
	for {
		batch = s.wanted(batch)
		if len(batch) == 0 || ctx.Err() != nil {
			return
		}
		if s.writeOnce(ctx, batch) {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// wanted leaves out the letters that nobody waits for any more.
func (s *Store) wanted(batch []*letter) []*letter {
	now := time.Now()
	kept := make([]*letter, 0, len(batch))
	for _, l := range batch {
		if now.After(l.until) {
			s.outbound.answered(l.seq, presence.Answer{Err: context.DeadlineExceeded})
			continue
		}
		kept = append(kept, l)
	}
	return kept
}

// writeOnce reports whether it is known for all letters what became of them.
func (s *Store) writeOnce(ctx context.Context, batch []*letter) bool {
	if s.inbox.made.Load() != s.Node() {
		return false // answers would find no inbox
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	pipe := s.client.Pipeline()
	replies := make([]*redis.StringCmd, len(batch))
	for i, l := range batch {
		replies[i] = pipe.XAdd(ctx, &redis.XAddArgs{
			Stream: s.inboxKey(l.to), NoMkStream: true, MaxLen: inboxLength, Approx: true,
			Values: []any{
				"f", string(l.from), "s", strconv.FormatUint(l.seq, 10),
				"h", l.hub, "r", strconv.FormatUint(l.reply, 10), "b", l.body,
			},
		})
	}
	_, err := pipe.Exec(ctx)
	if err != nil && !errors.Is(err, redis.Nil) {
		_ = s.result(ctx, "writing to other nodes", err)
		return false
	}
	s.outage.success()
	for i, r := range replies {
		if errors.Is(r.Err(), redis.Nil) {
			s.outbound.answered(batch[i].seq, presence.Answer{Err: presence.ErrNodeGone})
		}
	}
	return true
}
