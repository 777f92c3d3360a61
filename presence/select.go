package presence

import (
	"context"
	"errors"
	"slices"
)

// selection is whom a push goes to.
type selection struct {
	conns   []Conn              // of this node
	remote  []ConnID            // of other nodes, as the store says
	owners  []UserID            // of remote, one for one
	named   []ConnID            // of other nodes, as the push says: nobody knows whether they are there
	users   map[UserID]struct{} // online
	matched int                 // how many they are
	queued  int                 // users that it is kept for, and that have no connection
	kept    *keptPush
	offline []UserID // ids that were named and have no open connection
	ended   int      // connections of this node that closed since the look-up

	// While the store is away:
	unknown    []UserID // ids that were named, and are not on this node
	incomplete bool     // other nodes are left out
}

// selectMembers finds the connections that a push names, each once. found are users
// that were looked up already; nil if none were.
func (h *Hub) selectMembers(ctx context.Context, p *Push, id string, found map[UserID]*User) (selection, error) {
	s := selector{hub: h, except: newExclusion(&p.Except), combined: p.To.combined(), known: found}
	s.sel.kept = newKeptPush(p, id)
	if p.broad() {
		if err := s.keepForAll(ctx, p); errors.Is(err, ErrStoreUnavailable) {
			s.sel.incomplete = true
		} else if err != nil {
			return selection{}, err
		}
	}
	if len(p.To.IDs) > 0 {
		if err := s.byID(ctx, p); err != nil {
			return selection{}, err
		}
	}
	if p.broad() {
		s.broad(p.To.All, setOf(p.To.Types))
	}
	for _, id := range p.To.Conns {
		s.byConn(id)
		if !h.Store().Owns(id.Node) && !p.excepts(id) {
			s.sel.named = append(s.sel.named, id)
		}
	}
	s.sel.matched, s.sel.users = len(s.users), s.users
	return s.sel, nil
}

// excepts reports whether a push leaves out a connection by its id.
func (p *Push) excepts(id ConnID) bool { return slices.Contains(p.Except.Conns, id) }

type selector struct {
	hub    *Hub
	except exclusion
	sel    selection
	users  map[UserID]struct{}
	known  map[UserID]*User // what was looked up already; nil: nothing was

	combined bool                // a connection may be selected in more than one way
	seen     map[uint64]struct{} // then, those of this node that are in sel
}

// combined reports whether the selector names connections in several ways.
func (s *Selector) combined() bool {
	broad := s.All || len(s.Types) > 0
	return len(s.Conns) > 0 || broad && len(s.IDs) > 0
}

func (s *selector) byID(ctx context.Context, p *Push) error {
	ids := unique(p.To.IDs)
	users, there, err := s.lookedUp(ctx, p, ids)
	if err != nil {
		return err
	}
	if !there {
		s.byIDHere(ids)
		return nil
	}
	online := make(map[UserID]struct{}, len(users))
	for i := range users {
		u := &users[i]
		if u.Lingering {
			continue
		}
		online[u.ID] = struct{}{}
		for _, c := range u.Conns {
			if !s.except.covers(c.ID, c.Member) {
				s.take(c.ID, u.ID)
			}
		}
	}
	for _, id := range ids {
		if _, ok := online[id]; !ok {
			s.sel.offline = append(s.sel.offline, id)
		}
	}
	return nil
}

// take adds a connection that the store knows.
func (s *selector) take(id ConnID, user UserID) {
	a := s.hub.local(id)
	switch {
	case a == nil && !s.hub.Store().Owns(id.Node):
		s.markUser(user)
		s.sel.remote = append(s.sel.remote, id)
		s.sel.owners = append(s.sel.owners, user)
	case a == nil || a.member.Load() == nil:
		// The member is there before the store knows the connection, so without
		// one it has closed since the look-up.
		s.markUser(user)
		s.sel.ended++
	default:
		s.add(a, user)
	}
}

func (s *selector) add(a *Attachment, user UserID) {
	if s.combined {
		if _, ok := s.seen[a.num]; ok {
			return
		}
		if s.seen == nil {
			s.seen = make(map[uint64]struct{})
		}
		s.seen[a.num] = struct{}{}
	}
	s.markUser(user)
	s.sel.conns = append(s.sel.conns, a.conn)
}

func (s *selector) markUser(user UserID) {
	if s.users == nil {
		s.users = make(map[UserID]struct{})
	}
	s.users[user] = struct{}{}
}

// broad adds the open connections of this node, all of them or by type.
func (s *selector) broad(all bool, types map[string]struct{}) {
	if n := s.hub.Connections(); all && s.users == nil {
		s.users = make(map[UserID]struct{}, n)
		s.sel.conns = make([]Conn, 0, n)
	}
	s.hub.Range(func(c Conn) bool {
		a := c.Attachment()
		m := a.Member()
		if m == nil {
			return true
		}
		if _, ok := types[m.Type]; (all || ok) && !s.except.covers(s.hub.ConnID(a), m) {
			s.add(a, m.ID)
		} else if r := a.resume.Load(); r != nil {
			s.sel.kept.passed = append(s.sel.kept.passed, r)
		}
		return true
	})
}

// byConn adds a connection unless it is excepted. It returns false if it is not
// open here, nor about to be: another node may have found it in the store already.
func (s *selector) byConn(id ConnID) bool {
	a := s.hub.local(id)
	if a == nil {
		return false
	}
	m := a.member.Load()
	if m != nil && !s.except.covers(id, m) {
		s.add(a, m.ID)
	}
	return m != nil
}

// exclusion is a selector as sets.
type exclusion struct {
	ids   map[UserID]struct{}
	types map[string]struct{}
	conns map[ConnID]struct{}
}

func newExclusion(s *Selector) exclusion {
	return exclusion{ids: setOf(s.IDs), types: setOf(s.Types), conns: setOf(s.Conns)}
}

func (e *exclusion) covers(id ConnID, m *Member) bool {
	_, byID := e.ids[m.ID]
	_, byType := e.types[m.Type]
	_, byConn := e.conns[id]
	return byID || byType || byConn
}

func setOf[K comparable](keys []K) map[K]struct{} {
	if len(keys) == 0 {
		return nil
	}
	set := make(map[K]struct{}, len(keys))
	for _, k := range keys {
		set[k] = struct{}{}
	}
	return set
}

// unique returns keys without repetitions, in the order of their first place.
func unique[K comparable](keys []K) []K {
	if len(keys) < 2 {
		return keys
	}
	set := make(map[K]struct{}, len(keys))
	out := make([]K, 0, len(keys))
	for _, k := range keys {
		if _, ok := set[k]; !ok {
			set[k] = struct{}{}
			out = append(out, k)
		}
	}
	return out
}
