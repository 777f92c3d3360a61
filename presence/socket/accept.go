package socket

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/coder/websocket"
)

// Subprotocol is what a client offers that wants to be told a refusal as a
// close code, because browsers hide the status of a failed handshake.
const Subprotocol = "presence.v1"

// ErrUpgradeBody refuses a handshake with a body: it would hang in Hijack.
var ErrUpgradeBody = errors.New("a WebSocket handshake has no body")

const (
	// readBuffer holds a frame's header and the usual small message; longer
	// ones are read around it.
	readBuffer = 128

	// writeBuffer must hold a whole control frame (RFC 6455, section 5.5: 125
	// bytes of payload, and its header), so that it comes in one Write.
	writeBuffer = 144
)

// accept upgrades a request. Over HTTP/1.1 the request's own buffers, and
// everything above the network connection, can be collected once the handler has
// returned.
func (c *Conn) accept(w http.ResponseWriter, r *http.Request) error {
	var over http.ResponseWriter = &hijacker{ResponseWriter: w, wire: &c.wire}
	if IsExtendedConnect(r) {
		s := newStream(w, r)
		over, r = &streamWriter{ResponseWriter: w, stream: s, wire: &c.wire}, s.upgradeRequest()
	} else if r.ContentLength != 0 || len(r.TransferEncoding) > 0 {
		w.Header().Set("Connection", "close") // or net/http would wait for the body
		http.Error(w, ErrUpgradeBody.Error(), http.StatusBadRequest)
		return ErrUpgradeBody
	}
	ws, err := websocket.Accept(over, r, &websocket.AcceptOptions{
		Subprotocols:       []string{Subprotocol},
		InsecureSkipVerify: true, // the handler has checked the origin by its own rules
		CompressionMode:    c.server.Limits().compression(),
		OnPongReceived:     func(context.Context, []byte) { c.answering.Store(true) },
	})
	if err != nil {
		return fmt.Errorf("accepting a WebSocket: %w", err)
	}
	ws.SetReadLimit(-1) // message has a limit of its own, which a reload can change
	c.ws = ws
	return nil
}

// compression is without context takeover: a message compressed once can be sent
// to all, and an idle connection keeps no window.
func (l *Limits) compression() websocket.CompressionMode {
	if l.Compression {
		return websocket.CompressionNoContextTakeover
	}
	return websocket.CompressionDisabled
}

// deflates reports whether a handshake was answered with permessage-deflate.
func deflates(w http.ResponseWriter) bool {
	return strings.HasPrefix(w.Header().Get("Sec-WebSocket-Extensions"), "permessage-deflate")
}

// hijacker writes the response through the outermost writer, so that middleware
// applies to it, and hijacks at the innermost one: what lies between would go
// on using the connection when the handler has returned.
type hijacker struct {
	http.ResponseWriter
	wire *wire
}

// Hijack gives the library small buffers over the wire. What the client sent
// behind its handshake comes out of the wire's Read, because the library resets
// the reader to read from there.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w := h.ResponseWriter
	for {
		outer, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			break
		}
		w = outer.Unwrap()
	}
	inner, ok := w.(http.Hijacker)
	if !ok {
		return nil, nil, http.ErrNotSupported
	}
	conn, buffered, err := inner.Hijack()
	if err != nil {
		return nil, nil, err
	}
	if n := buffered.Reader.Buffered(); n > 0 {
		early, _ := buffered.Reader.Peek(n)
		h.wire.early = append([]byte(nil), early...)
	}
	h.wire.Conn, h.wire.raw, h.wire.deflate = conn, rawConn(conn), deflates(h)
	tune(conn)
	switch {
	case !canPark():
	case h.wire.raw != nil:
		h.wire.parking.raw = h.wire.raw
	default:
		h.wire.parking.raw = pollable(conn)
	}
	return h.wire, h.wire.buffers(), nil
}

// buffers are what the library reads and writes through.
func (w *wire) buffers() *bufio.ReadWriter {
	return bufio.NewReadWriter(bufio.NewReaderSize(w, readBuffer), bufio.NewWriterSize(w, writeBuffer))
}
