// Command naive is Caddy with the obvious server as a handler in it.
package main

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/seed-57c14f3c/caddy-presence/bench/peers/obvious"
)

// server is shared by all routes.
var server obvious.Server

func main() {
	caddy.RegisterModule(handler{})
	httpcaddyfile.RegisterHandlerDirective("naive", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		return handler{}, nil
	})
	httpcaddyfile.RegisterDirectiveOrder("naive", httpcaddyfile.Before, "respond")
	caddycmd.Main()
}

// handler serves WebSockets and pushes.
type handler struct{}

// CaddyModule implements caddy.Module.
func (handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.naive", New: func() caddy.Module { return handler{} }}
}

// ServeHTTP blocks for as long as a WebSocket is open.
func (handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	switch r.URL.Path {
	case "/ws":
		server.Connect(w, r)
	case "/presence/push":
		server.Push(w, r)
	default:
		return next.ServeHTTP(w, r)
	}
	return nil
}
