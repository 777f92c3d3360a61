package socket

import (
	"crypto/tls"
	"errors"
	"net"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// A parked connection has no goroutine: the poller starts one when bytes come.
// The goroutine reads as many messages as there are, and parks again. Where a
// reader cannot be parked, a goroutine waits in Read; both run the same code for
// a frame.
//
// The hand-over: a reader that has nothing to read parks; who changes that, by
// unpark, starts the next reader, so there is never more than one. An event that
// comes while there is a reader has it look once more before it parks: the poller
// tells of new bytes once. Only the reader touches what it owns.
const (
	reading     = iota
	readingMore // and there was an event since the reader began
	parked
)

// event is what the poller has seen.
type event struct {
	bytes  bool // or the end
	hungUp bool // the end, or an error
}

// waiting makes the readers of new connections wait: tests try both.
var waiting atomic.Bool

// canPark reports whether readers are parked at all.
func canPark() bool { return runtime.GOOS == "linux" && !waiting.Load() }

// errNoMore is what the wire gives the library where no message has begun and
// there are no bytes: the library keeps nothing of it, and can be asked again.
var errNoMore = errors.New("no more bytes at the moment")

// pollable returns the descriptor below a connection that can be parked, or nil.
func pollable(c net.Conn) syscall.RawConn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return rawConn(c)
}

// park leaves the connection to the poller. It returns false if the reader must
// go on: it cannot be parked, there was an event, or somebody wants it closed.
func (c *Conn) park() bool {
	t, err := c.ticket()
	if err != nil {
		c.parking.raw = nil // from now on it waits in Read
		return false
	}
	if !c.reader.CompareAndSwap(reading, parked) {
		c.reader.Store(reading)
		c.fresh, c.wary = true, true
		return false
	}
	// From here on another reader may be at work.
	err = t.arm()
	if (err != nil || c.isClosing()) && c.reader.CompareAndSwap(parked, reading) {
		c.parking.raw = nil
		return false
	}
	return true
}

// unpark starts a reader if there is none, or has it look once more.
func (c *Conn) unpark(e event) {
	for {
		switch c.reader.Load() {
		case parked:
			if c.reader.CompareAndSwap(parked, reading) {
				go c.read(e)
				return
			}
		case reading:
			if c.reader.CompareAndSwap(reading, readingMore) {
				return
			}
		default:
			return
		}
	}
}

// readNow reads what is there, and returns errNoMore if there is nothing.
func (w *wire) readNow(p []byte) (int, error) {
	if t, ok := w.Conn.(*tls.Conn); ok {
		return w.readTLS(t, p)
	}
	n, err := tryRead(w.raw, p)
	if errors.Is(err, syscall.EAGAIN) {
		w.wary = false // the poller tells of what comes from now on
		return 0, errNoMore
	}
	return n, err
}

// readTLS reads what TLS holds; only after the poller has seen bytes come it
// also reads from the network, which may have to wait for the rest of a record.
func (w *wire) readTLS(t *tls.Conn, p []byte) (int, error) {
	w.setReading(true)
	defer w.setReading(false)
	if w.fresh {
		w.fresh = false
		w.limitRead(time.Now().Add(restTime))
		defer w.limitRead(time.Time{})
		return t.Read(p)
	}
	// With a deadline that has passed, Read does not touch the network.
	w.limitRead(time.Unix(1, 0))
	defer w.limitRead(time.Time{})
	n, err := t.Read(p)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return 0, errNoMore
	}
	return n, err
}
