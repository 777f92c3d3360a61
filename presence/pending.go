package presence

import (
	"context"
	"errors"
)

// While the store is away connections open all the same: pushes to types, to all
// and to the ids of this node reach them, and the store is told when it is back.

// keep makes a connection open that the store could not be told of. a.mu must be
// held.
func (h *Hub) keep(a *Attachment, m *Member, at int64) {
	if !a.open.Load() {
		h.stats.members.Add(1)
	}
	a.member.Store(m)
	a.at, a.doubt, a.pending = at, nil, true
	a.open.Store(true)
	h.debts.owe(h, a)
}

// settle tells the store of a connection that was kept. It returns an error if
// that is still away.
func (h *Hub) settle(a *Attachment) error {
	res, asserted, err := h.settleLocked(a)
	if err != nil || !asserted {
		return err
	}
	h.seat(a, res)
	return nil
}

func (h *Hub) settleLocked(a *Attachment) (OpenResult, bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	m := a.Member()
	if m == nil || a.sealed || !a.pending {
		return OpenResult{}, false, nil
	}
	res, err := h.register(a, h.Store(), m, opening{at: a.at})
	return res, err == nil, err
}

// byIDHere selects users by what this node knows, because the store is away.
func (s *selector) byIDHere(ids []UserID) {
	wanted := setOf(ids)
	found := make(map[UserID]struct{})
	s.hub.Range(func(c Conn) bool {
		a := c.Attachment()
		m := a.Member()
		if m == nil {
			return true
		}
		if _, ok := wanted[m.ID]; ok {
			found[m.ID] = struct{}{}
			if !s.except.covers(s.hub.ConnID(a), m) {
				s.add(a, m.ID)
			}
		}
		return true
	})
	for _, id := range ids {
		if _, ok := found[id]; !ok {
			s.sel.unknown = append(s.sel.unknown, id)
		}
	}
	s.sel.incomplete = true
}

// lookedUp is the store's answer to a look-up, or false if it is away.
func (s *selector) lookedUp(ctx context.Context, p *Push, ids []UserID) ([]User, bool, error) {
	var users []User
	var err error
	if s.known != nil {
		for _, id := range ids {
			if u := s.known[id]; u != nil {
				users = append(users, *u)
			}
		}
		return users, true, nil
	}
	if p.broad() || !s.hub.keeps() {
		users, err = s.hub.Store().Lookup(ctx, s.hub.name, ids)
	} else {
		users, err = s.keepForUsers(ctx, p, ids)
	}
	if errors.Is(err, ErrStoreUnavailable) {
		return nil, false, nil
	}
	return users, true, err
}
