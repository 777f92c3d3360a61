package caddypresence

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddyconf "github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed-57c14f3c/caddy-presence/caddyfile"
	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// ActionOptions say which of Caddy's handlers do what the hub itself does not.
type ActionOptions struct {
	// What becomes of a client's frames whose action is not the hub's own, and of
	// its binary messages.
	Action []ActionRoutes `json:"action,omitempty"`

	// How long an action may take; its request is cancelled then, and answered
	// with the error backend_failed. Default: 29s; 0 switches it off.
	ActionTimeout *caddy.Duration `json:"action_timeout,omitempty"`

	// How many actions of the hub may run or wait on this node at once; one more
	// is answered with the error too_fast. Of one connection, one runs and 16
	// wait. Default: 4096; 0 switches it off.
	MaxActions *int `json:"max_actions,omitempty"`

	// Whom to ask about handshakes, and to tell what happens.
	On []EventRoutes `json:"on,omitempty"`

	// Fields of the member that the client may not set itself, and placeholders
	// for their values at the handshake; where one is empty, the member has no
	// such field. For the id there is the option identity.
	MemberFrom map[string]string `json:"member_from,omitempty"`

	segments []segment
}

// EventRoutes are the handlers of some events.
type EventRoutes struct {
	// Which events. "connect" is asked about before the upgrade: an answer other
	// than 2xx refuses the handshake, and one of 2xx may say who connects, by the
	// headers Presence-Id, Presence-Type, Presence-Member and Presence-Expires.
	// "open", "close", "online" and "offline" are told in order for each user,
	// for up to a minute while they are not taken.
	Events []string `json:"events"`

	// What becomes of the event. It comes as a POST to the path of the handshake
	// with a JSON object as its body.
	Routes caddyhttp.RouteList `json:"routes"`
}

// ActionRoutes are the handlers of some actions.
type ActionRoutes struct {
	// Which actions: the "action" of a client's frame. "*" is any that has no
	// handlers of its own, "binary" stands for all binary messages.
	Names []string `json:"names"`

	// What becomes of the frame. It comes as a POST to the path of the
	// handshake, with the frame as its body.
	Routes caddyhttp.RouteList `json:"routes"`
}

const (
	anyAction    = "*"
	binaryAction = "binary"

	defaultActionTimeout = 29 * time.Second
	defaultMaxActions    = 4096
)

// check refuses what cannot be meant.
func (o *ActionOptions) check() error {
	if o.ActionTimeout != nil && *o.ActionTimeout < 0 || o.MaxActions != nil && *o.MaxActions < 0 {
		return errors.New("a limit of actions cannot be negative")
	}
	var seen []string
	for _, a := range o.Action {
		if len(a.Names) == 0 || slices.Contains(a.Names, "") {
			return errors.New("action: expected names")
		}
		for _, name := range a.Names {
			if name == "open" || name == "close" {
				return fmt.Errorf("action %s: the hub itself handles such frames", name)
			}
			if slices.Contains(seen, name) {
				return fmt.Errorf("action %s is given twice", name)
			}
			seen = append(seen, name)
		}
	}
	return errors.Join(o.checkEvents(), o.checkMember())
}

func (o *ActionOptions) checkMember() error {
	for name := range o.MemberFrom {
		if err := presence.CheckField(name); err != nil {
			return fmt.Errorf("member_from: %w", err)
		}
	}
	return nil
}

func (o *ActionOptions) checkEvents() error {
	var seen []string
	for _, e := range o.On {
		if len(e.Events) == 0 {
			return errors.New("on: expected events")
		}
		for _, name := range e.Events {
			if !slices.Contains(eventNames(), name) {
				return fmt.Errorf("on: expected %s, got %q", strings.Join(eventNames(), ", "), name)
			}
			if slices.Contains(seen, name) {
				return fmt.Errorf("on %s is given twice", name)
			}
			seen = append(seen, name)
		}
	}
	return nil
}

// segment is an option that holds handlers: they can be read only with the HTTP
// adapter's help.
type segment struct {
	names []string
	block *caddyconf.Dispenser
	put   func(names []string, routes caddyhttp.RouteList)
}

