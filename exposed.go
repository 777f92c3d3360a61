package caddypresence

import (
	"errors"
	"net"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
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
	found, guarded := e.find(e.server.Routes, false)
	if found && !guarded {
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

// find looks for the API in routes, as requests go through them, and reports
// whether something asked who the client is before.
func (e exposedAPI) find(routes caddyhttp.RouteList, guarded bool) (found, ok bool) {
	for _, route := range routes {
		inRoute := guarded || asksForAddress(route.MatcherSets)
		for _, handler := range route.Handlers {
			if handler == caddyhttp.MiddlewareHandler(e.handler) {
				return true, inRoute
			}
			if found, ok := e.find(e.below(handler), inRoute); found {
				return true, ok
			}
			inRoute = inRoute || asksWho(handler)
		}
		// A route that answers who may not, or lets pass who may.
		guarded = inRoute
	}
	return false, guarded
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
	case *caddyhttp.Subroute:
		for _, route := range h.Routes {
			for _, inner := range route.Handlers {
				if asksWho(inner) {
					return true
				}
			}
		}
	case caddy.Module:
		return strings.Contains(string(h.CaddyModule().ID), "auth")
	}
	return false
}

// asksForAddress reports whether matchers look at the client's address.
func asksForAddress(sets caddyhttp.MatcherSets) bool {
	for _, set := range sets {
		for _, matcher := range set {
			switch m := matcher.(type) {
			case *caddyhttp.MatchRemoteIP, *caddyhttp.MatchClientIP, caddyhttp.MatchRemoteIP, caddyhttp.MatchClientIP:
				return true
			case *caddyhttp.MatchNot:
				if asksForAddress(m.MatcherSets) {
					return true
				}
			case caddyhttp.MatchNot:
				if asksForAddress(m.MatcherSets) {
					return true
				}
			}
		}
	}
	return false
}
