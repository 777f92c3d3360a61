//go:build !linux

package socket

import (
	"errors"
	"syscall"
)

// parking is empty where readers are never parked.
type parking struct{ raw syscall.RawConn }

type ticket struct{}

func (*Conn) ticket() (ticket, error) { return ticket{}, errors.ErrUnsupported }

func (ticket) arm() error { return errors.ErrUnsupported }

func (*Conn) leavePoller() {}
