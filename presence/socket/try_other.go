//go:build !unix

package socket

import (
	"errors"
	"net"
	"syscall"
)

// rawConn returns nil: here all writes go through the queue.
func rawConn(net.Conn) syscall.RawConn { return nil }

func tryWrite(syscall.RawConn, []byte) (int, error) {
	return 0, errors.ErrUnsupported
}

func tryRead(syscall.RawConn, []byte) (int, error) {
	return 0, errors.ErrUnsupported
}
