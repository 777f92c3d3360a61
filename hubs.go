package caddypresence

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed-57c14f3c/caddy-presence/presence"
	"github.com/seed-57c14f3c/caddy-presence/presence/socket"
)

// hubs are the hubs of this process by name. They outlive configurations: a
// reload that keeps a hub keeps its connections.
var hubs = caddy.NewUsagePool()

// lastGeneration numbers the configurations.
var lastGeneration atomic.Uint64

// route is what one configuration says of a hub.
type route struct {
	name       string
	generation uint64
	options    string // of the handler, as JSON
	settings   presence.Settings
	limits     socket.Limits
	drain      time.Duration
	hub        *liveHub
}

// liveHub is a hub with its connections, and what the configurations that have
// it say of it.
type liveHub struct {
	// Static after newLiveHub.
	*presence.Hub
	server *socket.Server

	current   atomic.Pointer[route] // whose settings hold; nil when the hub has ended; written under mu
	followers atomic.Int64          // of events

	mu     sync.Mutex    // guards the fields below
	routes []*route      // of all configurations that are provisioned, oldest first
	drain  chan struct{} // closed when all connections have ended; nil before
}

// useHub joins a route to its hub, which is made if this is the first route.
func useHub(r *route) error {
	v, _, err := hubs.LoadOrNew(r.name, func() (caddy.Destructor, error) {
		h := &liveHub{Hub: presence.NewHub(r.name)}
		h.Configure(r.settings)
		h.server = socket.NewServer(h.Hub, r.limits)
		h.current.Store(r)
		return h, nil
	})
	if err != nil {
		return fmt.Errorf("setting up hub %q: %w", r.name, err)
	}
	r.hub = v.(*liveHub)
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	r.hub.routes = append(r.hub.routes, r)
	return nil
}

// activate makes a route's settings hold, for connections that are there too,
// unless those of a later configuration do already.
func (h *liveHub) activate(r *route) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if cur := h.current.Load(); cur == nil || cur.generation < r.generation {
		h.applyLocked(r)
	}
}

// applyLocked does so in any case. h.mu must be held.
func (h *liveHub) applyLocked(r *route) {
	h.Configure(r.settings)
	h.server.Configure(r.limits)
	h.current.Store(r)
}

// leave takes a route away whose configuration ends. If its settings held, as
// after a configuration that failed to load, the latest before it does.
func (r *route) leave() error {
	h := r.hub
	h.mu.Lock()
	h.routes = slices.DeleteFunc(h.routes, func(o *route) bool { return o == r })
	if h.current.Load() == r && len(h.routes) > 0 {
		h.applyLocked(h.routes[len(h.routes)-1])
	}
	h.mu.Unlock()
	_, err := hubs.Delete(r.name)
	return err
}

// beginDrain starts to close all connections because the process ends. It
// returns at once; Destruct waits.
func (h *liveHub) beginDrain(spread time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.drain != nil {
		return
	}
	done := make(chan struct{})
	h.drain = done
	go func() {
		defer close(done)
		h.server.Drain(spread)
	}()
}

// ends reports whether this hub is about to end, and streams with it.
func (h *liveHub) ends() bool { return h.current.Load() == nil || h.server.Draining() }

// Destruct ends the hub: no configuration has it any more.
func (h *liveHub) Destruct() error {
	if caddy.Exiting() {
		h.beginDrain(h.current.Load().drain)
	}
	h.mu.Lock()
	drained := h.drain
	h.current.Store(nil)
	h.mu.Unlock()
	if drained != nil {
		<-drained
	} else {
		h.server.Close(presence.CloseGoingAway, "this hub is gone")
	}
	h.server.Shutdown()
	h.EndEvents(eventsWait)
	h.Store().Leave(h.Name())
	return nil
}

// eventsWait is how long the end of a hub waits for whoever is told its last
// events.
const eventsWait = 3 * time.Second

// findHub returns a hub by its name, or nil.
func findHub(name string) *liveHub {
	var found *liveHub
	hubs.Range(func(k, v any) bool {
		if k == name {
			found = v.(*liveHub)
			return false
		}
		return true
	})
	return found
}
