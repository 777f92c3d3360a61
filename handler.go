package caddypresence

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/seed-57c14f3c/caddy-presence/caddyfile"
	"github.com/seed-57c14f3c/caddy-presence/presence"
	"github.com/seed-57c14f3c/caddy-presence/presence/socket"
)

// Handler is the HTTP handler "presence": it takes over WebSocket handshakes on
// its route, and keeps the connections as members of a hub. Any other request
// goes to the next handler.
//
// Where an option says so, 0 switches a limit off.
type Handler struct {
	// The hub that connections join: the members that can be reached together.
	// 1 to 64 letters, digits, _ or -. Default: default.
	Hub string `json:"hub,omitempty"`

	// A placeholder for who is logged in, such as {http.auth.user.id}: only this
	// id may be opened, and an open frame may leave it out. A handshake for which
	// it is empty is refused (401, or 4009).
	Identity string `json:"identity,omitempty"`

	// A placeholder for when the identity expires, in Unix seconds or as RFC
	// 3339, such as a JWT's exp: the connection is then closed (4202). Empty for
	// a handshake: never.
	Expires string `json:"expires,omitempty"`

	// Which pages may connect, by their Origin: host names (app.example.com,
	// *.example.com), hosts with a port, or whole origins with a scheme; "*" is
	// any. Default: only pages of the same origin. A request without an Origin
	// header does not come from a page, and is allowed.
	Origins []string `json:"origins,omitempty"`

	// How many connections of a user may be open at once. Default: newest.
	Sessions Sessions `json:"sessions,omitzero"`

	// After how long a silence of any kind a connection is sent a protocol
	// ping. Default: 25s; 0 switches it off.
	PingInterval *caddy.Duration `json:"ping_interval,omitempty"`

	// How long after a ping a connection that stays silent is closed (4201).
	// Default: 10s.
	PongTimeout *caddy.Duration `json:"pong_timeout,omitempty"`

	// How long a client may send no message, the text ping above all, before
	// it is closed (4201): a browser answers protocol pings for a page that is
	// frozen. A client that announces its beat is given three of them instead.
	// Default: 130s; 0 switches it off.
	IdleTimeout *caddy.Duration `json:"idle_timeout,omitempty"`

	// How long a connection may take to its first open frame (4103).
	// Default: 60s, or 10s with an identity; 0 switches it off.
	OpenTimeout *caddy.Duration `json:"open_timeout,omitempty"`

	// How large a client's message may be, in bytes (1009). Default: 64 KiB.
	MaxMessageSize int64 `json:"max_message_size,omitempty"`

	// How many bytes may wait for a client that reads slowly. A push that does
	// not fit is dropped for this client, and reported; a queue that stays full
	// for 10 seconds closes it (4101). At least 64 KiB. Default: 256 KiB.
	MaxQueue int64 `json:"max_queue,omitempty"`

	// How many connections the hub may have on this node; beyond it a handshake
	// is refused (503, or 4100). Default: 0, no limit.
	MaxConnections int `json:"max_connections,omitempty"`

	// How many connections of one client address may be waiting for their first
	// open frame (503, or 4100). Default: 100; 0 switches it off.
	MaxUnopened *int `json:"max_unopened,omitempty"`

	// How many messages a client may send a second, and how many at once; the
	// text ping is not counted. One more is answered with the error too_fast;
	// going on for 10 seconds closes the connection (4102). Default: 20 and 40;
	// 0 switches it off.
	RateLimit *RateLimit `json:"rate_limit,omitempty"`

	// Whether clients may agree on permessage-deflate. It spares bandwidth where
	// messages are long, at the cost of CPU, and of 8 KiB for each connection
	// that has sent a compressed message. Default: false.
	Compression bool `json:"compression,omitempty"`

	// What is kept for clients that ask to resume. Default: nothing.
	Resume *Resume `json:"resume,omitempty"`

	ActionOptions

	app     *App
	store   *liveStore
	route   *route
	actions *dispatcher
	origins originRules
	log     *zap.Logger
}

// RateLimit is how many messages a client may send.
type RateLimit struct {
	Rate  int `json:"rate"`  // messages a second
	Burst int `json:"burst"` // messages at once
}

const (
	defaultHub          = "default"
	defaultPingInterval = 25 * time.Second
	defaultPongTimeout  = 10 * time.Second
	defaultIdleTimeout  = 130 * time.Second
	defaultOpenTimeout  = 60 * time.Second
	identityOpenTimeout = 10 * time.Second
	defaultMaxMessage   = 64 << 10
	defaultMaxQueue     = 256 << 10
	defaultMaxUnopened  = 100
	defaultSessions     = 16
)

