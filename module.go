// Package caddypresence makes Caddy a presence and push server: apps stay
// connected over WebSocket, are online while they show signs of life, and
// backends push messages to the users that are online.
//
// It has the app "presence", which says where presence is kept; the HTTP handler
// "presence", which takes connections on a route; and routes below /presence/ on
// Caddy's admin endpoint, by which backends push and ask who is online. The
// domain itself is in package presence, which knows no Caddy.
package caddypresence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	caddyconf "github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"

	"github.com/seed-57c14f3c/caddy-presence/caddyfile"
	"github.com/seed-57c14f3c/caddy-presence/presence"
)

func init() {
	caddy.RegisterModule(new(App))
	caddy.RegisterModule(MemoryStore{})
	caddy.RegisterModule(RedisStore{})
	caddy.RegisterModule(Handler{})
	caddy.RegisterModule(ClientHandler{})
	caddy.RegisterModule(AdminAPI{})
	caddy.RegisterModule(APIHandler{})
	httpcaddyfile.RegisterGlobalOption("presence", parseApp)
	httpcaddyfile.RegisterHandlerDirective("presence", parseHandler)
	httpcaddyfile.RegisterHandlerDirective("presence_client", parseClientHandler)
	httpcaddyfile.RegisterDirective("presence_api", parseAPIHandler)
	// After all that authenticates, before all that responds.
	httpcaddyfile.RegisterDirectiveOrder("presence", httpcaddyfile.Before, "handle")
	httpcaddyfile.RegisterDirectiveOrder("presence_client", httpcaddyfile.Before, "handle")
	httpcaddyfile.RegisterDirectiveOrder("presence_api", httpcaddyfile.Before, "handle")
}

const (
	defaultGrace = 10 * time.Second
	defaultDrain = 10 * time.Second
)

// App is the app "presence": where it is kept who is online, and how long users
// linger whose connection was lost. It need not be configured: then presence is
// kept in memory.
type App struct {
	// Where presence is kept. Default: the store "memory".
	StoreRaw json.RawMessage `json:"store,omitempty" caddy:"namespace=presence.stores inline_key=type"`

	// How long a user whose connection was lost is still listed, as lingering,
	// before it is offline; who reconnects within this time was never offline.
	// Default: 10s.
	Grace *caddy.Duration `json:"grace,omitempty"`

	// When Caddy stops: over how long the closing of the connections is spread,
	// so that clients do not all come back in one moment. Default: 10s.
	Drain *caddy.Duration `json:"drain,omitempty"`

	store *liveStore
	id    uint64 // later configurations have higher ones

	mu   sync.Mutex // guards the fields below
	hubs map[string]*route
	apis []exposedAPI
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "presence", New: func() caddy.Module { return new(App) }}
}

// Provision sets the app up. It makes no network connection: `caddy validate`
// provisions too.
func (a *App) Provision(ctx caddy.Context) error {
	a.id, a.hubs = lastGeneration.Add(1), make(map[string]*route)
	module := StoreModule(new(MemoryStore))
	if a.StoreRaw != nil {
		v, err := ctx.LoadModule(a, "StoreRaw")
		if err != nil {
			return fmt.Errorf("loading the store: %w", err)
		}
		module = v.(StoreModule)
	}
	store, err := useStore(module)
	if err != nil {
		return err
	}
	a.store = store
	return a.watch(ctx)
}

// watch learns when this configuration has started, and when Caddy stops. A
// configuration that fails to load was provisioned as well.
func (a *App) watch(ctx caddy.Context) error {
	v, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("loading the events app: %w", err)
	}
	events := v.(*caddyevents.App)
	if err := events.On("started", eventFunc(a.activate)); err != nil {
		return err
	}
	return events.On("stopping", eventFunc(func() {
		if caddy.Exiting() {
			a.beginDrain()
		}
	}))
}

// eventFunc is a function as a handler of Caddy's events.
type eventFunc func()

// Handle implements caddyevents.Handler.
func (f eventFunc) Handle(context.Context, caddy.Event) error { f(); return nil }

