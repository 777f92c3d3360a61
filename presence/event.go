package presence

import (
	"context"
	"time"
)

// EventKind says what has happened. The list is closed.
type EventKind string

const (
	EventOpen    EventKind = "open"    // a connection is open for a user
	EventClose   EventKind = "close"   // it no longer is
	EventOnline  EventKind = "online"  // a user was offline, and has a connection
	EventOffline EventKind = "offline" // the user's last connection has ended, and its time of lingering too
)

// EventKinds are all kinds.
var EventKinds = []EventKind{EventOpen, EventClose, EventOnline, EventOffline}

// Event is what has happened to a user. It is never changed.
type Event struct {
	Kind   EventKind
	Member *Member
	Conn   ConnID // the connection that came or went; of an offline user, its last
	Cause  Cause  // of EventClose and EventOffline
	At     time.Time
	Origin *Origin // of the connection; may be nil
}

// Events are told what happens. Its methods may be called concurrently.
type Events interface {
	// Wants reports whether events of a kind are of any use.
	Wants(EventKind) bool

	// Emit is called once for an event, before Tell.
	Emit(*Event)

	// Tell hands an event over. It is called again after an error, for some
	// time, unless that is a *FrameError with ErrorRefused in its chain. When
	// ctx ends it should return. ErrActionsRetired means that nothing was done.
	Tell(ctx context.Context, e *Event) error
}

// tell hands an event to whoever wants it; it does not wait.
func (h *Hub) tell(kind EventKind, m *Member, a *Attachment, cause Cause) {
	if !h.wants(kind) {
		return
	}
	h.teller.add(h, &Event{
		Kind: kind, Member: m, Conn: h.ConnID(a), Cause: cause, At: time.Now(), Origin: a.origin,
	})
}

func (h *Hub) wants(kind EventKind) bool {
	events := h.settings.Load().Events
	return events != nil && events.Wants(kind)
}

// opened tells that a connection is open. a.mu must be held.
func (h *Hub) opened(a *Attachment, m *Member, res OpenResult) {
	h.tell(EventOpen, m, a, "")
	if res.Online {
		h.cameOnline(a, m)
	} else {
		h.departures.cameBack(h, m.ID, false)
	}
}

// cameOnline tells that the user of a connection was offline, and no longer is.
// a.mu must be held.
func (h *Hub) cameOnline(a *Attachment, m *Member) {
	h.departures.cameBack(h, m.ID, true)
	h.tell(EventOnline, m, a, "")
}

// closed tells that a connection is no longer open and, unless it was replaced
// or the node stops, that its user will be offline if this was the last one.
// a.mu must be held.
func (h *Hub) closed(a *Attachment, m *Member, cause Cause, linger time.Duration) {
	h.tell(EventClose, m, a, cause)
	if cause == CauseReplaced || cause == CauseStop || !h.wants(EventOffline) {
		return
	}
	h.departures.add(h, &Event{
		Kind: EventOffline, Member: m, Conn: h.ConnID(a), Cause: cause, Origin: a.origin,
	}, linger)
}
