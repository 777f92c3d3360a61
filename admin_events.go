package caddypresence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

const (
	// maxFollowers is how many may follow the events of a hub on a node.
	maxFollowers = 100

	// followPause is how often it is asked whether there are new events.
	followPause = 100 * time.Millisecond

	// followSign is how often a comment shows that the stream is alive.
	followSign = 15 * time.Second
)

// events streams who comes online and goes offline, as server-sent events (HTML
// standard, section 9.2), from a position on: the one of a listing, or where an
// earlier stream ended. It ends when the hub gets other settings, and when Caddy
// stops.
func events(h *liveHub, w http.ResponseWriter, r *http.Request) (any, error) {
	at, given, err := since(r)
	if err != nil {
		return nil, err
	}
	if h.followers.Add(1) > maxFollowers {
		h.followers.Add(-1)
		return nil, apiErrorf(http.StatusServiceUnavailable, "%d streams follow the events of this hub already", maxFollowers)
	}
	defer h.followers.Add(-1)
	if !given {
		if at, err = h.Store().Position(r.Context(), h.Name()); err != nil {
			return nil, err
		}
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // the server's are meant for short requests
	_ = control.SetWriteDeadline(time.Time{})
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	f := follow{hub: h, w: w, control: control, at: at}
	f.run(r.Context())
	return nil, nil
}

// since is from where a stream is asked for, if the request says so.
func since(r *http.Request) (presence.Position, bool, error) {
	for name := range r.URL.Query() {
		if name != "since" {
			return presence.Position{}, false, apiErrorf(http.StatusBadRequest, "unknown parameter %q; expected since", name)
		}
	}
	// A browser that comes back sends the header, and still the parameter.
	text := r.Header.Get("Last-Event-ID")
	if text == "" {
		text = r.URL.Query().Get("since")
	}
	if text == "" {
		return presence.Position{}, false, nil
	}
	at, err := presence.ParsePosition(text)
	if err != nil {
		return at, false, apiErrorf(http.StatusBadRequest, "since: %v", err)
	}
	return at, true, nil
}

// follow is one stream.
type follow struct {
	hub     *liveHub
	w       http.ResponseWriter
	control *http.ResponseController
	at      presence.Position
}

func (f *follow) run(ctx context.Context) {
	route, signed := f.hub.current.Load(), time.Now()
	err := f.write(fmt.Appendf(nil, "id: %s\n\n", f.at))
	tick := time.NewTicker(followPause)
	defer tick.Stop()
	for err == nil && f.hub.current.Load() == route && !f.hub.ends() {
		var more bool
		if more, err = f.step(ctx); more {
			continue
		}
		if err == nil && time.Since(signed) > followSign {
			signed = time.Now()
			err = f.write([]byte(":\n\n"))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// step writes what is new, and reports whether there may be more.
func (f *follow) step(ctx context.Context) (bool, error) {
	changes, next, err := f.hub.Store().Changes(ctx, f.hub.Name(), f.at)
	switch {
	case errors.Is(err, presence.ErrChangesLost):
		return false, f.reset(ctx, err)
	case err != nil || len(changes) == 0:
		return false, ctx.Err() // a store that is away may come back
	}
	var b bytes.Buffer
	for i := range changes {
		e := presence.NewEvent(&changes[i], f.at.Epoch)
		fmt.Fprintf(&b, "event: %s\ndata: %s\n", e.Kind, mustJSON(showEvent(e)))
		if i == len(changes)-1 {
			fmt.Fprintf(&b, "id: %s\n", next)
		}
		b.WriteByte('\n')
	}
	f.at = next
	return true, f.write(b.Bytes())
}

// reset tells that something is missing, and goes on from now.
func (f *follow) reset(ctx context.Context, lost error) error {
	at, err := f.hub.Store().Position(ctx, f.hub.Name())
	if err != nil {
		return ctx.Err()
	}
	f.at = at
	data := mustJSON(map[string]string{"event": "reset", "epoch": at.Epoch, "message": lost.Error()})
	return f.write(fmt.Appendf(nil, "event: reset\ndata: %s\nid: %s\n\n", data, at))
}

func (f *follow) write(b []byte) error {
	const limit = 10 * time.Second
	_ = f.control.SetWriteDeadline(time.Now().Add(limit))
	_, err := f.w.Write(b)
	return errors.Join(err, f.control.Flush())
}