// Start checks that the store can be used, and that no API is exposed. What trying again cannot cure, such
// as a wrong password, refuses the configuration; a store that cannot be reached
// does not: Caddy may serve other sites, and the store may come up later.
func (a *App) Start() error {
	for _, api := range a.apis {
		if err := api.check(); err != nil {
			return err
		}
	}
	const limit = 3 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	err := a.store.Check(ctx)
	if err == nil || errors.Is(err, presence.ErrStoreUnavailable) {
		return nil // the store has logged it
	}
	return fmt.Errorf("checking the store: %w", err)
}

// Stop does nothing: connections live on under the next configuration, and end
// with the last one that has their hub.
func (a *App) Stop() error { return nil }

// Cleanup lets go of the store.
func (a *App) Cleanup() error {
	if a.store == nil {
		return nil
	}
	return a.store.release()
}

// addRoute takes note of a handler's hub. The same hub may be on several routes
// only with the same options: connections outlive the route they came by.
func (a *App) addRoute(r *route) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if other, ok := a.hubs[r.name]; ok {
		if other.options != r.options {
			return fmt.Errorf("hub %q is set up twice with different options; give one of them another name with: hub NAME", r.name)
		}
		return nil
	}
	a.hubs[r.name] = r
	return nil
}

// addAPI takes note of an API on a site.
func (a *App) addAPI(api exposedAPI) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.apis = append(a.apis, api)
}

func (a *App) routes() []*route {
	a.mu.Lock()
	defer a.mu.Unlock()
	routes := make([]*route, 0, len(a.hubs))
	for _, r := range a.hubs {
		routes = append(routes, r)
	}
	return routes
}

func (a *App) activate() {
	for _, r := range a.routes() {
		r.hub.activate(r)
	}
}

func (a *App) beginDrain() {
	for _, r := range a.routes() {
		r.hub.beginDrain(a.drain())
	}
}

func (a *App) grace() time.Duration { return durationOr(a.Grace, defaultGrace) }
func (a *App) drain() time.Duration { return durationOr(a.Drain, defaultDrain) }

func durationOr(d *caddy.Duration, def time.Duration) time.Duration {
	if d == nil {
		return def
	}
	return time.Duration(*d)
}

func (a *App) options() caddyfile.Block {
	return caddyfile.Block{
		"store": {Want: "<name> [<arguments...>] [{ ... }]", Read: a.readStore},
		"grace": optional(&a.Grace, caddyfile.Duration),
		"drain": optional(&a.Drain, caddyfile.Duration),
	}
}

func (a *App) readStore(d *caddyconf.Dispenser) error {
	if !d.NextArg() {
		return d.ArgErr()
	}
	name := d.Val()
	module, err := caddyconf.UnmarshalModule(d, "presence.stores."+name)
	if err != nil {
		return err
	}
	store, ok := module.(StoreModule)
	if !ok {
		return d.Errf("module presence.stores.%s is no store", name)
	}
	a.StoreRaw = caddyconfig.JSONModuleObject(store, "type", name, nil)
	return nil
}

// parseApp reads the global option:
//
//	presence {
//		store memory
//		store redis <url...> { ... }
//		grace <duration>
//		drain <duration>
//	}
func parseApp(d *caddyconf.Dispenser, existing any) (any, error) {
	if existing != nil {
		return nil, d.Err("presence is set up already")
	}
	a := new(App)
	d.Next()
	if d.NextArg() {
		return nil, d.ArgErr()
	}
	if err := a.options().Read(d); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "presence", Value: caddyconfig.JSON(a, nil)}, nil
}

// optional is an option whose absence means something else than its zero value.
func optional[T any](p **T, option func(*T) caddyfile.Option) caddyfile.Option {
	value := new(T)
	o := option(value)
	read := o.Read
	o.Read = func(d *caddyconf.Dispenser) error {
		if err := read(d); err != nil {
			return err
		}
		*p = value
		return nil
	}
	return o
}

var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