var defaultRate = RateLimit{Rate: 20, Burst: 40}

var hubName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.presence", New: func() caddy.Module { return new(Handler) }}
}

// Provision joins the route to its hub.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.log = ctx.Logger()
	options := h.fingerprint()
	if h.Hub == "" {
		h.Hub = defaultHub
	}
	if err := h.check(); err != nil {
		return err
	}
	app, err := ctx.App("presence")
	if err != nil {
		return fmt.Errorf("loading the presence app: %w", err)
	}
	h.app = app.(*App)
	if h.actions, err = newDispatcher(ctx, h.Hub, &h.ActionOptions, h.log); err != nil {
		return err
	}
	r := &route{
		name: h.Hub, generation: h.app.id, options: options, drain: h.app.drain(),
		settings: h.settings(), limits: h.limits(),
	}
	if err := h.app.addRoute(r); err != nil {
		return err
	}
	h.app.store.retain()
	h.store = h.app.store
	if err := useHub(r); err != nil {
		return err
	}
	h.route = r
	return nil
}

func (h *Handler) check() error {
	if !hubName.MatchString(h.Hub) {
		return fmt.Errorf("hub %q: a name has 1 to 64 letters, digits, _ or -", h.Hub)
	}
	if err := errors.Join(h.Sessions.check(), h.ActionOptions.check()); err != nil {
		return err
	}
	if h.MaxQueue != 0 && h.MaxQueue < presence.MaxPushSize {
		return fmt.Errorf("max_queue: expected at least %d bytes, the size of the largest push", presence.MaxPushSize)
	}
	for _, d := range []*caddy.Duration{h.PingInterval, h.PongTimeout, h.IdleTimeout, h.OpenTimeout} {
		if d != nil && *d < 0 {
			return errors.New("a duration cannot be negative")
		}
	}
	if h.MaxMessageSize < 0 || h.MaxConnections < 0 || h.MaxUnopened != nil && *h.MaxUnopened < 0 {
		return errors.New("a limit cannot be negative")
	}
	var err error
	if h.origins, err = parseOrigins(h.Origins); err != nil {
		return err
	}
	_, err = h.Resume.keeping()
	return err
}

func (h *Handler) settings() presence.Settings {
	sessions := presence.Sessions{Max: 1, By: h.Sessions.By}
	if h.Sessions.Mode == "many" {
		sessions.Max = orDefault(h.Sessions.Max, defaultSessions)
	}
	keeping, _ := h.Resume.keeping() // checked
	s := presence.Settings{
		Store:         h.app.store.Store,
		Keeping:       keeping,
		Sessions:      sessions,
		Grace:         h.app.grace(),
		StopGrace:     max(h.app.drain(), presence.StopGraceAtLeast),
		ActionTimeout: durationOr(h.ActionTimeout, defaultActionTimeout),
		Actions:       h.actions,
		Events:        h.actions,
		MaxActions:    defaultMaxActions,
		Log:           h.log,
	}
	if h.MaxActions != nil {
		s.MaxActions = *h.MaxActions
	}
	return s
}

func (h *Handler) limits() socket.Limits {
	rate, unopened, openTimeout := defaultRate, defaultMaxUnopened, defaultOpenTimeout
	if h.Identity != "" {
		openTimeout = identityOpenTimeout
	}
	if h.RateLimit != nil {
		rate = *h.RateLimit
	}
	if h.MaxUnopened != nil {
		unopened = *h.MaxUnopened
	}
	return socket.Limits{
		PingInterval:   durationOr(h.PingInterval, defaultPingInterval),
		PongTimeout:    durationOr(h.PongTimeout, defaultPongTimeout),
		IdleTimeout:    durationOr(h.IdleTimeout, defaultIdleTimeout),
		OpenTimeout:    durationOr(h.OpenTimeout, openTimeout),
		MaxMessage:     orDefault(h.MaxMessageSize, defaultMaxMessage),
		MaxQueue:       int(orDefault(h.MaxQueue, defaultMaxQueue)),
		Rate:           rate.Rate,
		Burst:          rate.Burst,
		MaxConnections: h.MaxConnections,
		MaxUnopened:    unopened,
		Compression:    h.Compression,
		Log:            h.log,
	}
}

// Cleanup lets go of the hub; its connections are closed if no other
// configuration has it.
func (h *Handler) Cleanup() error {
	var err error
	if h.route != nil {
		err = h.route.leave()
	}
	if h.actions != nil {
		h.actions.retire()
	}
	if h.store != nil {
		err = errors.Join(err, h.store.release())
	}
	return err
}

