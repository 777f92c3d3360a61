package socket

import (
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// Server serves the connections of one hub. All methods may be called
// concurrently.
type Server struct {
	// Static after NewServer.
	hub  *presence.Hub
	stop chan struct{} // closed by Shutdown

	limits atomic.Pointer[Limits]
	places places

	mu       sync.Mutex // guards the fields below, and makes them hold for Attach
	draining bool       // Drain or Shutdown was called
	shut     bool       // Shutdown was called
}

// NewServer makes the server of a hub, and starts its sweep, which Shutdown ends.
func NewServer(hub *presence.Hub, l Limits) *Server {
	s := &Server{hub: hub, stop: make(chan struct{})}
	s.limits.Store(&l)
	go s.sweep()
	return s
}

// Configure replaces the limits, for connections that are there too.
func (s *Server) Configure(l Limits) { s.limits.Store(&l) }

// Limits returns the limits that hold now. They must not be changed.
func (s *Server) Limits() *Limits { return s.limits.Load() }

// Refusal is a reason not to serve a connection, as an HTTP status before the
// upgrade and a close code after it.
type Refusal struct {
	Status     int
	Code       presence.CloseCode
	Reason     string
	RetryAfter time.Duration
}

func (r *Refusal) Error() string { return r.Reason }

// retry is when a client that was refused may come back.
const retry = 5 * time.Second

var stopping = &Refusal{http.StatusServiceUnavailable, presence.CloseRestart, "this server is stopping", retry}

// Admit takes a place for one more connection from an address, or says why
// there is none. Upgrade must follow, with the refusal if there is one.
func (s *Server) Admit(addr string) *Refusal {
	if s.Draining() {
		return stopping
	}
	return s.places.take(addr, s.Limits())
}

// Peer is who makes a connection.
type Peer struct {
	// Addr is the client's address, as the limits count it.
	Addr string

	// Identity is the only id that may be opened; empty: any.
	Identity presence.UserID

	// Expires is when the identity does; the connection is then closed with
	// 4202. Zero: never.
	Expires time.Time

	// Origin is what actions and events need of the handshake; may be nil.
	Origin *presence.Origin
}

// Upgrade makes the request a connection of the hub. Over HTTP/1.1 it returns
// while another goroutine reads from the connection; over HTTP/2 and HTTP/3,
// where the stream ends with the handler, it returns when the connection has
// ended. If refusal is not nil, the connection is closed with its code right
// after the handshake. A handshake that is not valid has been answered when the
// error is returned.
func (s *Server) Upgrade(w http.ResponseWriter, r *http.Request, peer Peer, refusal *Refusal) error {
	c := &Conn{server: s, addr: peer.Addr, began: now()}
	switch {
	case refusal == nil:
		c.place = placeUnopened
	case !s.places.tell():
		http.Error(w, refusal.Reason, refusal.Status)
		return refusal
	default:
		c.told = true
	}
	if !peer.Expires.IsZero() {
		c.expires.Store(peer.Expires.UnixMilli())
	}
	c.attachment.SetOrigin(peer.Origin)
	c.limits = &s.limits
	c.lastRead.Store(uint32(c.began))
	c.lastData.Store(uint32(c.began))
	err := c.accept(w, r)
	if err == nil {
		err = s.attach(c, peer.Identity, refusal)
	}
	if err != nil {
		s.places.leave(c)
		return err
	}
	if IsExtendedConnect(r) {
		c.read(event{})
		_ = c.wire.Conn.Close() // whoever else closes it has done so then
	} else {
		go c.read(event{})
	}
	return nil
}

// attach takes an accepted connection in, unless the server has shut down since.
func (s *Server) attach(c *Conn, identity presence.UserID, refusal *Refusal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut {
		return errors.Join(stopping, c.wire.abort())
	}
	if s.draining && refusal == nil {
		refusal = stopping // since Admit
	}
	s.hub.Attach(c, identity)
	connected.Add(1)
	if refusal != nil {
		c.Close(refusal.Code, refusal.Reason)
	}
	return nil
}

// detach is called once for each connection, by its reader.
func (s *Server) detach(c *Conn, code presence.CloseCode, cause presence.Cause) {
	s.places.leave(c)
	s.hub.Detach(c, cause)
	connected.Add(-1)
	s.hub.CountClosed(code)
	s.Limits().Log.Debug("connection ended", zap.String("hub", s.hub.Name()),
		zap.Uint16("code", uint16(code)), zap.String("cause", string(cause)),
		zap.Duration("after", now().since(c.began)))
}

// close refuses new connections, takes the members out of presence, and closes
// the connections, spread over a time so that they do not all come back at once.
func (s *Server) close(code presence.CloseCode, reason string, spread time.Duration) {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	s.hub.Leave()
	var conns []*Conn
	s.hub.Range(func(c presence.Conn) bool {
		conns = append(conns, c.(*Conn))
		return true
	})
	const step = 20 * time.Millisecond
	steps := max(1, min(len(conns), int(spread/step)))
	for i := range steps {
		for _, c := range conns[len(conns)*i/steps : len(conns)*(i+1)/steps] {
			c.end(code, reason, presence.CauseStop)
		}
		if i < steps-1 {
			time.Sleep(spread / time.Duration(steps))
		}
	}
	s.awaitEmpty()
}

// Drain takes all members out of presence in one batch, accepts nothing new,
// closes the connections with 1012 spread over a time, and returns when they
// have ended.
func (s *Server) Drain(spread time.Duration) {
	s.close(presence.CloseRestart, stopping.Reason, spread)
}

// Close ends all connections with a code and takes their members out of presence
// in one batch, because the hub ends. It returns when they have ended.
func (s *Server) Close(code presence.CloseCode, reason string) {
	s.close(code, reason, 0)
}

// Draining reports whether Drain or Shutdown was called.
func (s *Server) Draining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// Shutdown ends the sweep and whatever connection is left, without a word.
func (s *Server) Shutdown() {
	s.mu.Lock()
	first := !s.shut
	s.draining, s.shut = true, true
	s.mu.Unlock()
	if first {
		close(s.stop)
	}
	s.hub.Range(func(c presence.Conn) bool {
		conn := c.(*Conn)
		_ = conn.wire.abort()
		conn.unpark(event{})
		return true
	})
	s.awaitEmpty()
}

// awaitEmpty waits until all connections have ended, but not for ever: one
// that hangs must not hold up the process.
func (s *Server) awaitEmpty() {
	const poll = 5 * time.Millisecond
	for until := time.Now().Add(3 * closeWait); s.hub.Connections() > 0 && time.Now().Before(until); {
		time.Sleep(poll)
	}
}
