package socket

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
	"go.uber.org/zap"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// Conn is a WebSocket with its queue. It implements presence.Conn.
type Conn struct {
	wire
	attachment presence.Attachment

	// Static after the handshake.
	server *Server
	ws     *websocket.Conn
	began  ticks

	reader atomic.Uint32 // what it does: reading, readingMore or parked; see park

	// Owned by the reader.
	rate  rate
	place place
	told  bool   // it was refused, and upgraded to be told so
	addr  string // of the client, as the limits count it; empty once it is open

	// Atomic: written by the reader, read by the sweep.
	lastData  atomic.Uint32 // ticks of the last message
	beats     atomic.Bool   // it says ping itself
	answering atomic.Bool   // it has answered a protocol ping

	expires atomic.Int64 // when the identity does, in Unix milliseconds; 0: never

	// Owned by the sweep.
	pinged   bool
	pingedAt ticks

	// Atomic: set by whoever closes first, read by the reader in the end.
	cause atomic.Pointer[presence.Cause]
	code  atomic.Uint32
}

// Attachment implements presence.Conn.
func (c *Conn) Attachment() *presence.Attachment { return &c.attachment }

// Close implements presence.Conn: it sends a close frame, and gives the peer
// closeWait to answer it.
func (c *Conn) Close(code presence.CloseCode, reason string) {
	c.end(code, reason, presence.CauseLost)
}

// end is Close with the cause that presence is told, if nobody told it before.
func (c *Conn) end(code presence.CloseCode, reason string, cause presence.Cause) {
	c.cause.CompareAndSwap(nil, &cause)
	if !c.sendClose(code, reason) {
		return
	}
	c.code.Store(uint32(code))
	c.endBy(time.Now().Add(closeWait))
	c.unpark(event{})
}

// read gives each message to the hub until the connection ends, or is parked.
func (c *Conn) read(e event) {
	c.fresh, c.wary = e.bytes, e.hungUp
	parked := false
	defer func() {
		if !parked {
			c.finish(recover())
		}
	}()
	for {
		// Without a context that can be cancelled the library sets no timers.
		typ, r, err := c.ws.Reader(context.Background())
		switch {
		case err != nil && errors.Is(err, errNoMore):
			// Set before: once it is parked, another reader may be at work.
			if parked = true; c.park() {
				return
			}
			parked = false
		case err != nil || !c.message(typ, r):
			c.readEnded(err)
			return
		}
	}
}

// buffers are taken only once a message begins: an idle connection has none.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// keepBuffer is the largest buffer that goes back to the pool.
const keepBuffer = 64 << 10

// message reads one message and carries it out. It returns false if the
// connection is to end.
func (c *Conn) message(typ websocket.MessageType, r io.Reader) bool {
	limits := c.server.Limits()
	buf := buffers.Get().(*bytes.Buffer)
	defer func() {
		if buf.Cap() <= keepBuffer {
			buf.Reset()
			buffers.Put(buf)
		}
	}()
	n, err := buf.ReadFrom(io.LimitReader(r, limits.MaxMessage+1))
	if err != nil {
		c.readEnded(err)
		return false
	}
	if n > limits.MaxMessage {
		c.Close(presence.CloseTooBig, "the message is larger than max_message_size")
		return false
	}
	if c.isClosing() {
		return true // read on until the peer answers the close frame
	}
	binary := typ != websocket.MessageText
	switch data := buf.Bytes(); {
	case binary && !c.server.hub.TakesBinary():
		c.Close(presence.CloseUnsupported, "binary messages are not taken here")
	case !binary && !utf8.Valid(data):
		c.Close(presence.CloseInvalidData, "a text message must be UTF-8")
	default:
		c.receive(data, binary, limits)
	}
	return true
}

func (c *Conn) receive(data []byte, binary bool, limits *Limits) {
	t := now()
	ping := !binary && presence.IsPing(data)
	last := ticks(c.lastData.Swap(uint32(t)))
	// A ping is free unless pings come faster than any heartbeat needs.
	if ping {
		c.beats.Store(true)
	}
	if !ping || t.since(last) < freePing {
		switch c.rate.take(t, limits) {
		case rateOver:
			c.Close(presence.CloseTooFast, "too many frames for too long")
			return
		case rateTold:
			return
		case rateTell:
			c.server.hub.Refuse(c, nil, &presence.FrameError{
				Code: presence.ErrorTooFast, Message: "too many frames; this one and more are not handled",
			})
			return
		}
	}
	if binary {
		c.server.hub.ReceiveBinary(c, data)
		return
	}
	c.server.hub.Receive(c, data)
	if c.attachment.Opened() {
		c.server.places.opened(c)
	}
}

// readEnded notes with which code the peer, or the library, closed.
func (c *Conn) readEnded(err error) {
	code := presence.CloseCode(1006) // RFC 6455, section 7.1.5: no close frame came
	if status := websocket.CloseStatus(err); status != -1 {
		code = presence.CloseCode(status)
	}
	cause := code.Cause()
	c.cause.CompareAndSwap(nil, &cause)
	c.code.CompareAndSwap(0, uint32(code))
}

// finish ends the connection, whatever ended it, and takes it out of presence.
func (c *Conn) finish(panicked any) {
	if panicked != nil {
		c.server.Limits().Log.Error("a frame was not handled: please report this",
			zap.Any("panic", panicked), zap.Stack("stack"))
		c.end(presence.CloseInternalError, "", presence.CauseLost)
	}
	c.readEnded(nil)
	c.lingerClose()
	_ = c.ws.CloseNow()
	c.leavePoller()
	c.server.detach(c, presence.CloseCode(c.code.Load()), *c.cause.Load())
}
