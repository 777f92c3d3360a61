package presence

import (
	"context"
	"slices"
	"sync"
	"time"
)

// resumption is what a connection that resumes has been sent. Messages that are
// kept reach it in the order of their places, each once, in whatever order, and by
// whatever way, they come: what is missing in between is fetched from the store.
type resumption struct {
	// Static after newResumption.
	hub  *Hub
	a    *Attachment
	user UserID

	mu    sync.Mutex // guards the fields below
	begun bool       // begin was called, or beginLater
	knows bool       // the client knows that something may be lost
	at    Offset     // up to where messages were handed over
	live  bool       // messages are handed over as they come; else they are held
	ended bool
	due   bool           // a catch-up will come
	busy  bool           // one is under way
	again bool           // and another is to follow it
	held  []*keptMessage // for later, in the order in which they came
	acks  []awaited
}

// keptMessage is a message on its way to connections that resume.
type keptMessage struct {
	toMany bool     // its place is in the hub's series, not in the user's
	place  Place    // Seq 0: it is not kept
	body   []byte   // see envelope; nil: the message is not for this connection
	raw    *Message // for one that does not resume after all
	ack    bool     // a receipt is wanted
	report *Report  // nil: nobody counts it
}

// awaited is a message whose receipt is wanted.
type awaited struct {
	toMany bool
	place  Place
	report *Report
}

const (
	// gapPatience is how long a message waits for the one before it, which may
	// come from another node, before the store is asked.
	gapPatience = 100 * time.Millisecond

	// behindPause is how long a connection whose queue was full, or a store that
	// is away, is left alone.
	behindPause = 500 * time.Millisecond

	// maxHeld is how many messages a connection holds; the store has the others.
	maxHeld = 128

	// maxAwaited is how many receipts of a connection may be waited for.
	maxAwaited = 1024

	// maxRecoveries is how many connections of a hub look up what they have missed
	// at once.
	maxRecoveries = 64
)

func newResumption(h *Hub, a *Attachment, user UserID) *resumption {
	return &resumption{hub: h, a: a, user: user}
}

// deliver hands a message over, or holds it.
func (r *resumption) deliver(m *keptMessage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.deliverLocked(m) {
		r.releaseLocked()
	}
}

// deliverLocked reports whether the place has moved. r.mu must be held.
func (r *resumption) deliverLocked(m *keptMessage) bool {
	at := r.at.User
	if m.toMany {
		at = r.at.Hub
	}
	switch {
	case r.ended:
		m.record(Closed)
	case m.place.Seq == 0 && r.begun:
		r.sendLocked(m)
	case !r.live:
		r.holdLocked(m)
	case m.place.Epoch == at.Epoch && m.place.Seq <= at.Seq:
		m.record(Sent) // with what was missed
	case m.place.Epoch == at.Epoch && m.place.Seq == at.Seq+1:
		return r.sendLocked(m)
	default:
		r.holdLocked(m)
	}
	return false
}

// releaseLocked hands over what was held until now. r.mu must be held.
func (r *resumption) releaseLocked() {
	for moved := true; moved; {
		held := r.held
		r.held, moved = nil, false
		for _, m := range held {
			moved = r.deliverLocked(m) || moved
		}
	}
}

func (r *resumption) holdLocked(m *keptMessage) {
	if len(r.held) >= maxHeld {
		m.record(Full)
		return
	}
	r.held = append(r.held, m)
	if r.live {
		r.catchUpLocked(gapPatience)
	}
}

// sendLocked hands a message to the connection, and reports whether the place has
// moved. r.mu must be held.
func (r *resumption) sendLocked(m *keptMessage) bool {
	next := r.at
	switch {
	case m.place.Seq == 0:
	case m.toMany:
		next.Hub = m.place
	default:
		next.User = m.place
	}
	if m.body != nil {
		msg := NewMessage(envelope(next, m.place.Seq != 0, m.body))
		msg.report = m.report
		if m.ack && m.place.Seq != 0 && m.report != nil {
			r.awaitLocked(m)
		}
		out := r.a.conn.Send(msg)
		m.record(out)
		if out == Full {
			r.live = false
			r.catchUpLocked(behindPause)
			return false
		}
	}
	r.at = next
	return m.place.Seq != 0
}

// awaitLocked notes that a receipt is wanted. Those that nobody waits for any more are
// forgotten, or a client that gives none would fill the memory. r.mu must be held.
func (r *resumption) awaitLocked(m *keptMessage) {
	r.acks = slices.DeleteFunc(r.acks, func(w awaited) bool { return w.report.over.Load() })
	if len(r.acks) >= maxAwaited {
		r.acks[0].report.release()
		r.acks = slices.Delete(r.acks, 0, 1)
	}
	m.report.await()
	r.acks = append(r.acks, awaited{m.toMany, m.place, m.report})
}

