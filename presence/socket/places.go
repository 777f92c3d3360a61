package socket

import (
	"net/http"
	"sync"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// places counts the connections of a server, and for each address those that
// have not been open yet, against the limits.
type places struct {
	mu       sync.Mutex // guards the fields below
	taken    int
	told     int            // connections that were refused, and upgraded to be told so
	unopened map[string]int // by address
}

// place is what a connection takes of places. It is owned by its reader.
type place int8

const (
	placeNone     place = iota // it was refused, or has ended
	placeUnopened              // one, and one of its address
	placeOpened                // one
)

// take takes a place for a connection, before it is accepted: a storm of
// handshakes must not pass the limits.
func (p *places) take(addr string, l *Limits) *Refusal {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.MaxConnections > 0 && p.taken >= l.MaxConnections {
		return &Refusal{http.StatusServiceUnavailable, presence.CloseFull, "too many connections", retry}
	}
	if l.MaxUnopened > 0 && p.unopened[addr] >= l.MaxUnopened {
		return &Refusal{http.StatusServiceUnavailable, presence.CloseFull, "too many connections from this address that are not open", retry}
	}
	if p.unopened == nil {
		p.unopened = make(map[string]int)
	}
	p.taken++
	p.unopened[addr]++
	return nil
}

// maxTold is how many connections at a time are upgraded only to be refused.
const maxTold = 256

// tell takes a place for a connection that is refused, and upgraded to be told so.
// It returns false if there are too many.
func (p *places) tell() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.told >= maxTold {
		return false
	}
	p.told++
	return true
}

// opened is told that a connection is open; only the first time counts.
func (p *places) opened(c *Conn) {
	if c.place != placeUnopened {
		return
	}
	c.place = placeOpened
	p.mu.Lock()
	defer p.mu.Unlock()
	p.openedLocked(c.addr)
	c.addr = "" // there are many connections, and it has served
}

// openedLocked counts one less that is not open. p.mu must be held.
func (p *places) openedLocked(addr string) {
	if p.unopened[addr]--; p.unopened[addr] <= 0 {
		delete(p.unopened, addr)
	}
}

// leave gives a connection's place back.
func (p *places) leave(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.told {
		c.told = false
		p.told--
	}
	if c.place == placeNone {
		return
	}
	if c.place == placeUnopened {
		p.openedLocked(c.addr)
	}
	p.taken--
	c.place = placeNone
}

// Abandon gives back the place that Admit took, for a connection that will not
// be: Upgrade follows with a refusal, or not at all.
func (s *Server) Abandon(addr string) {
	s.places.leave(&Conn{addr: addr, place: placeUnopened})
}
