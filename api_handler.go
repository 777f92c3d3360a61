package caddypresence

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// APIHandler is the HTTP handler "presence_api": it serves the API of the admin
// endpoint on a site. Something has to stand in front of it that says who may use
// it; where nothing does, and the site is not reached by this machine alone, the
// configuration is refused.
type APIHandler struct {
	// What the path begins with, and is cut off, such as /push: then /push/members
	// is the call /members. Default: nothing.
	Prefix string `json:"prefix,omitempty"`

	handler http.Handler
}

// CaddyModule returns the Caddy module information.
func (APIHandler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.presence_api", New: func() caddy.Module { return new(APIHandler) }}
}

// Provision asks the app to see, once all routes are there, whether the API is
// exposed.
func (h *APIHandler) Provision(ctx caddy.Context) error {
	if h.Prefix != "" && (!strings.HasPrefix(h.Prefix, "/") || strings.HasSuffix(h.Prefix, "/")) {
		return fmt.Errorf("prefix %q: expected a path such as /push", h.Prefix)
	}
	h.handler = http.StripPrefix(h.Prefix, api)
	app, err := ctx.App("presence")
	if err != nil {
		return fmt.Errorf("loading the presence app: %w", err)
	}
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		app.(*App).addAPI(exposedAPI{h, server})
	}
	return nil
}

// ServeHTTP answers a call.
func (h *APIHandler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	h.handler.ServeHTTP(w, r)
	return nil
}

// parseAPIHandler reads the directive, whose path is both matcher and prefix:
//
//	presence_api [<path>]
func parseAPIHandler(helper httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	helper.Next()
	h := new(APIHandler)
	var matcher caddy.ModuleMap
	if helper.NextArg() {
		path := helper.Val()
		h.Prefix = strings.TrimRight(path, "/*")
		if !strings.HasPrefix(path, "/") || strings.Contains(h.Prefix, "*") {
			return nil, helper.Errf("presence_api: expected a path such as /push, got %q", path)
		}
		if h.Prefix != "" {
			matcher = caddy.ModuleMap{"path": helper.JSON(caddyhttp.MatchPath{h.Prefix, h.Prefix + "/*"})}
		}
	}
	if helper.NextArg() {
		return nil, helper.ArgErr()
	}
	if helper.NextBlock(0) {
		return nil, helper.Errf("presence_api takes no options")
	}
	return helper.NewRoute(matcher, h), nil
}

var (
	_ caddy.Provisioner           = (*APIHandler)(nil)
	_ caddyhttp.MiddlewareHandler = (*APIHandler)(nil)
)
