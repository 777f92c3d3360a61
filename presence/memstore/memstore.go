// Package memstore keeps presence in the memory of one process. It needs
// nothing and knows nothing of other nodes; what it holds ends with the process.
package memstore

import (
	"context"
	"hash/fnv"
	"sync"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// partitions bounds contention, and how many ids one page has to sort.
const partitions = 64

// Store implements presence.Store.
type Store struct {
	// Static after New.
	node presence.NodeID
	done chan struct{} // closed by Shutdown

	clock  clock
	claims claims

	mu   sync.RWMutex // guards the fields below
	hubs map[string]*hub
	shut bool
}

type hub struct {
	parts   [partitions]partition
	changes changes
}

// New makes an empty store, and starts the goroutine that forgets users whose
// time of lingering is over; Shutdown ends it.
func New() *Store {
	s := &Store{
		node: presence.NewNodeID(),
		done: make(chan struct{}),
		hubs: make(map[string]*hub),
	}
	go s.sweep()
	return s
}

// Node implements presence.Store.
func (s *Store) Node() presence.NodeID { return s.node }

// Owns implements presence.Store.
func (s *Store) Owns(node presence.NodeID) bool { return node == s.node }

// Join implements presence.Store: memory loses nothing.
func (s *Store) Join(string, presence.Local) {}

// Leave implements presence.Store.
func (s *Store) Leave(string) {}

// Peers implements presence.Store: there are none.
func (s *Store) Peers(ctx context.Context) ([]presence.Peer, error) { return nil, ctx.Err() }

// Ask implements presence.Store: there is nobody to ask.
func (s *Store) Ask(string, presence.NodeID, []byte, time.Time) <-chan presence.Answer {
	answer := make(chan presence.Answer, 1)
	answer <- presence.Answer{Err: presence.ErrNodeGone}
	return answer
}

// Ready implements presence.Store.
func (s *Store) Ready() error { return nil }

// Check implements presence.Store: memory is always there.
func (s *Store) Check(ctx context.Context) error { return ctx.Err() }

// Shutdown implements presence.Store.
func (s *Store) Shutdown(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.shut {
		s.shut = true
		close(s.done)
	}
	return nil
}

// sweepInterval is how long a lingering user may be kept beyond its time; until
// then it is passed over. Claims, and what is kept, are looked through now and then.
const (
	sweepInterval = 250 * time.Millisecond
	claimSweeps   = 40
	forgetSweeps  = 20
)

func (s *Store) sweep() {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-s.done:
			return
		case <-tick.C:
		}
		if n%claimSweeps == 0 {
			s.claims.sweep(time.Now())
		}
		now := uptime()
		for _, h := range s.all() {
			for i := range h.parts {
				h.parts[i].expire(now, n%forgetSweeps == 0)
			}
		}
	}
}

func (s *Store) all() []*hub {
	s.mu.RLock()
	defer s.mu.RUnlock()
	hubs := make([]*hub, 0, len(s.hubs))
	for _, h := range s.hubs {
		hubs = append(hubs, h)
	}
	return hubs
}

// hub returns a hub by name; a new one is kept from then on.
func (s *Store) hub(name string) *hub {
	s.mu.RLock()
	h := s.hubs[name]
	s.mu.RUnlock()
	if h != nil {
		return h
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if h = s.hubs[name]; h == nil {
		h = new(hub)
		for i := range h.parts {
			h.parts[i].users = make(map[presence.UserID]*user)
			h.parts[i].types = make(map[string]int)
			h.parts[i].lingering = make(map[presence.UserID]*user)
			h.parts[i].changed = h.changes.add
			h.parts[i].series = make(map[presence.UserID]*series)
			h.parts[i].holding = make(map[presence.UserID]*series)
			h.parts[i].gone = make(map[presence.UserID]*series)
		}
		s.hubs[name] = h
	}
	return h
}

func partitionOf(id presence.UserID) int {
	f := fnv.New32a()
	_, _ = f.Write([]byte(id)) // never fails
	return int(f.Sum32() % partitions)
}

func (h *hub) part(id presence.UserID) *partition { return &h.parts[partitionOf(id)] }

// Open implements presence.Store.
func (s *Store) Open(ctx context.Context, req presence.OpenRequest) (presence.OpenResult, error) {
	if err := ctx.Err(); err != nil {
		return presence.OpenResult{}, err
	}
	if req.At == 0 {
		req.At = s.clock.next()
	}
	return s.hub(req.Hub).part(req.Member.ID).open(req), nil
}

// Close implements presence.Store.
func (s *Store) Close(ctx context.Context, hub string, gone []presence.Departure) ([]bool, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	h := s.hub(hub)
	found := make([]bool, len(gone))
	for i, d := range gone {
		found[i] = h.part(d.User).close(d)
	}
	return found, nil
}

// Lookup implements presence.Store.
func (s *Store) Lookup(ctx context.Context, hub string, ids []presence.UserID) ([]presence.User, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	h, now := s.hub(hub), uptime()
	users := make([]presence.User, 0, len(ids))
	for _, id := range ids {
		if u, ok := h.part(id).lookup(id, now); ok {
			users = append(users, u)
		}
	}
	return users, nil
}

// Count implements presence.Store.
func (s *Store) Count(ctx context.Context, hub, typ string) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	h, now, n := s.hub(hub), uptime(), 0
	for i := range h.parts {
		n += h.parts[i].count(typ, now)
	}
	return n, nil
}

func nowMilli() int64 { return time.Now().UnixMilli() }

var epoch = time.Now()

// uptime is for time limits: the system's clock may be set, and nobody must be
// offline for that.
func uptime() int64 { return time.Since(epoch).Milliseconds() }

// clock gives times that never repeat or go back, whatever the system's does.
type clock struct {
	mu   sync.Mutex // guards the field below
	last int64
}

func (c *clock) next() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = max(c.last+1, nowMilli())
	return c.last
}

var _ presence.Store = (*Store)(nil)
