package redisstore

import (
	"context"
	"fmt"
	"sync"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// openBatch is how many connections one call of open.lua registers: Redis does
// nothing else meanwhile.
const openBatch = 64

// opener gathers the opens of a partition that come while one is under way: many at
// once, as after a restart, then cost Redis half, and a part of the round trips. One
// that comes alone does not wait.
type opener struct {
	mu     sync.Mutex // guards the field below
	queues map[openPlace][]*opens
}

// openPlace is a partition of a hub, and the node whose connections open.
type openPlace struct {
	place
	node presence.NodeID
}

// opens is an open that is under way.
type opens struct {
	req   presence.OpenRequest
	reply []any // what open.lua returns for it
	err   error
	done  chan struct{} // closed when it is carried out
}

// open registers a connection.
func (s *Store) open(ctx context.Context, req presence.OpenRequest) ([]any, error) {
	at := openPlace{place{req.Hub, partition(req.Member.ID)}, req.Conn.Node}
	o := &opens{req: req, done: make(chan struct{})}
	if s.opener.add(at, o) {
		go s.carryOut(at)
	}
	select {
	case <-o.done:
		return o.reply, o.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// add puts an open in the queue of its partition. It returns true if somebody has to
// carry the queue out.
func (o *opener) add(at openPlace, one *opens) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.queues == nil {
		o.queues = make(map[openPlace][]*opens)
	}
	queue, running := o.queues[at]
	o.queues[at] = append(queue, one)
	return !running
}

// take removes what one call carries out; the queue goes when it is empty.
func (o *opener) take(at openPlace) []*opens {
	o.mu.Lock()
	defer o.mu.Unlock()
	queue := o.queues[at]
	n := min(len(queue), openBatch)
	if n == 0 {
		delete(o.queues, at)
		return nil
	}
	o.queues[at] = queue[n:]
	return queue[:n:n]
}

// carryOut carries out what is in a queue until it is empty.
func (s *Store) carryOut(at openPlace) {
	for batch := s.opener.take(at); len(batch) > 0; batch = s.opener.take(at) {
		replies, err := s.openSome(at, batch)
		for i, one := range batch {
			if one.err = err; err == nil {
				one.reply, _ = replies[i].([]any)
			}
			close(one.done)
		}
	}
}

// openSome carries out several opens of a partition in one call.
func (s *Store) openSome(at openPlace, batch []*opens) ([]any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	args := []any{s.notAfter(), string(at.node), newEpoch()}
	for _, one := range batch {
		req, m := &one.req, one.req.Member
		args = append(args, req.Max, string(m.ID), req.Conn.String(), req.At, m.Type, req.Seat, req.Device, []byte(m.JSON), flag(req.Quiet))
	}
	replies, err := s.run(ctx, openScript, s.keys(at.hub, at.partition), args...)
	if err == nil && len(replies) != len(batch) {
		err = fmt.Errorf("redis answered %d opens, want %d", len(replies), len(batch))
	}
	return replies, err
}
