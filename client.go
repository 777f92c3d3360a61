package caddypresence

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"net/http"
	"path"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

//go:embed client/dist/*.js client/dist/*.mjs
var clientFiles embed.FS

// clientFile is a build of the JavaScript client.
type clientFile struct {
	content []byte
	etag    string
}

// clientBuilds are the builds by their names: presence.js and shared.js are for
// script tags, presence.mjs and shared.mjs are ES modules.
var clientBuilds = readClientBuilds()

func readClientBuilds() map[string]clientFile {
	builds := make(map[string]clientFile)
	for _, name := range []string{"presence.js", "presence.mjs", "shared.js", "shared.mjs"} {
		content, err := clientFiles.ReadFile("client/dist/" + name)
		if err != nil {
			panic(err) // it is embedded
		}
		sum := sha256.Sum256(content)
		builds[name] = clientFile{content, `"` + hex.EncodeToString(sum[:12]) + `"`}
	}
	return builds
}

// ClientHandler is the HTTP handler "presence_client": it serves the JavaScript
// client that belongs to this version, so that a page needs nothing but a script
// tag. The last part of the path names the build: presence.js, presence.mjs,
// shared.js or shared.mjs. Any other request goes to the next handler.
type ClientHandler struct{}

// CaddyModule returns the Caddy module information.
func (ClientHandler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.presence_client", New: func() caddy.Module { return new(ClientHandler) }}
}

// ServeHTTP serves a build with a strong ETag. Browsers ask each time whether it
// has changed, so that a page never runs the client of an earlier version.
func (ClientHandler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	build, ok := clientBuilds[path.Base(r.URL.Path)]
	if !ok || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return next.ServeHTTP(w, r)
	}
	w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
	w.Header().Set("Cache-Control", "public, no-cache")
	w.Header().Set("ETag", build.etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(build.content))
	return nil
}

// parseClientHandler reads the directive:
//
//	presence_client [<matcher>]
func parseClientHandler(helper httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	helper.Next()
	if helper.NextArg() {
		return nil, helper.ArgErr()
	}
	if helper.NextBlock(0) {
		return nil, fmt.Errorf("presence_client takes no options, at %s:%d", helper.File(), helper.Line())
	}
	return new(ClientHandler), nil
}

var _ caddyhttp.MiddlewareHandler = (*ClientHandler)(nil)
