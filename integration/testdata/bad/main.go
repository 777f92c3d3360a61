// Command bad is Caddy with handlers that misbehave, for tests of what becomes of
// everybody else.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/seed-57c14f3c/caddy-presence"
)

func main() {
	caddy.RegisterModule(handler{})
	caddy.RegisterModule(printer{})
	httpcaddyfile.RegisterHandlerDirective("bad", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		h.Next()
		b := new(handler)
		if !h.Args(&b.Kind) {
			return nil, h.ArgErr()
		}
		return b, nil
	})
	httpcaddyfile.RegisterDirectiveOrder("bad", httpcaddyfile.Before, "respond")
	caddycmd.Main()
}

// handler is the HTTP handler "bad".
type handler struct {
	Kind string `json:"kind,omitempty"`
}

func (handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.bad", New: func() caddy.Module { return new(handler) }}
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	switch h.Kind {
	case "panics":
		panic("told to")
	case "aborts":
		panic(http.ErrAbortHandler)
	case "hijacks":
		_, _, err := http.NewResponseController(w).Hijack()
		return err
	case "hijacks_blindly":
		_, _, err := w.(http.Hijacker).Hijack()
		return err
	case "hangs": // without looking at its context
		time.Sleep(time.Hour)
	case "streams":
		w.Header().Set("Content-Type", "application/x-ndjson")
		for r.Context().Err() == nil {
			if _, err := fmt.Fprintln(w, `"again"`); err != nil {
				return err
			}
			time.Sleep(time.Millisecond)
		}
		return r.Context().Err()
	case "answers_late": // though nobody listens any more
		<-r.Context().Done()
		_, _ = fmt.Fprint(w, "late")
		return nil
	}
	return errors.New("no such kind")
}

// printer is the handler "print" of events.
type printer struct{}

func (printer) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.print", New: func() caddy.Module { return new(printer) }}
}

func (*printer) UnmarshalCaddyfile(d *caddyfile.Dispenser) error { d.Next(); return nil }

func (*printer) Handle(_ context.Context, e caddy.Event) error {
	fmt.Println("event", e.Name(), e.Data["id"], e.Data["type"], e.Data["reason"])
	return nil
}
