package caddypresence

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// originRules say which pages may connect. No rules mean the same origin only.
type originRules []originRule

type originRule struct {
	scheme string // empty: http or https
	host   string // lower case, without port; empty: any
	port   string // empty: the scheme's own
	below  bool   // host is a domain, whose subdomains are meant
}

func parseOrigins(texts []string) (originRules, error) {
	var rules originRules
	for _, text := range texts {
		rule, err := parseOriginRule(text)
		if err != nil {
			return nil, err
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

func parseOriginRule(text string) (originRule, error) {
	if text == "*" {
		return originRule{}, nil
	}
	var rule originRule
	rest := text
	if scheme, host, ok := strings.Cut(text, "://"); ok {
		rule.scheme, rest = strings.ToLower(scheme), host
	}
	rest, rule.below = strings.CutPrefix(rest, "*.")
	u, err := url.Parse("//" + rest)
	if err != nil || u.Host != rest || u.Hostname() == "" || strings.Contains(rest, "*") {
		return rule, fmt.Errorf("origins: %q is no host such as app.example.com or *.example.com, and no origin such as https://app.example.com", text)
	}
	rule.host, rule.port = strings.ToLower(u.Hostname()), u.Port()
	return rule, nil
}

// allow reports whether the page that sent a handshake may connect. Only
// browsers send an Origin (RFC 6455, section 10.2), and always do.
func (rules originRules) allow(r *http.Request) bool {
	values := r.Header.Values("Origin")
	if len(values) == 0 {
		return true
	}
	if len(rules) == 1 && rules[0] == (originRule{}) {
		return true
	}
	origin, err := url.Parse(values[0])
	if err != nil || len(values) > 1 || origin.Hostname() == "" {
		return false // "null" among them
	}
	if len(rules) == 0 {
		return sameOrigin(origin, r)
	}
	for _, rule := range rules {
		if rule.matches(origin) {
			return true
		}
	}
	return false
}

// sameOrigin compares scheme, host and port. Without TLS here, a proxy in front
// may have ended it, so the page may be of either scheme.
func sameOrigin(origin *url.URL, r *http.Request) bool {
	scheme := strings.ToLower(origin.Scheme)
	if scheme != "https" && (scheme != "http" || r.TLS != nil) {
		return false
	}
	site, err := url.Parse("//" + r.Host)
	if err != nil || !strings.EqualFold(origin.Hostname(), site.Hostname()) {
		return false
	}
	return portOr(origin.Port(), scheme) == portOr(site.Port(), scheme)
}

func (rule originRule) matches(origin *url.URL) bool {
	scheme := strings.ToLower(origin.Scheme)
	if rule == (originRule{}) {
		return true
	}
	if rule.scheme != scheme && (rule.scheme != "" || scheme != "http" && scheme != "https") {
		return false
	}
	if portOr(origin.Port(), scheme) != portOr(rule.port, scheme) {
		return false
	}
	host := strings.ToLower(origin.Hostname())
	if rule.below {
		return strings.HasSuffix(host, "."+rule.host)
	}
	return host == rule.host
}

func portOr(port, scheme string) string {
	switch {
	case port != "":
		return port
	case scheme == "https":
		return "443"
	default:
		return "80"
	}
}
