package socket

import (
	"time"

	"go.uber.org/zap"
)

// Limits are what a connection may do and how long it may be silent. They may
// change while connections live. 0 switches a limit off unless told otherwise.
type Limits struct {
	// PingInterval is how long a connection may be silent until it is sent a
	// protocol ping, PongTimeout how long after that it is closed with 4201.
	PingInterval time.Duration
	PongTimeout  time.Duration

	// IdleTimeout is how long a client may send no message at all, for those
	// that announced no beat of their own.
	IdleTimeout time.Duration

	// OpenTimeout is how long a connection may take to its first open frame.
	OpenTimeout time.Duration

	// MaxMessage is the size of a client's message in bytes. It must be set.
	MaxMessage int64

	// MaxQueue is how many bytes may wait for a slow client. It must be set.
	MaxQueue int

	// Rate is how many messages a client may send a second, Burst how many at
	// once.
	Rate, Burst int

	// MaxConnections is how many connections a hub may have.
	MaxConnections int

	// MaxUnopened is how many connections of one address may be waiting for
	// their first open frame.
	MaxUnopened int

	// Compression lets clients agree on permessage-deflate. It holds for
	// connections that are made from then on.
	Compression bool

	Log *zap.Logger
}

const (
	// closeWait is how long a peer has to answer a close frame.
	closeWait = time.Second

	// fullTimeout is how long a queue may be full until the connection is closed.
	fullTimeout = 10 * time.Second

	// fastTimeout is how long a client may go on over its rate.
	fastTimeout = 10 * time.Second

	// beatsMissed is how many of the beats it announced a client may miss.
	beatsMissed = 3
)

// ticks counts milliseconds of the process's monotonic clock in 32 bits; only
// differences mean something, and they hold for 24 days.
type ticks uint32

var epoch = time.Now()

func now() ticks { return ticks(uint64(time.Since(epoch) / time.Millisecond)) }

// since is how long before t a moment was; moments after t count as t.
func (t ticks) since(before ticks) time.Duration {
	return time.Duration(max(int32(t-before), 0)) * time.Millisecond
}
