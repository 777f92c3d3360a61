package memstore

import (
	"context"
	"slices"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// everyone is the user whose series has the messages to the whole hub: no user
// has the empty id.
const everyone = presence.UserID("")

// series is what is kept for a user that resumes. Its partition's mu guards it.
type series struct {
	seq    int64 // of the newest message
	floor  int64 // the highest that was dropped: who has it has missed nothing
	window int64 // in milliseconds
	until  int64 // when a user that is gone is forgotten, as uptime says; 0: it is not gone
	kept   []kept
}

type kept struct {
	presence.Kept
	at       int64 // as uptime says
	until    int64 // when it is no longer worth getting, as uptime says; 0: never
	collapse string
}

// Keep implements presence.Store.
func (s *Store) Keep(ctx context.Context, ids []presence.UserID, req presence.KeepRequest) ([]presence.KeptUser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	h, order := s.hub(req.Hub), s.clock.next()
	users := make([]presence.KeptUser, 0, len(ids))
	for _, id := range ids {
		if u, ok := h.part(id).keep(id, order, req); ok {
			if u.Place.Seq > 0 {
				u.Place.Epoch = string(s.node)
			}
			users = append(users, u)
		}
	}
	return users, nil
}

// KeepForAll implements presence.Store.
func (s *Store) KeepForAll(ctx context.Context, req presence.KeepRequest) (presence.Place, error) {
	if err := ctx.Err(); err != nil {
		return presence.Place{}, err
	}
	p, order := s.hub(req.Hub).part(everyone), s.clock.next()
	p.mu.Lock()
	defer p.mu.Unlock()
	seq := p.keepFor(everyone, p.begin(everyone, req.Keeping), order, req)
	return presence.Place{Epoch: string(s.node), Seq: seq}, nil
}

// Recover implements presence.Store.
func (s *Store) Recover(ctx context.Context, hub string, user presence.UserID, since presence.Offset, k presence.Keeping) (presence.Recovered, error) {
	var res presence.Recovered
	if err := ctx.Err(); err != nil {
		return res, err
	}
	h, epoch := s.hub(hub), string(s.node)
	own, seq, ownOK := h.part(user).recover(user, epoch, since.User, k)
	res.Now.User = presence.Place{Epoch: epoch, Seq: seq}
	all, seq, allOK := h.part(everyone).recover(everyone, epoch, since.Hub, k)
	res.Now.Hub = presence.Place{Epoch: epoch, Seq: seq}
	if res.Complete = ownOK && allOK; res.Complete {
		res.User, res.Hub = own, all
	}
	return res, nil
}

// keep keeps a message for a user if it resumes, and looks it up.
func (p *partition) keep(id presence.UserID, order int64, req presence.KeepRequest) (presence.KeptUser, bool) {
	p.mu.RLock()
	resumes := p.series[id] != nil
	p.mu.RUnlock()
	if !resumes {
		u, ok := p.lookup(id, uptime())
		return presence.KeptUser{User: u}, ok
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := uptime()
	res := presence.KeptUser{User: presence.User{ID: id}, Gone: true}
	if u := p.users[id]; u != nil && !u.over(now) {
		res.User, res.Gone = u.show(), false
	}
	q := p.series[id]
	if q == nil || res.Gone && q.until > 0 && q.until <= now {
		return res, !res.Gone
	}
	res.Place.Seq = p.keepFor(id, q, order, req)
	return res, true
}

// begin returns the series of a user, from then on. p.mu must be held.
func (p *partition) begin(id presence.UserID, k presence.Keeping) *series {
	q := p.series[id]
	if q == nil {
		// Numbers of an earlier life are below the clock.
		now := nowMilli()
		q = &series{seq: now, floor: now}
		p.series[id] = q
	}
	q.window = k.Window.Milliseconds()
	return q
}

// keepFor adds a message to a series, and returns its place. p.mu must be held.
func (p *partition) keepFor(id presence.UserID, q *series, order int64, req presence.KeepRequest) int64 {
	now := uptime()
	q.window = req.Window.Milliseconds()
	if req.Collapse != "" {
		q.kept = slices.DeleteFunc(q.kept, func(m kept) bool { return m.collapse == req.Collapse })
	}
	q.seq++
	add := kept{Kept: presence.Kept{Seq: q.seq, Order: order, Body: req.Body}, at: now, collapse: req.Collapse}
	if req.TTL > 0 {
		add.until = now + req.TTL.Milliseconds()
	}
	q.kept = append(q.kept, add)
	q.drop(now, req.Messages)
	p.holding[id] = q
	return q.seq
}

// drop drops the messages that are too old, and the oldest beyond most.
func (q *series) drop(now int64, most int) {
	n := 0
	for n < len(q.kept) && (len(q.kept)-n > most || now-q.kept[n].at >= q.window) {
		q.floor = q.kept[n].Seq
		n++
	}
	q.kept = slices.Delete(q.kept, 0, n)
}

// recover returns what a series has since a place, up to where it is, and
// whether nothing is missing.
func (p *partition) recover(id presence.UserID, epoch string, since presence.Place, k presence.Keeping) ([]presence.Kept, int64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, q := uptime(), p.begin(id, k)
	if id != everyone && p.users[id] == nil {
		p.leave(id) // until it opens
	}
	q.drop(now, k.Messages)
	if since.Epoch != epoch || since.Seq < q.floor || since.Seq > q.seq {
		return nil, q.seq, false
	}
	var missed []presence.Kept
	for _, m := range q.kept {
		if m.Seq > since.Seq && (m.until == 0 || m.until > now) {
			missed = append(missed, m.Kept)
		}
	}
	return missed, q.seq, true
}

// leave takes note that a user is offline. p.mu must be held.
func (p *partition) leave(id presence.UserID) {
	if q := p.series[id]; q != nil {
		q.until = uptime() + q.window
		p.gone[id] = q
	}
}

// comeBack takes note that a user is not offline. p.mu must be held.
func (p *partition) comeBack(id presence.UserID) {
	if q := p.gone[id]; q != nil {
		q.until = 0
		delete(p.gone, id)
	}
}

// forget drops what is too old, and the users that have been offline for the
// window. p.mu must be held.
func (p *partition) forget(now int64) {
	for id, q := range p.holding {
		q.drop(now, len(q.kept))
		if len(q.kept) == 0 {
			q.kept = nil
			delete(p.holding, id)
		}
	}
	for id, q := range p.gone {
		if q.until <= now {
			delete(p.gone, id)
			delete(p.holding, id)
			delete(p.series, id)
		}
	}
}
