package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

const (
	// everyone is the user whose series has the messages to the whole hub: no
	// user has the empty id.
	everyone = presence.UserID("")

	// keepBatch is how many users one call of keep.lua keeps a message for:
	// Redis does nothing else meanwhile.
	keepBatch = 128

	// keepCalls is how many calls of keep.lua one Keep makes at once.
	keepCalls = 8
)

// Keep implements presence.Store.
func (s *Store) Keep(ctx context.Context, ids []presence.UserID, req presence.KeepRequest) ([]presence.KeptUser, error) {
	if len(ids) == 0 {
		return nil, ctx.Err()
	}
	s.begin()
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if err := s.learnTime(ctx); err != nil {
		return nil, err
	}
	k := keeping{store: s, ids: ids, req: req, order: s.clock.next(), replies: make([]kept, len(ids))}
	if err := s.result(ctx, "keeping a message", k.run(ctx)); err != nil {
		return nil, err
	}
	now := s.clock.atLeast()
	users := make([]presence.KeptUser, 0, len(ids))
	for i, id := range ids {
		r := k.replies[i]
		u, online := parseRecord(id, r.record, now)
		switch {
		case online:
			users = append(users, presence.KeptUser{User: u, Place: r.place})
		case r.place.Seq > 0:
			users = append(users, presence.KeptUser{User: presence.User{ID: id}, Gone: true, Place: r.place})
		}
	}
	return users, nil
}

// KeepForAll implements presence.Store.
func (s *Store) KeepForAll(ctx context.Context, req presence.KeepRequest) (presence.Place, error) {
	s.begin()
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if err := s.learnTime(ctx); err != nil {
		return presence.Place{}, err
	}
	k := keeping{store: s, ids: []presence.UserID{everyone}, req: req, order: s.clock.next(), replies: make([]kept, 1)}
	if err := s.result(ctx, "keeping a message for all", k.run(ctx)); err != nil {
		return presence.Place{}, err
	}
	return k.replies[0].place, nil
}

// keeping is a message while it is kept.
type keeping struct {
	store   *Store
	ids     []presence.UserID
	req     presence.KeepRequest
	order   int64
	replies []kept // in the order of ids; each call writes its own
}

type kept struct {
	record string
	place  presence.Place
}

// run keeps the message for all users, with one call for those of a partition.
func (k *keeping) run(ctx context.Context) error {
	var batches [][]int                                    // places in ids
	last := make(map[int]int, min(len(k.ids), partitions)) // partition → its last batch
	for i, id := range k.ids {
		p := partition(id)
		b, ok := last[p]
		if !ok || len(batches[b]) == keepBatch {
			b = len(batches)
			last[p], batches = b, append(batches, nil)
		}
		batches[b] = append(batches[b], i)
	}
	if len(batches) == 1 {
		return k.some(ctx, batches[0])
	}
	var calls sync.WaitGroup
	errs, next := make([]error, len(batches)), make(chan int, len(batches))
	for b := range batches {
		next <- b
	}
	close(next)
	for range min(keepCalls, len(batches)) {
		calls.Go(func() {
			for b := range next {
				errs[b] = k.some(ctx, batches[b])
			}
		})
	}
	calls.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// some keeps the message for users of one partition.
func (k *keeping) some(ctx context.Context, places []int) error {
	s, p := k.store, partition(k.ids[places[0]])
	keys := s.keys(k.req.Hub, p)
	args := []any{
		s.notAfter(), newEpoch(), k.req.Window.Milliseconds(), k.req.Messages, k.req.TTL.Milliseconds(),
		k.order, k.req.Collapse, k.req.Body,
	}
	for _, i := range places {
		keys = append(keys, s.queueKey(k.req.Hub, k.ids[i]))
		args = append(args, string(k.ids[i]))
	}
	reply, err := s.run(ctx, keepScript, keys, args...)
	if err != nil {
		return err
	}
	if len(reply) != 1+2*len(places) {
		return fmt.Errorf("keeping a message: redis answered %d values", len(reply))
	}
	epoch, _ := reply[0].(string)
	for j, i := range places {
		record, _ := reply[1+2*j].(string)
		text, _ := reply[2+2*j].(string)
		seq, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("keeping a message: redis answered %w", err)
		}
		k.replies[i].record = record
		if seq > 0 {
			k.replies[i].place = presence.Place{Epoch: epoch, Seq: seq}
		}
	}
	return nil
}

// queueKey is the name of the list of what is kept for a user.
func (s *Store) queueKey(hub string, id presence.UserID) string {
	return s.key(hub, partition(id), "q:"+string(id))
}

// Recover implements presence.Store. The user's messages and the hub's are two
// calls: each is a series of its own.
func (s *Store) Recover(ctx context.Context, hub string, user presence.UserID, since presence.Offset, k presence.Keeping) (presence.Recovered, error) {
	var res presence.Recovered
	s.begin()
	s.hubs.LoadOrStore(hub, struct{}{})
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if err := s.learnTime(ctx); err != nil {
		return res, err
	}
	own, err := s.recover(ctx, hub, user, since.User, k)
	if err != nil {
		return res, s.result(ctx, "recovering messages", err)
	}
	all, err := s.recover(ctx, hub, everyone, since.Hub, k)
	if err := s.result(ctx, "recovering messages", err); err != nil {
		return res, err
	}
	res.Now = presence.Offset{User: own.now, Hub: all.now}
	if res.Complete = own.complete && all.complete; res.Complete {
		res.User, res.Hub = own.missed, all.missed
	}
	return res, nil
}

// recovered is what recover.lua returns of one series.
type recovered struct {
	now      presence.Place
	complete bool
	missed   []presence.Kept
}

func (s *Store) recover(ctx context.Context, hub string, id presence.UserID, since presence.Place, k presence.Keeping) (recovered, error) {
	var res recovered
	reply, err := s.run(ctx, recoverScript, append(s.keys(hub, partition(id)), s.queueKey(hub, id)),
		s.notAfter(), newEpoch(), k.Window.Milliseconds(), string(id), since.Epoch, since.Seq)
	if err != nil {
		return res, err
	}
	if len(reply) < 3 {
		return res, fmt.Errorf("redis answered %v", reply)
	}
	res.now.Epoch, _ = reply[0].(string)
	text, _ := reply[1].(string)
	if res.now.Seq, err = strconv.ParseInt(text, 10, 64); err != nil {
		return res, fmt.Errorf("redis answered %w", err)
	}
	complete, _ := reply[2].(int64)
	res.complete = complete == 1
	for _, v := range reply[3:] {
		entry, _ := v.(string)
		m, err := parseEntry(entry)
		if err != nil {
			return res, err
		}
		res.missed = append(res.missed, m)
	}
	return res, nil
}

var errBadEntry = errors.New("redis keeps a message that is none")

// parseEntry reads an entry of a list; see keep.lua.
func parseEntry(entry string) (presence.Kept, error) {
	const fields = 6 // seq, at, order, ttl, length of the collapse key, the rest
	f := strings.SplitN(entry, " ", fields)
	if len(f) != fields {
		return presence.Kept{}, errBadEntry
	}
	seq, seqErr := strconv.ParseInt(f[0], 10, 64)
	order, orderErr := strconv.ParseInt(f[2], 10, 64)
	length, lengthErr := strconv.Atoi(f[4])
	if seqErr != nil || orderErr != nil || lengthErr != nil || length < 0 || length > len(f[5]) {
		return presence.Kept{}, errBadEntry
	}
	return presence.Kept{Seq: seq, Order: order, Body: []byte(f[5][length:])}, nil
}
