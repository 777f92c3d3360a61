package redisstore

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

const (
	// inboxBlock is how long one read waits for entries.
	inboxBlock = time.Second

	// inboxRead is how many entries one read takes.
	inboxRead = 256

	// inboxLife is how long the inbox of a node that is gone is kept.
	inboxLife = time.Minute

	// deafAfter is after how long without a read a node is not ready.
	deafAfter = 5 * time.Second
)

// inboxKey is the stream of what other nodes send to a node. Its tag keeps it apart
// from those of others in a Cluster.
func (s *Store) inboxKey(node presence.NodeID) string {
	return s.prefix + ":{n" + string(node) + "}:in"
}

// inbox reads what other nodes send. It is owned by its goroutine, but for what is
// atomic.
type inbox struct {
	client redis.UniversalClient // its own, because a read waits
	node   presence.NodeID       // whose inbox it reads
	last   string                // the entry that was read last
	seen   map[presence.NodeID]uint64
	heard  atomic.Int64 // when a read succeeded last, in Unix milliseconds
	made   atomic.Value // of type presence.NodeID: the incarnation whose inbox is there
}

// keepInbox makes the inbox of this incarnation, or keeps it alive.
func (s *Store) keepInbox(ctx context.Context, first bool) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	node := s.Node()
	key := s.inboxKey(node)
	pipe := s.client.Pipeline()
	if first {
		addInbox(ctx, pipe, key)
	} else {
		old := strconv.FormatInt(s.clock.now()-2*inboxLife.Milliseconds(), 10)
		pipe.XTrimMinIDApprox(ctx, key, old, 0)
	}
	kept := pipe.PExpire(ctx, key, inboxLife+10*s.lease.time)
	_, err := pipe.Exec(ctx)
	if err == nil && !kept.Val() { // it was lost, or Redis was not to be reached for long
		s.stopped.Go(s.resync)
		addInbox(ctx, pipe, key)
		pipe.PExpire(ctx, key, inboxLife+10*s.lease.time)
		_, err = pipe.Exec(ctx)
	}
	if err == nil {
		s.inbox.made.Store(node)
	}
	return s.result(ctx, "keeping the inbox", err)
}

// addInbox makes an inbox: nobody else does.
func addInbox(ctx context.Context, pipe redis.Pipeliner, key string) {
	pipe.XAdd(ctx, &redis.XAddArgs{Stream: key, Values: []any{"f", "", "s", "0"}})
}

// read carries out what other nodes send until ctx ends.
func (s *Store) read(ctx context.Context) {
	for ctx.Err() == nil {
		if err := s.readInbox(ctx); err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond): // Redis is away
			}
		}
	}
}

func (s *Store) readInbox(ctx context.Context) error {
	in := &s.inbox
	if node := s.Node(); in.node != node {
		in.node, in.last = node, "0"
	}
	// go-redis adds 10 s to what a read waits for: that long a node would not hear
	// the others when the network has forgotten its connection.
	ctx, cancel := context.WithTimeout(ctx, inboxBlock+s.timeout)
	defer cancel()
	res, err := in.client.XRead(ctx, &redis.XReadArgs{
		Streams: []string{s.inboxKey(in.node), in.last}, Count: inboxRead, Block: inboxBlock,
	}).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	in.heard.Store(time.Now().UnixMilli())
	for _, stream := range res {
		for _, entry := range stream.Messages {
			in.last = entry.ID
			s.takeIn(entry.Values)
		}
	}
	if len(res) == 0 {
		return s.rewind(ctx)
	}
	return nil
}

// rewind begins anew if the inbox is behind what was read: Redis was replaced by
// one whose clock is slower.
func (s *Store) rewind(ctx context.Context) error {
	in := &s.inbox
	if in.last == "0" {
		return nil
	}
	newest, err := in.client.XRevRangeN(ctx, s.inboxKey(in.node), "+", "-", 1).Result()
	if err != nil || len(newest) == 0 {
		return err
	}
	if earlier(newest[0].ID, in.last) {
		in.last = "0"
		s.stopped.Go(s.resync)
	}
	return nil
}

// earlier compares the ids of two entries.
func earlier(x, y string) bool {
	xMilli, xSeq := splitEntryID(x)
	yMilli, ySeq := splitEntryID(y)
	return xMilli < yMilli || xMilli == yMilli && xSeq < ySeq
}

func splitEntryID(id string) (milli, seq uint64) {
	for i := range len(id) {
		if id[i] == '-' {
			milli, _ = strconv.ParseUint(id[:i], 10, 64)
			seq, _ = strconv.ParseUint(id[i+1:], 10, 64)
		}
	}
	return milli, seq
}

// takeIn carries out one entry, unless it came before.
func (s *Store) takeIn(entry map[string]any) {
	field := func(name string) string {
		text, _ := entry[name].(string)
		return text
	}
	from := presence.NodeID(field("f"))
	seq, _ := strconv.ParseUint(field("s"), 10, 64)
	if from == "" || seq <= s.inbox.seen[from] {
		return
	}
	s.inbox.seen[from] = seq
	body := []byte(field("b"))
	if reply, _ := strconv.ParseUint(field("r"), 10, 64); reply != 0 {
		s.outbound.answered(reply, presence.Answer{Data: body})
		return
	}
	hub, self := field("h"), s.inbox.node
	answer := func(data []byte) {
		// If too much waits, the node that asked is not told in time.
		_ = s.outbound.add(&letter{until: time.Now().Add(answerTime), to: from, hub: hub, body: data, reply: seq}, self)
	}
	local, ok := s.locals.Load(hub)
	if !ok {
		answer(nil) // nobody of that hub is here
		return
	}
	local.(presence.Local).Asked(body, answer)
}

// Peers implements presence.Store.
func (s *Store) Peers(ctx context.Context) ([]presence.Peer, error) {
	s.begin()
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if err := s.learnTime(ctx); err != nil {
		return nil, err
	}
	pipe := s.client.Pipeline()
	leases := pipe.ZRangeWithScores(ctx, s.global("nodes"), 0, -1)
	infos := pipe.HGetAll(ctx, s.global("info"))
	_, err := pipe.Exec(ctx)
	if err := s.result(ctx, "listing nodes", err); err != nil {
		return nil, err
	}
	now := s.clock.now()
	peers := make([]presence.Peer, 0, len(leases.Val()))
	for _, z := range leases.Val() {
		node, _ := z.Member.(string)
		p := presence.Peer{Node: presence.NodeID(node), Lease: time.Duration(int64(z.Score)-now) * time.Millisecond}
		_ = json.Unmarshal([]byte(infos.Val()[node]), &p.Info) // an older version may say less
		peers = append(peers, p)
	}
	return peers, nil
}

var (
	errNoLease = errors.New("this node has no lease in redis")
	errDeaf    = errors.New("this node does not hear what other nodes send")
)

// Ready implements presence.Store.
func (s *Store) Ready() error {
	switch {
	case time.Since(time.UnixMilli(s.renewedAt.Load())) > s.lease.time:
		return errNoLease
	case time.Since(time.UnixMilli(s.inbox.heard.Load())) > deafAfter:
		return errDeaf
	}
	return nil
}
