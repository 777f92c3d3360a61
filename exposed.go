package caddypresence

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"
)

// exposedAPI is an API on a site, and the server that the site is on.
type exposedAPI struct {
	handler *APIHandler
	server  *caddyhttp.Server
}

var errExposed = errors.New("presence_api: nothing stands in front of the API, and others than this machine can reach the site: " +
	"put basic_auth, forward_auth or another login before it, a matcher remote_ip around it, or bind the site to localhost")

// check refuses an API that anybody can use. It is there for those who forget
// the login, and does not judge how good one is.
func (e exposedAPI) check() error {
	if listensLocally(e.server.Listen) || asksForCertificates(e.server) {
		return nil
	}
	rewrites := e.anyHandler(e.server.Routes, func(h caddyhttp.MiddlewareHandler) bool {
		_, ok := h.(*rewrite.Rewrite)
		return ok
	})
	guarded := false
	if e.find(e.server.Routes, !rewrites, &guarded) && !guarded {
		return errExposed
	}
	return nil
}

// listensLocally reports whether all addresses can be reached from this machine
// alone.
func listensLocally(addresses []string) bool {
	for _, text := range addresses {
		a, err := caddy.ParseNetworkAddress(text)
		if err != nil {
			return false
		}
		ip := net.ParseIP(a.Host)
		if !a.IsUnixNetwork() && a.Host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return false
		}
	}
	return len(addresses) > 0
}

func asksForCertificates(server *caddyhttp.Server) bool {
	for _, policy := range server.TLSConnPolicies {
		if policy.ClientAuthentication == nil {
			return false
		}
	}
	return len(server.TLSConnPolicies) > 0
}

// find looks for the API in routes, as requests go through them, and notes
// whether something asks who the client is before. Paths are judged where
// nothing rewrites them.
func (e exposedAPI) find(routes caddyhttp.RouteList, paths bool, guarded *bool) bool {
	for _, route := range routes {
		inside := *guarded || asksForAddress(route.MatcherSets, false)
		for _, handler := range route.Handlers {
			if handler == caddyhttp.MiddlewareHandler(e.handler) || e.find(e.below(handler), paths, &inside) {
				*guarded = inside
				return true
			}
			inside = inside || e.anyHandler(caddyhttp.RouteList{{Handlers: []caddyhttp.MiddlewareHandler{handler}}}, asksWho)
		}
		// Requests that go on behind it have gone through it, if it is for them.
		goesOn := !route.Terminal && route.Group == ""
		asked := inside && !asksForAddress(route.MatcherSets, false) && (!paths || e.takes(route.MatcherSets))
		if goesOn && (asked || asksForAddress(route.MatcherSets, true)) {
			*guarded = true
		}
	}
	return false
}

// takes reports whether the paths of matchers are those of the API.
func (e exposedAPI) takes(sets caddyhttp.MatcherSets) bool {
	r := &http.Request{URL: &url.URL{Path: e.handler.Prefix + "/push"}}
	r = r.WithContext(context.WithValue(context.Background(), caddy.ReplacerCtxKey, caddy.NewReplacer()))
	for _, set := range sets {
		all := true
		for _, matcher := range set {
			var paths caddyhttp.MatchPath
			switch m := matcher.(type) {
			case caddyhttp.MatchPath:
				paths = m
			case *caddyhttp.MatchPath:
				paths = *m
			default:
				continue
			}
			ok, err := paths.MatchWithError(r)
			all = all && (ok || err != nil)
		}
		if all {
			return true
		}
	}
	return len(sets) == 0
}

// anyHandler reports whether a handler of the routes, at any depth, is such.
func (e exposedAPI) anyHandler(routes caddyhttp.RouteList, such func(caddyhttp.MiddlewareHandler) bool) bool {
	for _, route := range routes {
		for _, handler := range route.Handlers {
			if such(handler) || e.anyHandler(e.below(handler), such) {
				return true
			}
		}
	}
	return false
}

// below returns the routes that a handler holds.
func (e exposedAPI) below(handler caddyhttp.MiddlewareHandler) caddyhttp.RouteList {
	switch h := handler.(type) {
	case *caddyhttp.Subroute:
		return h.Routes
	case *caddyhttp.Invoke:
		if route := e.server.NamedRoutes[h.Name]; route != nil {
			return caddyhttp.RouteList{*route}
		}
	}
	return nil
}

// asksWho reports whether a handler is one that asks who the client is: a login
// of Caddy's, forward_auth, or a third party's by its name.
func asksWho(handler caddyhttp.MiddlewareHandler) bool {
	switch h := handler.(type) {
	case caddyauth.Authentication, *caddyauth.Authentication:
		return true
	case *reverseproxy.Handler:
		return len(h.HandleResponse) > 0
	case caddy.Module:
		return strings.Contains(string(h.CaddyModule().ID), "auth")
	}
	return false
}

// asksForAddress reports whether matchers look at the client's address; negated,
// whether they are for those with another one, who are turned away.
func asksForAddress(sets caddyhttp.MatcherSets, negated bool) bool {
	for _, set := range sets {
		for _, matcher := range set {
			switch m := matcher.(type) {
			case *caddyhttp.MatchRemoteIP, *caddyhttp.MatchClientIP, caddyhttp.MatchRemoteIP, caddyhttp.MatchClientIP:
				if !negated {
					return true
				}
			case *caddyhttp.MatchNot:
				if negated && asksForAddress(m.MatcherSets, false) {
					return true
				}
			case caddyhttp.MatchNot:
				if negated && asksForAddress(m.MatcherSets, false) {
					return true
				}
			}
		}
	}
	return false
}
