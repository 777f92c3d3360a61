//go:build !linux

package socket

import "net"

func tune(net.Conn) {}

// writable is not known here: writes over TLS go through the queue.
func writable(uintptr) bool { return false }
