package caddypresence

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// eventConnect is asked about before the upgrade; the others are told.
const eventConnect = "connect"

// eventNames are what `on` takes.
func eventNames() []string {
	names := []string{eventConnect}
	for _, kind := range presence.EventKinds {
		names = append(names, string(kind))
	}
	return names
}

// caddyEvents are the names by which Caddy's events app knows of events.
var caddyEvents = map[presence.EventKind]string{
	presence.EventOnline:  "presence.online",
	presence.EventOffline: "presence.offline",
}

// eventJSON is an event as it is told.
type eventJSON struct {
	Event  string          `json:"event"`
	ID     presence.UserID `json:"id"`
	Type   string          `json:"type"`
	Conn   presence.ConnID `json:"conn"`
	Reason presence.Cause  `json:"reason,omitempty"`
	At     time.Time       `json:"at"`
	Member json.RawMessage `json:"member"`

	// Of online and offline: the number grows from one event of a user to the
	// next, as long as the epoch is the same.
	Number int64  `json:"number,omitempty"`
	Epoch  string `json:"epoch,omitempty"`
}

func showEvent(e *presence.Event) eventJSON {
	return eventJSON{
		string(e.Kind), e.Member.ID, e.Member.Type, e.Conn, e.Cause, e.At.UTC(), e.Member.JSON, e.Number, e.Epoch,
	}
}

// undeliveredJSON is the event that a push was not confirmed. What was pushed, data
// or text, comes behind it.
type undeliveredJSON struct {
	Event string          `json:"event"`
	ID    presence.UserID `json:"id"`
	Push  string          `json:"push"`
	At    time.Time       `json:"at"`
}

// eventBody is an event as handlers are told it.
func eventBody(e *presence.Event) []byte {
	if e.Kind != presence.EventUndelivered {
		return mustJSON(showEvent(e))
	}
	b := mustJSON(undeliveredJSON{string(e.Kind), e.Member.ID, e.Push, e.At.UTC()})
	return append(append(append(b[:len(b)-1], ','), e.Body...), '}')
}

// Wants implements presence.Events.
func (d *dispatcher) Wants(kind presence.EventKind) bool {
	name := caddyEvents[kind]
	return d.on[string(kind)] != nil || name != "" && d.app.ShouldEmit(name)
}

// Emit implements presence.Events: it is what the events app is given.
func (d *dispatcher) Emit(e *presence.Event) {
	name := caddyEvents[e.Kind]
	if name == "" || !d.app.ShouldEmit(name) {
		return
	}
	d.app.Emit(d.ctx, name, map[string]any{
		"hub": d.hub, "id": string(e.Member.ID), "type": e.Member.Type, "conn": e.Conn.String(),
		"reason": string(e.Cause), "member": string(e.Member.JSON),
	})
}

// Tell implements presence.Events.
func (d *dispatcher) Tell(ctx context.Context, e *presence.Event) error {
	if !d.enter() {
		return presence.ErrActionsRetired
	}
	defer d.leave()
	handler := d.on[string(e.Kind)]
	if handler == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	h := originOf(e.Origin)
	r := h.request(ctx, eventBody(e))
	r.Header.Set("Content-Type", "application/json")
	w := &answer{header: make(http.Header), cancel: cancel}
	r = h.prepare(r, w, d.server, []value{
		{"event", string(e.Kind)}, {"conn", connText(e.Conn)}, {"id", string(e.Member.ID)}, {"type", e.Member.Type},
	})
	err := w.finish(handler.ServeHTTP(w, r))
	var fe *presence.FrameError
	if errors.As(err, &fe) && (fe.Status == http.StatusRequestTimeout || fe.Status == http.StatusTooManyRequests) {
		return backendFailed(fe.Status) // which is told again
	}
	if errors.Is(err, errNoRoute) {
		return nil // the matchers say that it is not of interest
	}
	return err
}

// connText is a connection's id; empty if there is none.
func connText(id presence.ConnID) string {
	if id.Node == "" {
		return ""
	}
	return id.String()
}

var _ presence.Events = (*dispatcher)(nil)
