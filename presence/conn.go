package presence

import (
	"sync"
	"sync/atomic"
	"time"
)

// Conn is what a hub needs of a connection. Its methods may be called
// concurrently, and none of them blocks.
type Conn interface {
	// Send hands over a message, after all that were handed over before.
	Send(m *Message) Outcome

	// Close begins to close the connection with a code. Only the first call
	// counts. Whoever reads from the connection calls Hub.Detach in the end.
	Close(code CloseCode, reason string)

	// Attachment returns the place that the connection has for what its hub
	// knows of it. It is always the same.
	Attachment() *Attachment
}

// Attachment is what a hub keeps of one connection. An implementation of Conn
// has one as a field and leaves it alone.
type Attachment struct {
	// Static after Hub.Attach.
	conn     Conn
	num      uint64
	identity UserID // the only id that may be opened, or empty
	origin   *Origin

	// Atomic: read by pushes and sweeps, written under mu.
	member atomic.Pointer[Member] // who the connection is; nil unless open or opening
	open   atomic.Bool            // the store has it
	beat   atomic.Int64           // as announced by the last open; see Beat
	opened atomic.Bool            // was open at some time

	// mu lets open, close, kick and detach of this connection follow one
	// another. It is held during store calls, and never together with the mu
	// of another Attachment. It guards the fields below.
	mu     sync.Mutex
	at     int64  // order of the last open, as the store gave it
	doubt  UserID // an open of this user timed out: the store may have it
	sealed bool   // the connection is ending: no open any more
}

// SetOrigin keeps what actions and events need of the handshake. It must be
// called before Hub.Attach, or not at all.
func (a *Attachment) SetOrigin(o *Origin) { a.origin = o }

// Member returns who the connection is, or nil if it is not open.
func (a *Attachment) Member() *Member {
	if !a.open.Load() {
		return nil
	}
	return a.member.Load()
}

// Opened reports whether the connection has ever been open.
func (a *Attachment) Opened() bool { return a.opened.Load() }

// Beat returns how often the client promised a data frame: negative if it said
// nothing, 0 if it only listens.
func (a *Attachment) Beat() time.Duration {
	if !a.opened.Load() {
		return -1
	}
	return time.Duration(a.beat.Load())
}
