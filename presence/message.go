package presence

import (
	"encoding/binary"
	"maps"
	"sync"
	"sync/atomic"
)

// Message is a text message on its way to any number of connections. It is
// encoded once, and never changed afterwards.
type Message struct {
	frame  []byte // the whole WebSocket frame, unmasked (RFC 6455, section 5.2)
	report *Report

	deflate  sync.Once // makes the field below, for the first that wants it
	deflated []byte    // the frame with its payload compressed, or frame itself
}

// NewMessage encodes a text message, which must be valid UTF-8. It copies text.
func NewMessage(text []byte) *Message {
	return &Message{frame: encodeFrame(finText, text)}
}

const (
	finText    = 0x81
	compressed = 0x40 // RSV1 (RFC 7692, section 6)
)

func encodeFrame(first byte, payload []byte) []byte {
	b := append(make([]byte, 0, len(payload)+10), first)
	switch n := len(payload); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return append(b, payload...)
}

// Frame returns the encoded frame, which must not be changed. For a connection
// that has agreed on permessage-deflate without context takeover (RFC 7692) it is
// compressed, if that makes it smaller.
func (m *Message) Frame(deflate bool) []byte {
	if !deflate || len(m.frame) < minDeflate {
		return m.frame
	}
	m.deflate.Do(func() { m.deflated = deflateFrame(m.frame) })
	return m.deflated
}

// Flushed tells whoever pushed the message that a connection which had answered
// Queued was handed all of it (ok), or ended before.
func (m *Message) Flushed(ok bool) {
	if m.report == nil {
		return
	}
	out := Closed
	if ok {
		out = Sent
	}
	m.report.record(out)
}

// Outcome says what became of a message given to a connection.
type Outcome int

const (
	Sent   Outcome = iota // all of it was handed to the network
	Queued                // it waits behind earlier bytes; Message.Flushed follows once
	Full                  // dropped: DropQueueFull
	Closed                // dropped: DropClosed
)

// Report counts what becomes of one message. Its methods may be called
// concurrently.
type Report struct {
	sent    atomic.Int64
	dropped atomic.Int64

	// pending is how many connections have not been handed the message yet, and
	// one more until it was given to all; done is closed when it falls to 0.
	pending atomic.Int64
	done    chan struct{}

	stats *Stats // that count it too, or nil

	over atomic.Bool // nobody waits for receipts any more

	mu       sync.Mutex // guards the fields below
	receipts int
	got      map[UserID]struct{} // who has confirmed it; nil if nobody has
}

// await has the report wait for a receipt: acked or release must follow.
func (r *Report) await() { r.pending.Add(1) }

// acked counts a receipt.
func (r *Report) acked(user UserID) {
	r.mu.Lock()
	r.receipts++
	if r.got == nil {
		r.got = make(map[UserID]struct{})
	}
	r.got[user] = struct{}{}
	r.mu.Unlock()
	r.release()
}

// receivers returns how many receipts there are, and whose.
func (r *Report) receivers() (int, map[UserID]struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.receipts, maps.Clone(r.got)
}

// newReport makes the report of a message to a number of connections.
func newReport(conns int, stats *Stats) *Report {
	r := &Report{done: make(chan struct{}), stats: stats}
	r.pending.Store(int64(conns) + 1)
	return r
}

func (r *Report) release() {
	if r.pending.Add(-1) == 0 {
		close(r.done)
	}
}

// record counts what became of the message on a connection. One that has queued it
// is counted when that is known: it has been already, or will be.
func (r *Report) record(out Outcome) {
	if out == Queued {
		return
	}
	if r.stats != nil {
		r.stats.delivered(out)
	}
	if out == Sent {
		r.sent.Add(1)
	} else {
		r.dropped.Add(1)
	}
	r.release()
}
