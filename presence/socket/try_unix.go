//go:build unix

package socket

import (
	"errors"
	"io"
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

// try is one attempt to write or read; it is pooled, so that its functions are
// made once.
type try struct {
	p     []byte
	n     int
	err   error
	write func(fd uintptr) bool
	read  func(fd uintptr) bool
}

var tries = sync.Pool{New: func() any {
	t := new(try)
	t.write, t.read = t.doWrite, t.doRead
	return t
}}

// doWrite always reports true, which tells Go's poller not to wait.
func (t *try) doWrite(fd uintptr) bool {
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

// tryRead reads what has come, without waiting; EAGAIN says that it is nothing.
func tryRead(raw syscall.RawConn, p []byte) (int, error) {
	t := tries.Get().(*try)
	defer tries.Put(t)
	t.p, t.n, t.err = p, 0, nil
	err := raw.Read(t.read)
	t.p = nil
	if err == nil {
		err = t.err
	}
	if err == nil && t.n == 0 {
		err = io.EOF
	}
	return t.n, err
}

func (t *try) doRead(fd uintptr) bool {
	for {
		n, err := syscall.Read(int(fd), t.p)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		t.n, t.err = max(n, 0), err
		return true
	}
}
