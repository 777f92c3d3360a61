package socket

import (
	"crypto/tls"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// notSent is how many bytes the kernel takes for a peer beyond what it has
	// sent: what waits should wait in our queue, where it is bounded and counted.
	notSent = 16 << 10

	// userTimeout is how long sent bytes may stay unacknowledged until the
	// connection is given up.
	userTimeout = 30 * time.Second

	// keepAlive is how rare packets are that nobody asked for: the sweep finds
	// the dead sooner. Go's default is one each 15 s.
	keepAlive = 75 * time.Second
)

// tune sets what the kernel does for a connection. What it refuses is left as it
// was: all works without.
func tune(c net.Conn) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepAlive, Interval: keepAlive})
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSent)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
	})
}

// writable reports whether the kernel takes bytes now.
func writable(fd uintptr) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	n, err := unix.Poll(p, 0)
	return err == nil && n == 1 && p[0].Revents == unix.POLLOUT
}
