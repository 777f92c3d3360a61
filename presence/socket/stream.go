package socket

import (
	"bufio"
	"crypto/rand"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// IsExtendedConnect reports whether a request asks for a WebSocket over HTTP/2
// (RFC 8441) or HTTP/3 (RFC 9220).
func IsExtendedConnect(r *http.Request) bool {
	if r.Method != http.MethodConnect {
		return false
	}
	// Go keeps the pseudo-header of HTTP/2 with the headers, quic-go as Proto.
	return r.ProtoMajor == 2 && r.Header.Get(":protocol") == "websocket" ||
		r.ProtoMajor == 3 && r.Proto == "websocket"
}

// stream is a stream of HTTP/2 or HTTP/3 as a network connection. There is no
// descriptor of its own below it, so its reader waits, and all writes go through
// the queue, which keeps the flow control of the protocol.
type stream struct {
	r       *http.Request
	control *http.ResponseController

	mu     sync.Mutex // guards the fields below, and is held during a write
	w      http.ResponseWriter
	closed bool // nothing may be written once the handler returns

	limits sync.Mutex // guards the field below, and is held while a deadline is set
	over   bool       // no deadline may be set once the handler returns
}

func newStream(w http.ResponseWriter, r *http.Request) *stream {
	return &stream{r: r, w: w, control: http.NewResponseController(w)}
}

// upgradeRequest is the request as it would be over HTTP/1.1, for the library.
func (s *stream) upgradeRequest() *http.Request {
	r := s.r.Clone(s.r.Context())
	r.Method, r.Proto, r.ProtoMajor, r.ProtoMinor = http.MethodGet, "HTTP/1.1", 1, 1
	key := make([]byte, 16)
	_, _ = rand.Read(key) // never fails
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Sec-WebSocket-Key", base64.StdEncoding.EncodeToString(key))
	return r
}

func (s *stream) Read(p []byte) (int, error) { return s.r.Body.Read(p) }

func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, net.ErrClosed
	}
	n, err := s.w.Write(p)
	if err == nil {
		err = s.control.Flush()
	}
	return n, err
}

// Close ends reads and writes that are under way, and waits for the latter. When
// it has returned, to whoever called it, the handler's writer is no longer used.
func (s *stream) Close() error {
	past := time.Unix(1, 0)
	_ = s.SetReadDeadline(past)
	if !s.mu.TryLock() {
		// A write waits for the peer. Only then: it resets the stream, which
		// otherwise ends in peace with the handler.
		_ = s.SetWriteDeadline(past)
		s.mu.Lock()
	}
	already := s.closed
	s.closed = true
	s.mu.Unlock()
	s.limits.Lock()
	s.over = true
	s.limits.Unlock()
	if already {
		return net.ErrClosed
	}
	return nil
}

func (s *stream) SetDeadline(t time.Time) error {
	if err := s.SetReadDeadline(t); err != nil {
		return err
	}
	return s.SetWriteDeadline(t)
}

func (s *stream) SetReadDeadline(t time.Time) error {
	return s.limit(s.control.SetReadDeadline, t)
}

func (s *stream) SetWriteDeadline(t time.Time) error {
	return s.limit(s.control.SetWriteDeadline, t)
}

func (s *stream) limit(set func(time.Time) error, t time.Time) error {
	s.limits.Lock()
	defer s.limits.Unlock()
	if s.over {
		return net.ErrClosed
	}
	return set(t)
}

func (s *stream) LocalAddr() net.Addr  { return streamAddr(s.r.Host) }
func (s *stream) RemoteAddr() net.Addr { return streamAddr(s.r.RemoteAddr) }

// streamAddr is an address as HTTP tells it.
type streamAddr string

func (streamAddr) Network() string  { return "tcp" }
func (a streamAddr) String() string { return string(a) }

// streamWriter answers a handshake over a stream: the library believes to switch
// protocols, the client gets 200 (RFC 8441, section 5).
type streamWriter struct {
	http.ResponseWriter
	stream *stream
	wire   *wire
}

// WriteHeader implements http.ResponseWriter.
func (w *streamWriter) WriteHeader(status int) {
	if status == http.StatusSwitchingProtocols {
		status = http.StatusOK
		for _, name := range []string{"Connection", "Upgrade", "Sec-WebSocket-Accept"} {
			w.Header().Del(name)
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

// Hijack implements http.Hijacker.
func (w *streamWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if err := w.stream.control.Flush(); err != nil {
		return nil, nil, err
	}
	w.wire.Conn, w.wire.deflate = w.stream, deflates(w)
	return w.wire, w.wire.buffers(), nil
}

var _ io.ReadWriteCloser = (*stream)(nil)
