package socket

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// wire is the network connection below the library. The library reads through
// it and writes its control frames to it; messages are written by Send.
type wire struct {
	// Static after the handshake.
	net.Conn
	raw    syscall.RawConn // nil where a write cannot be tried without blocking
	limits *atomic.Pointer[Limits]

	// Owned by the reader.
	early    []byte // what the client sent behind the handshake
	position position
	fresh    bool // TLS: the poller has seen bytes come
	wary     bool // the end may be behind the bytes: a short read does not mean that there is no more
	drained  bool // the last read got less than it asked for: there was no more
	limited  bool // there is a time limit for the rest of a message

	deflate bool // the client takes compressed messages; static after the handshake

	parking parking

	deadline sync.Mutex // guards the field below, and the read deadline that goes with it
	ending   bool       // there is one: for a peer that does not answer a close frame

	lastRead atomic.Uint32 // ticks of the last bytes that came in

	mu      sync.Mutex // guards the fields below; held for one non-blocking write at most
	q       *queue     // nil while nothing waits
	closing bool       // a close frame was written, or queued: nothing follows it
	closed  bool       // the network connection was closed
	reading bool       // the reader may be inside of TLS
}

const (
	opClose = 0x8
	opPong  = 0xa
)

// Read gives the library what came early, then what comes. Where no message has
// begun, the reader of a connection that can be parked does not wait.
func (w *wire) Read(p []byte) (int, error) {
	if len(w.early) > 0 {
		n := copy(p, w.early)
		if w.early = w.early[n:]; len(w.early) == 0 {
			w.early = nil
		}
		w.position.advance(p[:n])
		return n, nil
	}
	read := w.Conn.Read
	if w.parking.raw != nil && w.position.atRest() && !w.isClosing() {
		if w.drained {
			w.drained = false
			return 0, errNoMore // the poller tells if it is not so
		}
		read = w.readNow
	}
	w.limitRest()
	n, err := read(p)
	w.drained = err == nil && n < len(p) && !w.wary && w.raw != nil // TLS may hold more
	if n > 0 {
		w.position.advance(p[:n])
		w.lastRead.Store(uint32(now()))
	}
	return n, err
}

// restTime is how long the rest of a message, or of a TLS record, may take to come.
const restTime = 30 * time.Second

// limitRest gives the reader a time limit in the middle of a message: it must not
// wait for the rest for ever.
func (w *wire) limitRest() {
	if mid := !w.position.atRest(); mid != w.limited {
		w.limited = mid
		limit := time.Time{}
		if mid {
			limit = time.Now().Add(restTime)
		}
		w.limitRead(limit)
	}
}

// limitRead sets the read deadline, unless there is the one of a closing connection.
func (w *wire) limitRead(t time.Time) {
	w.deadline.Lock()
	defer w.deadline.Unlock()
	if !w.ending {
		_ = w.Conn.SetReadDeadline(t)
	}
}

// setReading notes whether the reader may be inside of TLS, which may be writing.
func (w *wire) setReading(yes bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reading = yes
}

// endBy gives the reader a time limit, because a close frame was sent.
func (w *wire) endBy(t time.Time) {
	w.deadline.Lock()
	defer w.deadline.Unlock()
	w.ending = true
	_ = w.Conn.SetReadDeadline(t)
}

// Write takes a control frame from the library, whole. It is not blocking: what
// the network does not take now is queued in its place between the messages.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closing {
		return len(p), nil // the library answers a close frame that answered ours
	}
	if w.closed {
		return 0, net.ErrClosed
	}
	switch p[0] & 0xf {
	case opClose:
		w.closing = true
	case opPong:
		// Only the latest of pings has to be answered (RFC 6455, section 5.5.3).
		if w.q != nil && w.q.replacePong(p) {
			return len(p), nil
		}
	}
	return len(p), w.putLocked(p, nil, true)
}

// Send implements presence.Conn for the connection around w.
func (w *wire) Send(m *presence.Message) presence.Outcome {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sendLocked(m)
}

// sendLocked is Send. w.mu must be held.
func (w *wire) sendLocked(m *presence.Message) presence.Outcome {
	if w.closing || w.closed {
		return presence.Closed
	}
	if w.q != nil && !w.q.fits(len(m.Frame(w.deflate)), w.limits.Load().MaxQueue) {
		return presence.Full
	}
	switch err := w.putLocked(m.Frame(w.deflate), m, false); {
	case err == nil:
		return presence.Sent
	case errors.Is(err, errQueued):
		return presence.Queued
	default:
		return presence.Closed
	}
}

// SendBurst implements presence.Conn for the connection around w.
func (w *wire) SendBurst(b *presence.Burst, outcomes []presence.Outcome) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rest := b.Messages
	if w.q == nil && !w.closing && !w.closed {
		rest = w.burstLocked(b, outcomes)
	}
	for i, m := range rest {
		outcomes[len(b.Messages)-len(rest)+i] = w.sendLocked(m)
	}
}

// burstLocked writes what the network takes of a burst, and returns the messages
// of which it took nothing. w.mu must be held.
func (w *wire) burstLocked(b *presence.Burst, outcomes []presence.Outcome) []*presence.Message {
	n, err := w.writeNow(b.Frames(w.deflate))
	if err != nil {
		w.closing = true // half a frame may be out; the reader will notice too
	}
	for i, m := range b.Messages {
		size := len(m.Frame(w.deflate))
		switch {
		case n >= size:
			outcomes[i] = presence.Sent
		case n == 0:
			return b.Messages[i:]
		case err != nil:
			outcomes[i] = presence.Closed
		default:
			w.queueLocked(m.Frame(w.deflate)[n:], m)
			outcomes[i] = presence.Queued
		}
		n = max(n-size, 0)
	}
	return nil
}

