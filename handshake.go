package caddypresence

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/seed-57c14f3c/caddy-presence/presence"
	"github.com/seed-57c14f3c/caddy-presence/presence/socket"
)

// peer is who makes the handshake, or why it is refused.
func (h *Handler) peer(r *http.Request) (socket.Peer, *socket.Refusal) {
	p := socket.Peer{Addr: clientAddr(r)}
	repl, _ := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if h.Identity != "" {
		id, err := presence.CheckUserID(repl.ReplaceAll(h.Identity, ""))
		if err != nil {
			return p, &socket.Refusal{
				Status: http.StatusUnauthorized, Code: presence.CloseUnauthorized, Reason: "the handshake has no identity",
			}
		}
		p.Identity = id
	}
	fixed, err := h.member(repl)
	if err != nil {
		h.log.Error("the member's fields of a handshake cannot be used", zap.Error(err))
		return p, &socket.Refusal{
			Status: http.StatusUnauthorized, Code: presence.CloseUnauthorized, Reason: "the handshake's member cannot be used",
		}
	}
	if !fixed.Empty() {
		p.Origin = &presence.Origin{Fixed: fixed}
	}
	if h.actions.keeps() {
		if p.Origin == nil {
			p.Origin = new(presence.Origin)
		}
		p.Origin.Request = keepHandshake(r)
	}
	return h.expiry(p, repl)
}

// expiry adds when the identity expires.
func (h *Handler) expiry(p socket.Peer, repl *caddy.Replacer) (socket.Peer, *socket.Refusal) {
	text := repl.ReplaceAll(h.Expires, "")
	if text == "" {
		return p, nil
	}
	at, err := parseTime(text)
	if err != nil {
		h.log.Error("the time when an identity expires cannot be read", zap.Error(err))
		return p, &socket.Refusal{
			Status: http.StatusUnauthorized, Code: presence.CloseUnauthorized, Reason: "the identity has no usable expiry",
		}
	}
	if !time.Now().Before(at) {
		return p, &socket.Refusal{
			Status: http.StatusUnauthorized, Code: presence.CloseIDExpired, Reason: "the identity has expired",
		}
	}
	p.Expires = at
	return p, nil
}

// parseTime reads Unix seconds or RFC 3339.
func parseTime(text string) (time.Time, error) {
	if seconds, err := strconv.ParseFloat(text, 64); err == nil && seconds > 0 && seconds < 1<<40 {
		return time.UnixMilli(int64(seconds * 1000)), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, fmt.Errorf("expected Unix seconds or RFC 3339, got %q", text)
	}
	return at, nil
}

// isHandshake reports whether a request asks for a WebSocket (RFC 6455, section
// 4.1, RFC 8441, RFC 9220); whether it does so correctly is told when it is
// accepted.
func isHandshake(r *http.Request) bool {
	if socket.IsExtendedConnect(r) {
		return true
	}
	return r.Method == http.MethodGet && r.ProtoMajor == 1 &&
		hasToken(r.Header, "Connection", "upgrade") && hasToken(r.Header, "Upgrade", "websocket")
}

// liftIdleTimeout lets a stream of HTTP/2 or HTTP/3 be quiet for longer than
// Caddy waits for the body of a request; the function it returns undoes that.
func liftIdleTimeout(r *http.Request) func() {
	const forEver = 100 * 365 * 24 * time.Hour
	if reader, _ := caddyhttp.IdleTimeoutsFromContext(r.Context()); reader != nil && socket.IsExtendedConnect(r) {
		return reader.Override(forEver, 0)
	}
	return func() {}
}

func offersSubprotocol(r *http.Request) bool {
	return hasToken(r.Header, "Sec-WebSocket-Protocol", socket.Subprotocol)
}

// hasToken reports whether a header's comma-separated values contain a token.
func hasToken(h http.Header, name, token string) bool {
	for _, v := range h.Values(name) {
		for t := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// clientAddr is the client's address behind the proxies that the server trusts.
func clientAddr(r *http.Request) string {
	if ip, ok := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string); ok && ip != "" {
		return ip
	}
	return r.RemoteAddr
}
