package caddypresence

import (
	"context"
	"fmt"
	"net/http"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// dispatcher runs the actions of one configuration, and tells its events. It
// implements presence.Actions and presence.Events, and is given up with the
// configuration, but not before the requests that it has begun are answered.
type dispatcher struct {
	// Static after newDispatcher.
	hub     string
	actions map[string]caddyhttp.Handler // by name
	on      map[string]caddyhttp.Handler // by the event's name
	server  *caddyhttp.Server
	app     *caddyevents.App
	ctx     caddy.Context // of the configuration
	log     *zap.Logger
	cancel  context.CancelFunc // of the context that the handlers live in

	mu      sync.Mutex // guards the fields below
	running int
	retired bool
}

// newDispatcher provisions a hub's handlers. They live in a context of their
// own, which retire ends; it must be called, also after an error.
func newDispatcher(ctx caddy.Context, hub string, o *ActionOptions, log *zap.Logger) (*dispatcher, error) {
	d := &dispatcher{
		hub: hub, actions: make(map[string]caddyhttp.Handler), on: make(map[string]caddyhttp.Handler),
		ctx: ctx, log: log, cancel: func() {},
	}
	events, err := ctx.App("events")
	if err != nil {
		return d, fmt.Errorf("loading the events app: %w", err)
	}
	d.app = events.(*caddyevents.App)
	d.server, _ = ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if len(o.Action)+len(o.On) == 0 {
		return d, nil
	}
	// The configuration's own context ends before the last request may have.
	ctx.Context = context.WithoutCancel(ctx.Context)
	ctx, d.cancel = caddy.NewContext(ctx)
	for _, a := range o.Action {
		if err := compile(ctx, a.Routes, a.Names, d.actions); err != nil {
			return d, fmt.Errorf("setting up action %s: %w", a.Names[0], err)
		}
	}
	for _, e := range o.On {
		if err := compile(ctx, e.Routes, e.Events, d.on); err != nil {
			return d, fmt.Errorf("setting up on %s: %w", e.Events[0], err)
		}
	}
	return d, nil
}

// errNoRoute means that no handler has answered.
var errNoRoute = &presence.FrameError{
	Code: presence.ErrorUnknownAction, Message: "no handler of this action takes the frame",
}

// compile provisions routes, and puts what runs them under all names.
func compile(ctx caddy.Context, routes caddyhttp.RouteList, names []string, into map[string]caddyhttp.Handler) error {
	if err := routes.Provision(ctx); err != nil {
		return err
	}
	handler := routes.Compile(caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
		return errNoRoute
	}))
	for _, name := range names {
		into[name] = handler
	}
	return nil
}

// keeps reports whether something of each handshake is needed later.
func (d *dispatcher) keeps() bool {
	asked := 0
	if d.on[eventConnect] != nil {
		asked = 1
	}
	return len(d.actions) > 0 || len(d.on) > asked
}

// enter counts a request that begins; it returns false if the dispatcher is
// retired. leave must follow.
func (d *dispatcher) enter() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.retired {
		return false
	}
	d.running++
	return true
}

// leave counts a request that has ended.
func (d *dispatcher) leave() {
	d.mu.Lock()
	d.running--
	last := d.retired && d.running == 0
	d.mu.Unlock()
	if last {
		d.cancel()
	}
}

// retire ends the dispatcher when the last request that it has begun has ended.
func (d *dispatcher) retire() {
	d.mu.Lock()
	first := !d.retired
	d.retired = true
	last := first && d.running == 0
	d.mu.Unlock()
	if last {
		d.cancel()
	}
}

// handler returns what handles an action, or nil.
func (d *dispatcher) handler(name string, binary bool) caddyhttp.Handler {
	if binary {
		return d.actions[binaryAction]
	}
	if h := d.actions[name]; h != nil && name != binaryAction {
		return h
	}
	return d.actions[anyAction]
}

// Takes implements presence.Actions.
func (d *dispatcher) Takes(name string, binary bool) bool { return d.handler(name, binary) != nil }

// Do implements presence.Actions.
func (d *dispatcher) Do(ctx context.Context, act *presence.Action) error {
	if !d.enter() {
		return presence.ErrActionsRetired
	}
	defer d.leave()
	handler := d.handler(act.Name, act.Binary)
	if handler == nil {
		return errNoRoute // the configuration has changed since
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := &answer{
		header: make(http.Header), cancel: cancel,
		line: func(line []byte) error { return act.Line(ctx, line) },
		began: func(header http.Header) {
			if at, ok := expiry(header, d.log); ok {
				act.Renew(at)
			}
		},
	}
	err := w.finish(handler.ServeHTTP(w, d.request(ctx, w, act)))
	switch {
	case err != nil:
		return err
	case w.streaming:
		return act.Reply(nil)
	}
	return act.Reply(w.body.Bytes())
}

// request is what an action's frame becomes.
func (d *dispatcher) request(ctx context.Context, w http.ResponseWriter, act *presence.Action) *http.Request {
	h := originOf(act.Origin)
	r := h.request(ctx, act.Body)
	name := act.Name
	if act.Binary {
		name = binaryAction
		r.Header.Set("Content-Type", "application/octet-stream")
	} else {
		r.Header.Set("Content-Type", "application/json")
	}
	return h.prepare(r, w, d.server, []value{
		{"action", name}, {"conn", act.Conn.String()}, {"id", string(act.User)}, {"type", act.Type},
	})
}

// originOf returns the handshake of a connection; one that came when there were
// no actions has kept nothing of it.
func originOf(o *presence.Origin) *handshake {
	if o != nil {
		if h, ok := o.Request.(*handshake); ok {
			return h
		}
	}
	return &handshake{host: "localhost", uri: "/"}
}

var _ presence.Actions = (*dispatcher)(nil)