// sendPing writes a protocol ping; the library's reader takes the pong.
func (w *wire) sendPing() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closing && !w.closed {
		_ = w.putLocked([]byte{0x89, 0}, nil, true)
	}
}

// sendClose writes a close frame (RFC 6455, section 5.5.1). It returns false if
// there was one before.
func (w *wire) sendClose(code presence.CloseCode, reason string) bool {
	const maxReason = 123
	reason = reason[:min(len(reason), maxReason)]
	frame := append(make([]byte, 0, 4+len(reason)), 0x80|opClose, byte(2+len(reason)))
	frame = append(binary.BigEndian.AppendUint16(frame, uint16(code)), reason...)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closing || w.closed {
		return false
	}
	w.closing = true
	_ = w.putLocked(frame, nil, true)
	return true
}

var errQueued = errors.New("queued")

// putLocked writes a whole frame behind what waits, or queues it. For a message
// it returns errQueued if it is not handed over yet; a control frame is copied,
// because the library owns it. w.mu must be held.
func (w *wire) putLocked(frame []byte, m *presence.Message, control bool) error {
	n := 0
	if w.q == nil {
		var err error
		if n, err = w.writeNow(frame); err != nil {
			w.closing = true // half a frame may be out; the reader will notice too
			return err
		}
		if n == len(frame) {
			return nil
		}
	}
	rest := frame[n:]
	if control {
		rest = append([]byte(nil), rest...)
	}
	w.queueLocked(rest, m)
	if control {
		return nil
	}
	return errQueued
}

// queueLocked leaves a frame, or what is left of it, to the flusher. w.mu must be
// held.
func (w *wire) queueLocked(rest []byte, m *presence.Message) {
	if w.q == nil {
		w.q = newQueue()
		go w.flush(w.q)
	}
	w.q.add(rest, m)
}

// directTLS is the largest frame that is written over TLS without a detour: when
// the kernel says that it takes bytes, it takes that many.
const directTLS = 4 << 10

// writeNow writes what the network takes without waiting.
func (w *wire) writeNow(frame []byte) (int, error) {
	if w.raw != nil {
		return tryWrite(w.raw, frame)
	}
	if w.parking.raw == nil || w.reading || len(frame) > directTLS {
		return 0, nil
	}
	ready := false
	err := w.parking.raw.Control(func(fd uintptr) { ready = writable(fd) })
	if err != nil || !ready {
		return 0, err
	}
	return w.Conn.Write(frame)
}

// fullSince returns since when the queue has been too full for a message, and
// whether it is.
func (w *wire) fullSince() (ticks, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.q == nil || !w.q.full {
		return 0, false
	}
	return w.q.fullSince, true
}

// isClosing reports whether a close frame was sent.
func (w *wire) isClosing() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closing
}

// Close closes the network connection; the library calls it too, right after it
// has answered a close frame. What waits behind other bytes, and that answer
// above all, is given closeWait to go out.
func (w *wire) Close() error {
	w.mu.Lock()
	q := w.q
	graceful := q != nil && w.closing && !w.closed
	w.mu.Unlock()
	if graceful {
		_ = w.Conn.SetWriteDeadline(time.Now().Add(closeWait))
		<-q.done
	}
	return w.abort()
}

// abort closes the network connection at once. A flusher then drops what waits.
func (w *wire) abort() error {
	w.mu.Lock()
	already := w.closed
	w.closed = true
	w.mu.Unlock()
	if already {
		return net.ErrClosed
	}
	return w.Conn.Close()
}

// lingerClose waits until the peer has taken a close frame and hung up, or
// closeWait is over: closing with bytes unread would reset the connection, and
// the peer might never see why.
func (w *wire) lingerClose() {
	w.mu.Lock()
	said, waiting := w.closing && !w.closed, w.q != nil
	w.mu.Unlock()
	if !said {
		return
	}
	if half, ok := w.Conn.(interface{ CloseWrite() error }); ok && !waiting {
		_ = half.CloseWrite()
	}
	w.endBy(time.Now().Add(closeWait))
	_, _ = io.Copy(io.Discard, w.Conn)
}

// flush writes what waits until nothing does, then ends.
func (w *wire) flush(q *queue) {
	defer close(q.done)
	for {
		w.mu.Lock()
		batch := q.take()
		if len(batch) == 0 {
			w.q = nil
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
		written, err := writeBatch(w.Conn, batch)
		for i := range batch {
			batch[i].settle(i < written)
		}
		w.mu.Lock()
		q.taken(batch)
		w.mu.Unlock()
		if err != nil {
			w.drop(q)
			return
		}
	}
}

// drop gives up a queue whose connection failed or was closed.
func (w *wire) drop(q *queue) {
	w.mu.Lock()
	w.closing = true // nothing is sent any more; the reader will end
	batch := q.items
	q.items = nil
	w.q = nil
	w.mu.Unlock()
	for i := range batch {
		batch[i].settle(false)
	}
	w.endBy(time.Now())
}