// ServeHTTP upgrades a WebSocket handshake. Over HTTP/1.1 it returns at once, and
// the connection lives on without the request: its access-log line is written at
// its beginning. Over HTTP/2 and HTTP/3 it returns when the connection has ended.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if !isHandshake(r) {
		return next.ServeHTTP(w, r)
	}
	hub := h.route.hub
	// The HTTP app may serve before the configuration is said to have started.
	hub.activate(h.route)
	if !h.origins.allow(r) {
		return caddyhttp.Error(http.StatusForbidden, fmt.Errorf("origin %q is not allowed", r.Header.Get("Origin")))
	}
	peer, refusal := h.peer(r)
	if refusal == nil {
		refusal = hub.server.Admit(peer.Addr)
	}
	var said *answer
	if refusal == nil {
		if said, refusal = h.actions.connect(r, &peer, durationOr(h.ActionTimeout, defaultActionTimeout)); refusal != nil {
			hub.server.Abandon(peer.Addr)
		}
	}
	if refusal != nil && !offersSubprotocol(r) {
		return refuse(w, refusal, said)
	}
	defer liftIdleTimeout(r)()
	if err := hub.server.Upgrade(w, r, peer, refusal); err != nil {
		h.log.Debug("handshake refused", zap.Error(err), zap.String("address", peer.Addr))
	}
	return nil
}

// refuse answers a handshake that is refused; said is what a backend answered,
// or nil.
func refuse(w http.ResponseWriter, refusal *socket.Refusal, said *answer) error {
	if said != nil {
		said.copyTo(w)
		return nil
	}
	if refusal.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(refusal.RetryAfter/time.Second)))
	}
	return caddyhttp.Error(refusal.Status, refusal)
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// options are the options of the directive.
func (h *Handler) options() caddyfile.Block {
	block := caddyfile.Block{
		"hub":              caddyfile.String(&h.Hub),
		"identity":         caddyfile.String(&h.Identity),
		"expires":          caddyfile.String(&h.Expires),
		"origins":          caddyfile.Strings(&h.Origins),
		"sessions":         {Want: "newest [by <field>] | many [<count>]", Read: h.readSessions},
		"ping_interval":    optional(&h.PingInterval, caddyfile.Duration),
		"pong_timeout":     optional(&h.PongTimeout, caddyfile.Duration),
		"idle_timeout":     optional(&h.IdleTimeout, caddyfile.Duration),
		"open_timeout":     optional(&h.OpenTimeout, caddyfile.Duration),
		"max_message_size": caddyfile.Size(&h.MaxMessageSize),
		"max_queue":        caddyfile.Size(&h.MaxQueue),
		"max_connections":  caddyfile.Int(&h.MaxConnections, 0, 1<<30),
		"compression":      caddyfile.Flag(&h.Compression),
		"resume":           resumeOption(&h.Resume),
		"max_unopened": optional(&h.MaxUnopened, func(n *int) caddyfile.Option {
			return caddyfile.Int(n, 0, 1<<30)
		}),
		"rate_limit": optional(&h.RateLimit, func(l *RateLimit) caddyfile.Option {
			return caddyfile.Ints(0, 1<<20, &l.Rate, &l.Burst)
		}),
	}
	maps.Copy(block, h.ActionOptions.options())
	return block
}

// parseHandler reads the directive:
//
//	presence [<matcher>] {
//		hub              <name>
//		identity         <placeholder>
//		expires          <placeholder>
//		origins          <host or origin...>
//		sessions         newest [by <field>] | many [<count>]
//		ping_interval    <duration>
//		pong_timeout     <duration>
//		idle_timeout     <duration>
//		open_timeout     <duration>
//		max_message_size <size>
//		max_queue        <size>
//		max_connections  <count>
//		max_unopened     <count>
//		rate_limit       <per second> <burst>
//		compression      [on|off]
//		resume { window <duration>; messages <count> }
//		member_from { <field> <placeholder> ... }
//		action <name...> { <handlers> }
//		on <event...> { <handlers> }
//		action_timeout   <duration>
//		max_actions      <count>
//	}
func parseHandler(helper httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	h := new(Handler)
	helper.Next()
	if helper.NextArg() {
		return nil, helper.ArgErr()
	}
	if err := h.options().Read(helper.Dispenser); err != nil {
		return nil, err
	}
	if err := h.ActionOptions.parse(helper); err != nil {
		return nil, err
	}
	return h, nil
}

var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
