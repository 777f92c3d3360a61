package presence

import (
	"encoding/binary"
	"sync/atomic"
)

// Message is a text message on its way to any number of connections. It is
// encoded once, and never changed afterwards.
type Message struct {
	frame  []byte // the whole WebSocket frame, unmasked (RFC 6455, section 5.2)
	report *Report
}

// NewMessage encodes a text message, which must be valid UTF-8. It copies text.
func NewMessage(text []byte) *Message {
	const finText = 0x81
	b := append(make([]byte, 0, len(text)+10), finText)
	switch {
	case len(text) < 126:
		b = append(b, byte(len(text)))
	case len(text) < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(len(text)))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(len(text)))
	}
	return &Message{frame: append(b, text...)}
}

// Frame returns the encoded frame, which must not be changed.
func (m *Message) Frame() []byte { return m.frame }

// Flushed tells whoever pushed the message that a connection which had answered
// Queued was handed all of it (ok), or ended before.
func (m *Message) Flushed(ok bool) {
	if m.report != nil {
		m.report.settle(ok)
	}
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
}

// newReport makes the report of a message to a number of connections.
func newReport(conns int) *Report {
	r := &Report{done: make(chan struct{})}
	r.pending.Store(int64(conns) + 1)
	return r
}

func (r *Report) settle(ok bool) {
	if ok {
		r.sent.Add(1)
	} else {
		r.dropped.Add(1)
	}
	r.release()
}

func (r *Report) release() {
	if r.pending.Add(-1) == 0 {
		close(r.done)
	}
}

// record counts what a connection said of the message. One that is queued has
// been settled already, or will be.
func (r *Report) record(out Outcome) {
	if out != Queued {
		r.settle(out == Sent)
	}
}
