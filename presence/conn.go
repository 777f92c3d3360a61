package presence

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is what a hub needs of a connection. Its methods may be called
// concurrently, and none of them blocks.
type Conn interface {
	// Send hands over a message, after all that were handed over before.
	Send(m *Message) Outcome

	// SendBurst is Send for each message of a burst, in order; outcomes has
	// place for as many.
	SendBurst(b *Burst, outcomes []Outcome)

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
	member atomic.Pointer[Member]     // who the connection is; nil unless open or opening
	resume atomic.Pointer[resumption] // nil unless the connection resumes
	beat   atomic.Uint32              // in milliseconds, as announced by the last open; see Beat
	open   atomic.Bool                // the store has it
	opened atomic.Bool                // was open at some time

	// mu lets open, close, kick and detach of this connection follow one
	// another. It is held during store calls, and never together with the mu
	// of another Attachment. It guards the fields below.
	mu      sync.Mutex
	sealed  bool    // the connection is ending: no open any more
	pending bool    // it is open, and the store has not been told
	at      int64   // order of the last open, as the store gave it
	doubt   *Member // an open as this one was refused: the store may have it
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

// noBeat stands for a client that said nothing of a beat.
const noBeat = math.MaxUint32

// setBeat keeps what an open frame announced; negative: nothing.
func (a *Attachment) setBeat(d time.Duration) {
	if d < 0 {
		a.beat.Store(noBeat)
		return
	}
	a.beat.Store(uint32((d + time.Millisecond - 1) / time.Millisecond))
}

// Beat returns how often the client promised a data frame: negative if it said
// nothing, 0 if it only listens.
func (a *Attachment) Beat() time.Duration {
	beat := a.beat.Load()
	if !a.opened.Load() || beat == noBeat {
		return -1
	}
	return time.Duration(beat) * time.Millisecond
}
