package socket

import (
	"crypto/tls"
	"errors"
	"net"
	"runtime"
	"syscall"
	"time"
)

// A parked connection has no goroutine: the poller starts one when bytes come.
// The goroutine reads as many messages as there are, and parks again. Where a
// reader cannot be parked, a goroutine waits in Read; both run the same code for
// a frame.
//
// The hand-over: a reader that parks sets parked, then asks for an event. Who
// sets it back, by unpark, starts the next reader, so there is never more than
// one. Only the reader itself, and what it started from, touches what it owns.

// canPark says whether readers are parked at all; tests try both.
var canPark = runtime.GOOS == "linux"

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
// go on: it cannot be parked, or somebody wants it closed.
func (c *Conn) park() bool {
	t, err := c.ticket()
	if err != nil {
		c.parking.raw = nil // from now on it waits in Read
		return false
	}
	c.parked.Store(true)
	// From here on another reader may be at work.
	err = t.arm()
	if (err != nil || c.isClosing()) && c.parked.CompareAndSwap(true, false) {
		c.parking.raw = nil
		return false
	}
	return true
}

// unpark starts a reader if there is none. Fresh says that the poller has seen
// bytes come.
func (c *Conn) unpark(fresh bool) {
	if c.parked.CompareAndSwap(true, false) {
		go c.read(fresh)
	}
}

// readNow reads what is there, and returns errNoMore if there is nothing.
func (w *wire) readNow(p []byte) (int, error) {
	if t, ok := w.Conn.(*tls.Conn); ok {
		return w.readTLS(t, p)
	}
	n, err := tryRead(w.raw, p)
	if errors.Is(err, syscall.EAGAIN) {
		return 0, errNoMore
	}
	return n, err
}

// readTLS reads what TLS holds; only after the poller has seen bytes come it
// also reads from the network, which may have to wait for the rest of a record.
func (w *wire) readTLS(t *tls.Conn, p []byte) (int, error) {
	if w.fresh {
		w.fresh = false
		return t.Read(p)
	}
	// With a deadline that has passed, Read does not touch the network.
	w.deadline.Lock()
	defer w.deadline.Unlock()
	if !w.ending {
		_ = t.SetReadDeadline(time.Unix(1, 0))
		defer func() { _ = t.SetReadDeadline(time.Time{}) }()
	}
	n, err := t.Read(p)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return 0, errNoMore
	}
	return n, err
}
