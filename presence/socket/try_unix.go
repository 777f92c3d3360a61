//go:build unix

package socket

import (
	"errors"
	"net"
	"sync"
	"syscall"
)

// rawConn returns the descriptor below a connection on which a write can be
// tried without waiting, or nil.
func rawConn(c net.Conn) syscall.RawConn {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// tryWrite writes what the network takes now, without waiting.
func tryWrite(raw syscall.RawConn, p []byte) (int, error) {
	t := tries.Get().(*try)
	defer tries.Put(t)
	t.p, t.n, t.err = p, 0, nil
	err := raw.Write(t.write)
	t.p = nil
	if err == nil {
		err = t.err
	}
	return t.n, err
}

// try is one attempt to write; it is pooled, so that its function is made once.
type try struct {
	p     []byte
	n     int
	err   error
	write func(fd uintptr) bool
}

var tries = sync.Pool{New: func() any {
	t := new(try)
	t.write = t.do
	return t
}}

// do always reports true, which tells Go's poller not to wait.
func (t *try) do(fd uintptr) bool {
	for t.n < len(t.p) {
		n, err := syscall.Write(int(fd), t.p[t.n:])
		switch {
		case n > 0:
			t.n += n
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			return true
		default:
			t.err = err
			return true
		}
	}
	return true
}
