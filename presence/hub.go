package presence

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// Settings are what the operator says about a hub. They may change while it
// lives: a configuration that is loaded gives new ones.
type Settings struct {
	Store    Store
	Sessions Sessions

	// Grace is how long a user lingers whose connection was lost.
	Grace time.Duration

	// StopGrace is how long the users of a node that stops linger: they come
	// back elsewhere.
	StopGrace time.Duration

	// Actions carries out what is not the hub's own; nil: nothing does.
	Actions Actions

	// Events are told what happens; nil: nobody is.
	Events Events

	// Keeping is how much is kept for users that resume.
	Keeping Keeping

	// ActionTimeout is how long an action or the telling of an event may take, MaxActions how many may run
	// or wait; 0: no limit.
	ActionTimeout time.Duration
	MaxActions    int

	Log *zap.Logger
}

// Sessions says how many connections of a user may be open at once.
type Sessions struct {
	// Max is how many connections share a seat; the oldest goes first. 1 is
	// "newest": a new connection takes the place of the earlier one.
	Max int

	// By names the member's field whose value is the seat; empty: all of a
	// user's connections have the same seat.
	By string
}

// Hub is a named set of members that can be reached together. It owns what this
// process knows of its connections; the Store knows who is online over all
// nodes. All methods may be called concurrently.
type Hub struct {
	// Static after NewHub.
	name  string
	stats Stats

	settings atomic.Pointer[Settings]
	lastNum  atomic.Uint64
	shards   [hubShards]hubShard
	left     atomic.Bool // Leave was called
	debts    debts
	outbox   outbox
	lines    lines
	failures gate // of log lines

	teller   teller
	follower follower

	recoveries chan struct{} // has place for those that look up what they have missed
}

// hubShards bounds contention between connections that come and go.
const hubShards = 64

type hubShard struct {
	mu    sync.RWMutex // guards the field below
	conns map[uint64]*Attachment
}

// NewHub makes a hub without connections. Configure must be called before
// anything else.
func NewHub(name string) *Hub {
	h := &Hub{name: name, recoveries: make(chan struct{}, maxRecoveries)}
	for i := range h.shards {
		h.shards[i].conns = make(map[uint64]*Attachment)
	}
	return h
}

// Name returns the name of the hub.
func (h *Hub) Name() string { return h.name }

// Store returns where the hub's members are kept.
func (h *Hub) Store() Store { return h.settings.Load().Store }

// Configure sets or replaces the settings, for connections that are there too.
// If the store is another one, the open members are moved over to it before
// Configure returns.
func (h *Hub) Configure(s Settings) {
	old := h.settings.Swap(&s)
	h.follower.launch(h)
	if old != nil && old.Store == s.Store {
		return
	}
	s.Store.Join(h.name, h)
	if old != nil {
		old.Store.Leave(h.name)
		h.move(old.Store, s.Store)
	}
}

// Attach takes a connection in. It is not open yet: that takes an open frame,
// which can name only the identity, or leave its id out, if there is one.
func (h *Hub) Attach(c Conn, identity UserID) {
	a := c.Attachment()
	a.conn, a.num, a.identity = c, h.lastNum.Add(1), identity
	h.stats.connections.Add(1)
	s := h.shard(a.num)
	s.mu.Lock()
	s.conns[a.num] = a
	s.mu.Unlock()
}

// Detach forgets a connection that has ended, and takes it out of presence. It
// must be called for each attached connection; calling it again does nothing.
func (h *Hub) Detach(c Conn, cause Cause) {
	a := c.Attachment()
	h.lines.leave(a.num)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sealed = true
	h.leave(a, cause)
	s := h.shard(a.num)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.conns[a.num]; ok {
		delete(s.conns, a.num)
		h.stats.connections.Add(-1)
	}
}

// ConnID returns the id of an attached connection.
func (h *Hub) ConnID(a *Attachment) ConnID {
	return ConnID{Node: h.Store().Node(), Num: a.num}
}

// Range calls fn for each attached connection, without holding a lock
// meanwhile, until fn returns false.
func (h *Hub) Range(fn func(Conn) bool) {
	var conns []Conn
	for i := range h.shards {
		s := &h.shards[i]
		conns = conns[:0]
		s.mu.RLock()
		for _, a := range s.conns {
			conns = append(conns, a.conn)
		}
		s.mu.RUnlock()
		for _, c := range conns {
			if !fn(c) {
				return
			}
		}
	}
}

// Connections returns how many connections are attached, open or not.
func (h *Hub) Connections() int { return int(h.stats.connections.Load()) }

func (h *Hub) shard(num uint64) *hubShard { return &h.shards[num%hubShards] }

// attached returns the connection with a number, or nil.
func (h *Hub) attached(num uint64) *Attachment {
	s := h.shard(num)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.conns[num]
}

// local returns the connection with an id, or nil if it is not attached here.
func (h *Hub) local(id ConnID) *Attachment {
	if !h.Store().Owns(id.Node) {
		return nil
	}
	return h.attached(id.Num)
}

// linger is how long a user stays listed after its last connection ended so.
func (s *Settings) linger(cause Cause) time.Duration {
	switch cause {
	case CauseLost, CauseExpired:
		return s.Grace
	case CauseStop:
		return s.StopGrace
	default:
		return 0
	}
}

// leave takes a connection out of presence, if it is open. a.mu must be held.
// What the store cannot be told now is told when it is back.
func (h *Hub) leave(a *Attachment, cause Cause) {
	s := h.settings.Load()
	gone := Departure{Conn: h.ConnID(a), At: a.at, Cause: cause}
	m := a.Member()
	switch {
	case m != nil:
		gone.User, gone.Linger = m.ID, s.linger(cause)
		h.forget(a)
	case a.doubt != nil:
		gone.User, gone.At = a.doubt.ID, 0
	default:
		return
	}
	a.doubt = nil
	h.depart(s.Store, []Departure{gone})
	if m != nil {
		h.tell(EventClose, m, a, cause)
	}
}

// forget makes an open connection one that is not open. a.mu must be held.
func (h *Hub) forget(a *Attachment) {
	a.open.Store(false)
	a.pending = false
	a.member.Store(nil)
	h.stats.members.Add(-1)
	if r := a.resume.Swap(nil); r != nil {
		r.end()
	}
}

// depart tells a store that connections left; what it cannot take now is owed.
func (h *Hub) depart(store Store, gone []Departure) {
	if _, err := store.Close(context.Background(), h.name, gone); err != nil {
		h.debts.add(h, store, gone)
	}
}

// Leave takes all open connections out of presence in one batch, because this
// node stops. The connections themselves stay attached.
func (h *Hub) Leave() {
	h.left.Store(true)
	s := h.settings.Load()
	var gone []Departure
	h.Range(func(c Conn) bool {
		a := c.Attachment()
		a.mu.Lock()
		defer a.mu.Unlock()
		if m := a.Member(); m != nil {
			gone = append(gone, Departure{User: m.ID, Conn: h.ConnID(a), At: a.at, Linger: s.linger(CauseStop), Cause: CauseStop})
			h.forget(a)
			h.tell(EventClose, m, a, CauseStop)
		}
		a.sealed = true
		return true
	})
	if len(gone) > 0 {
		h.depart(s.Store, gone)
	}
}
