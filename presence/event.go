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

	// EventUndelivered is a push that a user has not confirmed in time, though that
	// was asked for.
	EventUndelivered EventKind = "undelivered"
)

// EventKinds are all kinds.
var EventKinds = []EventKind{EventOpen, EventClose, EventOnline, EventOffline, EventUndelivered}

// Event is what has happened to a user. It is never changed.
type Event struct {
	Kind   EventKind
	Member *Member
	Conn   ConnID // the connection that came or went; of an offline user, its last
	Cause  Cause  // of EventClose and EventOffline
	At     time.Time
	Origin *Origin // of the connection, with EventOpen and EventClose; may be nil

	// Number, of EventOnline and EventOffline, grows from one event of a user to
	// the next, as long as Epoch is the same.
	Number int64
	Epoch  string

	// Push, of EventUndelivered, is the id of the push, and Body its message, as
	// fields of JSON: "data" or "text". The member has its id only.
	Push string
	Body []byte

	done func() // called when it was taken or given up; may be nil
}

// NewEvent is the event that a change is, of a store with an epoch.
func NewEvent(ch *Change, epoch string) *Event {
	return &Event{
		Kind: ch.Kind, Member: ch.Member, Conn: ch.Conn, Cause: ch.Cause, At: time.UnixMilli(ch.At),
		Number: ch.Seq, Epoch: epoch,
	}
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
	e := &Event{Kind: kind, Member: m, Conn: h.ConnID(a), Cause: cause, At: time.Now(), Origin: a.origin}
	if !h.teller.add(h, e, false) {
		h.gaveUp(e, errTooManyEvents)
	}
}

func (h *Hub) wants(kind EventKind) bool {
	events := h.settings.Load().Events
	return events != nil && events.Wants(kind)
}
