package caddypresence

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/seed-57c14f3c/caddy-presence/presence"
	"github.com/seed-57c14f3c/caddy-presence/presence/socket"
)

// connection is what is not the client's business in a request, or is meant for
// one connection alone (RFC 9110, section 7.6.1).
var connectionHeaders = []string{
	"Connection", "Content-Length", "Keep-Alive", "Proxy-Connection", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade", ":protocol",
}

// ownHeader reports whether a header belongs to a connection, to the WebSocket
// handshake, or to us.
func ownHeader(name string) bool {
	return slices.Contains(connectionHeaders, name) ||
		strings.HasPrefix(name, "Sec-Websocket-") || strings.HasPrefix(name, "Presence-")
}

// connect asks the handlers of `on connect` about a handshake, and takes the
// identity from their answer. The refusal is nil if they agree; if they gave an
// answer of their own, it is returned too.
func (d *dispatcher) connect(r *http.Request, peer *socket.Peer, timeout time.Duration) (*answer, *socket.Refusal) {
	handler := d.on[eventConnect]
	if handler == nil {
		return nil, nil
	}
	ctx, cancel := context.WithCancel(r.Context())
	if timeout > 0 {
		ctx, cancel = context.WithTimeout(r.Context(), timeout)
	}
	defer cancel()
	h := keepHandshake(r)
	asked := h.request(ctx, mustJSON(map[string]string{"event": eventConnect}))
	for name, values := range r.Header {
		if !ownHeader(name) {
			asked.Header[name] = slices.Clone(values)
		}
	}
	asked.Header.Set("Content-Type", "application/json")
	w := &answer{header: make(http.Header), cancel: cancel, frank: true}
	asked = h.prepare(asked, w, d.server, []value{{"event", eventConnect}, {"id", string(peer.Identity)}})
	err := w.finish(presence.Guarded(func() error { return handler.ServeHTTP(w, asked) }))
	if err == nil {
		err = takeIdentity(peer, w.header)
	}
	if err == nil {
		return nil, nil
	}
	return d.refusal(w, err)
}

// refusal is what a client is told whose handshake was not agreed to: what the
// backend answered, if it did.
func (d *dispatcher) refusal(w *answer, err error) (*answer, *socket.Refusal) {
	no := &socket.Refusal{Status: http.StatusBadGateway, Code: presence.CloseInternalError, Reason: "the backend failed"}
	var fe *presence.FrameError
	if errors.As(err, &fe) && fe.Status != 0 {
		no.Status, no.RetryAfter = fe.Status, fe.RetryAfter
	}
	switch {
	case no.Status == http.StatusTooManyRequests:
		no.Code, no.Reason = presence.CloseTooFast, fe.Message
	case no.Status < http.StatusInternalServerError:
		no.Code, no.Reason = presence.CloseUnauthorized, fe.Message
	case errors.Is(err, context.DeadlineExceeded):
		no.Status = http.StatusGatewayTimeout
		fallthrough
	default:
		d.log.Error("a handshake could not be decided about", zap.Error(err))
	}
	if w.status != no.Status {
		return nil, no
	}
	return w, no
}

// takeIdentity reads the headers by which an answer says who connects.
func takeIdentity(peer *socket.Peer, header http.Header) error {
	origin := peer.Origin
	if origin == nil {
		origin = new(presence.Origin)
	}
	if text := header.Get("Presence-Member"); text != "" {
		fields, id, err := presence.ParseFields([]byte(text))
		if err != nil {
			return fmt.Errorf("reading Presence-Member: %w", err)
		}
		origin.Fixed.Merge(fields)
		if id != "" {
			peer.Identity = id
		}
	}
	if text := header.Get("Presence-Type"); text != "" {
		if err := origin.Fixed.SetText("type", text); err != nil {
			return fmt.Errorf("reading Presence-Type: %w", err)
		}
	}
	if text := header.Get("Presence-Id"); text != "" {
		id, err := presence.CheckUserID(text)
		if err != nil {
			return fmt.Errorf("reading Presence-Id: %w", err)
		}
		peer.Identity = id
	}
	if text := header.Get("Presence-Expires"); text != "" {
		at, err := parseTime(text)
		if err != nil {
			return fmt.Errorf("reading Presence-Expires: %w", err)
		}
		peer.Expires = at
	}
	if !origin.Fixed.Empty() {
		peer.Origin = origin
	}
	return nil
}

// copyTo writes an answer to a client, as far as it is meant for it.
func (a *answer) copyTo(w http.ResponseWriter) {
	for name, values := range a.header {
		if !ownHeader(name) {
			w.Header()[name] = values
		}
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body.Bytes()) // the client may be gone
}
