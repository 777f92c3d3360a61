package presence

import (
	"context"
	"errors"
	"sync"

	"go.uber.org/zap"
)

// EachOpen implements Local.
func (h *Hub) EachOpen(fn func(user UserID, num uint64)) {
	h.Range(func(c Conn) bool {
		a := c.Attachment()
		if m := a.Member(); m != nil {
			fn(m.ID, a.num)
		}
		return true
	})
}

// Has implements Local.
func (h *Hub) Has(user UserID, num uint64) bool {
	if h.left.Load() {
		return true // Leave takes all out, with a time to linger
	}
	a := h.attached(num)
	if a == nil {
		return false
	}
	m := a.member.Load() // set before the store is told
	return m != nil && m.ID == user
}

// Assert implements Local.
func (h *Hub) Assert(ctx context.Context, want func(UserID) bool, quiet bool) (int, error) {
	var failed error
	var mu sync.Mutex // guards the variables above and below
	n := 0
	h.eachAttachment(func(a *Attachment) bool {
		done, err := h.assertOne(a, want, quiet)
		mu.Lock()
		defer mu.Unlock()
		if done {
			n++
		}
		failed = errors.Join(failed, err)
		return err == nil && ctx.Err() == nil
	})
	return n, errors.Join(failed, ctx.Err())
}

func (h *Hub) assertOne(a *Attachment, want func(UserID) bool, quiet bool) (bool, error) {
	res, asserted, err := h.assertLocked(a, want, quiet)
	if err != nil || !asserted {
		return false, err
	}
	h.seat(a, res)
	if r := a.resume.Load(); r != nil {
		r.recheck()
	}
	return true, nil
}

// Resync implements Local.
func (h *Hub) Resync() {
	h.eachAttachment(func(a *Attachment) bool {
		if r := a.resume.Load(); r != nil {
			r.recheckNow()
		}
		return true
	})
}

func (h *Hub) assertLocked(a *Attachment, want func(UserID) bool, quiet bool) (OpenResult, bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	m := a.Member()
	if m == nil || a.sealed || a.pending || !want(m.ID) { // what is pending is told by debts
		return OpenResult{}, false, nil
	}
	// Later than what an earlier incarnation of this node may have left.
	res, err := h.register(a, h.Store(), m, opening{at: a.at + 1, quiet: quiet})
	return res, err == nil, err
}

// assertWorkers is how many connections are registered at once when many are.
const assertWorkers = 32

// eachAttachment calls fn for each attached connection, several at once, until one
// returns false.
func (h *Hub) eachAttachment(fn func(*Attachment) bool) {
	conns := make(chan *Attachment)
	stop := make(chan struct{})
	var once sync.Once
	var wg sync.WaitGroup
	for range assertWorkers {
		wg.Go(func() {
			for a := range conns {
				if !fn(a) {
					once.Do(func() { close(stop) })
				}
			}
		})
	}
	h.Range(func(c Conn) bool {
		select {
		case conns <- c.Attachment():
			return true
		case <-stop:
			return false
		}
	})
	close(conns)
	wg.Wait()
}

// move registers the open members with another store, then takes them out of
// the one that is no longer used.
func (h *Hub) move(from, to Store) {
	h.eachAttachment(func(a *Attachment) bool {
		h.moveOne(a, from, to)
		return true
	})
}

func (h *Hub) moveOne(a *Attachment, from, to Store) {
	a.mu.Lock()
	defer a.mu.Unlock()
	m := a.Member()
	if m == nil || a.sealed {
		return
	}
	old := Departure{User: m.ID, Conn: ConnID{Node: from.Node(), Num: a.num}, Cause: CauseStop}
	res, err := h.register(a, to, m, opening{quiet: true})
	if err != nil || !res.Accepted {
		h.settings.Load().Log.Error("member not moved to the new store",
			zap.String("hub", h.name), zap.Error(err))
	}
	h.depart(from, []Departure{old})
	if r := a.resume.Load(); r != nil {
		r.recheck()
	}
}
