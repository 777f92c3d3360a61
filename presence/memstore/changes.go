package memstore

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

const (
	// listenTime is how long changes are kept for who has asked for them.
	listenTime = 10 * time.Minute

	// maxChanges is how many are kept.
	maxChanges = 50_000
)

// changes are the log of a hub.
type changes struct {
	mu     sync.Mutex // guards the fields below; taken under that of a partition
	list   []presence.Change
	last   int64 // place of the newest, in the list or not
	until  int64 // as uptime says, when nobody listens any more
	listen bool
}

// add writes a change down, if somebody listens.
func (c *changes) add(ch presence.Change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	if !c.listen {
		return
	}
	if uptime() >= c.until {
		c.listen, c.list = false, nil
		return
	}
	ch.Seq, ch.At = c.last, nowMilli()
	if len(c.list) >= maxChanges {
		c.list = append(c.list[:0:0], c.list[maxChanges/2:]...)
	}
	c.list = append(c.list, ch)
}

// listening notes that somebody listens. c.mu must be held.
func (c *changes) listening() {
	if !c.listen {
		c.listen, c.list = true, nil
	}
	c.until = uptime() + listenTime.Milliseconds()
}

// Position implements presence.Store.
func (s *Store) Position(ctx context.Context, hub string) (presence.Position, error) {
	if err := ctx.Err(); err != nil {
		return presence.Position{}, err
	}
	c := &s.hub(hub).changes
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listening()
	return s.position(c.last), nil
}

func (s *Store) position(seq int64) presence.Position {
	return presence.Position{Epoch: string(s.node), Seqs: []int64{seq}}
}

// pageChanges is how many changes one call returns.
const pageChanges = 1000

// Changes implements presence.Store.
func (s *Store) Changes(ctx context.Context, hub string, after presence.Position) ([]presence.Change, presence.Position, error) {
	if err := ctx.Err(); err != nil {
		return nil, after, err
	}
	if after.Epoch != string(s.node) || len(after.Seqs) != 1 {
		return nil, after, fmt.Errorf("%w: they are of another process", presence.ErrChangesLost)
	}
	c := &s.hub(hub).changes
	c.mu.Lock()
	defer c.mu.Unlock()
	seq := after.Seqs[0]
	kept := c.last - int64(len(c.list)) // the place before the first in the list
	if seq < kept || seq > c.last {
		return nil, after, presence.ErrChangesLost
	}
	c.listening()
	page := c.list[seq-kept:]
	page = page[:min(len(page), pageChanges)]
	return append([]presence.Change(nil), page...), s.position(seq + int64(len(page))), nil
}

// TakeTurn implements presence.Store: there is no other process.
func (s *Store) TakeTurn(ctx context.Context, _ string, told presence.Position, _ bool) (presence.Turn, error) {
	return presence.Turn{Mine: true, Told: told}, ctx.Err()
}

// LeaveTurn implements presence.Store.
func (s *Store) LeaveTurn(ctx context.Context, _ string) error { return ctx.Err() }

// TurnTime implements presence.Store.
func (s *Store) TurnTime() time.Duration { return time.Hour }
