package caddypresence

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// handshake is what is kept of the request that a connection came by, for the
// requests that actions and events become. It is small, and a copy: nothing of
// the request itself, its server or its configuration stays in memory.
type handshake struct {
	host, uri, remote, client string
	tls, trusted              bool
	headers                   []string // names and values by turns
}

// keptHeaders are the client's headers that are given to handlers.
var keptHeaders = []string{"Authorization", "Cookie"}

// proxyHeaders are kept if they come from a proxy that the server trusts.
var proxyHeaders = []string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"}

// keepHandshake copies what is needed of a handshake.
func keepHandshake(r *http.Request) *handshake {
	h := &handshake{
		host: strings.Clone(r.Host), uri: strings.Clone(r.URL.RequestURI()),
		remote: strings.Clone(r.RemoteAddr), client: strings.Clone(clientAddr(r)), tls: r.TLS != nil,
	}
	h.trusted, _ = caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	h.keep(r.Header, keptHeaders)
	if h.trusted {
		h.keep(r.Header, proxyHeaders)
	}
	return h
}

func (h *handshake) keep(from http.Header, names []string) {
	for _, name := range names {
		for _, value := range from[name] {
			h.headers = append(h.headers, name, strings.Clone(value))
		}
	}
}

// request is a POST to the path of the handshake, as if its client had made it.
func (h *handshake) request(ctx context.Context, body []byte) *http.Request {
	u, err := url.ParseRequestURI(h.uri)
	if err != nil {
		u = &url.URL{Path: "/"}
	}
	r := &http.Request{
		Method: http.MethodPost, URL: u, RequestURI: h.uri, Host: h.host, RemoteAddr: h.remote,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: make(http.Header, 8),
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
		GetBody: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil },
	}
	if h.tls {
		name, _, err := net.SplitHostPort(h.host)
		if err != nil {
			name = h.host
		}
		r.TLS = &tls.ConnectionState{HandshakeComplete: true, ServerName: name}
	}
	for i := 0; i < len(h.headers); i += 2 {
		r.Header[h.headers[i]] = append(r.Header[h.headers[i]], h.headers[i+1])
	}
	return r.WithContext(ctx)
}

// value is what handlers are told of an action or event: as the placeholder
// {presence.NAME} and, if it is not empty, as the header Presence-NAME.
type value struct{ name, text string }

// prepare makes a request one that Caddy's handlers can take.
func (h *handshake) prepare(r *http.Request, w http.ResponseWriter, server *caddyhttp.Server, values []value) *http.Request {
	repl := caddy.NewReplacer()
	for _, v := range values {
		repl.Set("presence."+v.name, v.text)
		if v.text != "" {
			r.Header.Set("Presence-"+v.name, headerText(v.text))
		}
	}
	r = caddyhttp.PrepareRequest(r, repl, w, server)
	// Its headers alone might not tell any more.
	caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, h.client)
	caddyhttp.SetVar(r.Context(), caddyhttp.TrustedProxyVarKey, h.trusted)
	return r
}

// headerText makes a text fit for a header. Receivers cut off white space around
// it, which would make two users one.
func headerText(text string) string {
	if strings.TrimSpace(text) == text {
		return text
	}
	return url.PathEscape(text)
}