// record counts what became of a message.
func (m *keptMessage) record(out Outcome) {
	if m.report != nil && m.body != nil {
		m.report.record(out)
	}
}

// recover looks up what was missed since an offset. Not too many do at once.
func (r *resumption) recover(since Offset) (Recovered, error) {
	r.hub.recoveries <- struct{}{}
	defer func() { <-r.hub.recoveries }()
	return r.hub.Store().Recover(context.Background(), r.hub.name, r.user, since, r.hub.settings.Load().Keeping)
}

// begin hands over what was missed since an offset, which the client has been told,
// then what came meanwhile and all that comes.
func (r *resumption) begin(since Offset, rec *Recovered) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun, r.at = true, since
	r.takeLocked(rec)
}

// beginLater is begin while the store is away: as soon as it is back, the client gets
// what it has missed, or is told that something is lost, unless it knows.
func (r *resumption) beginLater(since Offset, knows bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun, r.at, r.knows = true, since, knows
	held := r.held
	r.held = nil
	for _, m := range held {
		r.deliverLocked(m)
	}
	r.catchUpLocked(behindPause)
}

// takeLocked is begin, for a client that knows where it is. r.mu must be held.
func (r *resumption) takeLocked(rec *Recovered) {
	if r.a.Member() == nil {
		return // it is about to end
	}
	if rec.Complete {
		for _, m := range r.merge(rec) {
			r.live = true // or else it would be held
			if r.sendLocked(m); !r.live {
				return
			}
		}
	}
	r.at, r.live = rec.Now, true
	r.releaseLocked()
}

// catchUpLocked has what is missing fetched soon. r.mu must be held.
func (r *resumption) catchUpLocked(wait time.Duration) {
	if !r.due && !r.ended {
		r.due = true
		time.AfterFunc(wait, r.catchUp)
	}
}

// recheck looks soon whether something is missing, because the store may have lost
// it, or it was lost on its way.
func (r *resumption) recheck() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.live {
		r.live = false
		r.catchUpLocked(0)
	}
}

// recheckNow is recheck that returns when it is done.
func (r *resumption) recheckNow() {
	r.mu.Lock()
	r.live = false
	r.mu.Unlock()
	r.catchUp() // or begin does
}

func (r *resumption) catchUp() {
	r.mu.Lock()
	r.due = false
	if r.ended || !r.begun || r.live && len(r.held) == 0 {
		r.mu.Unlock()
		return
	}
	if r.busy {
		r.again = true
		r.mu.Unlock()
		return
	}
	r.busy, r.live = true, false
	since := r.at
	r.mu.Unlock()
	rec, err := r.recover(since)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy = false
	switch {
	case r.ended:
		return
	case err != nil, !r.tellLocked(&rec):
		r.catchUpLocked(behindPause)
	default:
		r.takeLocked(&rec)
	}
	if r.again { // something may be missing since it was looked up
		r.again, r.live = false, false
		r.catchUpLocked(gapPatience)
	}
}

// tellLocked tells the client if something is lost, unless it knows. It returns false
// if that must wait. r.mu must be held.
func (r *resumption) tellLocked(rec *Recovered) bool {
	if !rec.Complete && !r.knows {
		if r.a.conn.Send(NewMessage(lostFrame(rec.Now))) == Full {
			return false
		}
		r.hub.stats.lost.Add(1)
	}
	r.knows = false
	return true
}

// acked notes that the client has got all up to an offset.
func (r *resumption) acked(o Offset) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o.User.Epoch == r.at.User.Epoch && o.User.Seq > r.at.User.Seq || o.Hub.Epoch == r.at.Hub.Epoch && o.Hub.Seq > r.at.Hub.Seq {
		return frameErrorf(ErrorBadFrame, "nothing was sent up to offset %s", o)
	}
	waiting := r.acks[:0]
	for _, w := range r.acks {
		to := o.User
		if w.toMany {
			to = o.Hub
		}
		if to.Epoch == w.place.Epoch && to.Seq >= w.place.Seq {
			w.report.acked(r.user)
		} else {
			waiting = append(waiting, w)
		}
	}
	clear(r.acks[len(waiting):])
	r.acks = waiting
	return nil
}

// end forgets what is held, because the connection is no longer open. What was kept
// is still kept.
func (r *resumption) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	r.ended = true
	for _, m := range r.held {
		m.record(Closed)
	}
	for _, w := range r.acks {
		w.report.release()
	}
	r.held, r.acks = nil, nil
}

// giveUp makes the connection one that does not resume. What is held reaches it as
// it is.
func (r *resumption) giveUp() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.a.resume.CompareAndSwap(r, nil)
	for _, m := range r.held {
		if m.body != nil && m.raw != nil {
			m.report.record(r.a.conn.Send(m.raw))
		}
	}
	r.held, r.ended = nil, true
}