func (o *ActionOptions) options() caddyfile.Block {
	return caddyfile.Block{
		"action": o.handlers("<name...> { <handlers> }", func(names []string, routes caddyhttp.RouteList) {
			o.Action = append(o.Action, ActionRoutes{names, routes})
		}),
		"on": o.handlers("<event...> { <handlers> }", func(names []string, routes caddyhttp.RouteList) {
			o.On = append(o.On, EventRoutes{names, routes})
		}),
		"member_from":    caddyfile.Func("{ <field> <placeholder> ... }", o.readMember),
		"action_timeout": optional(&o.ActionTimeout, caddyfile.Duration),
		"max_actions": optional(&o.MaxActions, func(n *int) caddyfile.Option {
			return caddyfile.Int(n, 0, 1<<30)
		}),
	}
}

// readMember reads a block of fields and placeholders.
func (o *ActionOptions) readMember(d *caddyconf.Dispenser) error {
	o.MemberFrom = make(map[string]string)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name, value := d.Val(), ""
		if !d.Args(&value) || d.NextArg() {
			return d.Errf("member_from: expected a field and one placeholder, got %q", name)
		}
		if _, twice := o.MemberFrom[name]; twice {
			return d.Errf("member_from: field %s is given twice", name)
		}
		if err := presence.CheckField(name); err != nil {
			return d.Errf("member_from: %w", err)
		}
		o.MemberFrom[name] = value
	}
	if len(o.MemberFrom) == 0 {
		return d.Err("member_from: expected a block of fields")
	}
	return nil
}

// member are the fields that the client may not set itself.
func (o *ActionOptions) member(repl *caddy.Replacer) (presence.Fields, error) {
	var fields presence.Fields
	for _, name := range slices.Sorted(maps.Keys(o.MemberFrom)) {
		if err := fields.SetText(name, repl.ReplaceAll(o.MemberFrom[name], "")); err != nil {
			return fields, err
		}
	}
	return fields, nil
}

// handlers is an option with names and a block of handlers, which parse reads.
func (o *ActionOptions) handlers(want string, put func([]string, caddyhttp.RouteList)) caddyfile.Option {
	return caddyfile.Segment(want, func(d *caddyconf.Dispenser) error {
		d.Next()
		option := d.Val()
		names := d.RemainingArgs()
		if len(names) == 0 {
			return d.Errf("option %s: expected %s", option, want)
		}
		// What is left begins with the last name.
		tokens := d.NextSegment()
		if len(tokens) < 2 {
			return d.Errf("option %s %s: expected a block of handlers", option, names[0])
		}
		o.segments = append(o.segments, segment{names, caddyconf.NewDispenser(tokens), put})
		return nil
	})
}

// parse reads the handlers that the options hold.
func (o *ActionOptions) parse(helper httpcaddyfile.Helper) error {
	for _, s := range o.segments {
		handler, err := httpcaddyfile.ParseSegmentAsSubroute(helper.WithDispenser(s.block))
		if err != nil {
			return err
		}
		sub, ok := handler.(*caddyhttp.Subroute)
		if !ok || len(sub.Routes) == 0 {
			return s.block.Errf("%s: expected handlers in the block", s.names[0])
		}
		s.put(s.names, sub.Routes)
		if err := o.check(); err != nil {
			s.block.Reset()
			s.block.Next()
			return s.block.WrapErr(err)
		}
	}
	o.segments = nil
	return nil
}

// groups are the names that the Caddyfile adapter gives to routes of which only
// one is taken. It numbers them through the whole configuration.
var groups = regexp.MustCompile(`"group":"group\d+"`)

// fingerprint is the same for handlers with the same options.
func (h *Handler) fingerprint() string {
	seen := make(map[string]int)
	return groups.ReplaceAllStringFunc(string(mustJSON(h)), func(name string) string {
		if _, ok := seen[name]; !ok {
			seen[name] = len(seen)
		}
		return fmt.Sprintf(`"group":"%d"`, seen[name])
	})
}
