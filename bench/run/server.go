package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/seed-57c14f3c/caddy-presence/bench/stage"
)

// server is one of those that are compared.
type server struct {
	name      string
	title     string
	codec     string
	scenarios string

	prepare func(context.Context) error
	start   func(*stage.Stage) (*stage.Running, error)
}

// Names of servers, by which measurements are kept.
const (
	ours       = "presence"
	oursTLS    = "presence-tls"
	oursPings  = "presence-pings"
	naive      = "naive"
	naiveTLS   = "naive-tls"
	plain      = "plain"
	proxied    = "proxy"
	nodeWS     = "ws"
	centrifuge = "centrifuge"
)

const allScenarios = "idle heartbeat broadcast broadcast4 push pushrate storm"

// servers are in the order of the report.
var servers = []server{
	{name: ours, title: "this module", scenarios: "idle heartbeat broadcast broadcast4 push pushrate stream storm", start: startOurs("http", "")},
	{name: naive, title: "naive handler in Caddy", scenarios: allScenarios, start: startNaive("http")},
	{name: plain, title: "coder/websocket under net/http", scenarios: allScenarios, start: startPlain},
	{name: proxied, title: "Caddy `reverse_proxy` to that", scenarios: allScenarios, start: startProxied},
	{name: nodeWS, title: "Node `ws` and Redis", scenarios: allScenarios, prepare: prepareNode, start: startNode},
	{name: centrifuge, title: "Centrifuge, in memory", codec: "centrifuge", scenarios: allScenarios, start: startCentrifuge},
	{name: oursTLS, title: "this module, TLS", scenarios: "idle", start: startOurs("https", "")},
	{name: naiveTLS, title: "naive handler in Caddy, TLS", scenarios: "idle", start: startNaive("https")},
	{name: oursPings, title: "this module, a ping every 2 s", scenarios: "idle", start: startOurs("http", "ping_interval 2s")},
}

// global are the options of all Caddyfiles. The line that Caddy logs for each
// request of its admin API is left out: the other servers log no requests either.
const global = `{
	admin %s
	auto_https disable_redirects
	skip_install_trust
	persist_config off
	log {
		level WARN
		exclude admin.api
	}
}
`

// startOurs starts Caddy with this module, its members in memory.
func startOurs(scheme, option string) func(*stage.Stage) (*stage.Running, error) {
	return func(s *stage.Stage) (*stage.Running, error) {
		site, admin := s.Address(), s.Address()
		caddyfile := fmt.Sprintf(global, admin) + s.Site(scheme, site, "presence /ws {\n\t\t"+option+"\n\t}")
		r := &stage.Running{URL: socketURL(scheme, site), Push: "http://" + admin}
		return r, s.Caddy("caddy", caddyfile, r, site, admin)
	}
}

// startNaive starts Caddy with the obvious handler.
func startNaive(scheme string) func(*stage.Stage) (*stage.Running, error) {
	return func(s *stage.Stage) (*stage.Running, error) {
		site := s.Address()
		caddyfile := fmt.Sprintf(global, "off") + s.Site(scheme, site, "naive")
		r := &stage.Running{URL: socketURL(scheme, site), Push: scheme + "://" + site}
		return r, s.Caddy("naive", caddyfile, r, site)
	}
}

// socketURL is where clients connect to a site.
func socketURL(scheme, site string) string {
	return strings.Replace(scheme, "http", "ws", 1) + "://" + site + "/ws"
}

func startPlain(s *stage.Stage) (*stage.Running, error) {
	address := s.Address()
	r := &stage.Running{URL: "ws://" + address + "/ws", Push: "http://" + address}
	return r, s.Run(r, s.Command("plain", "-listen", address), "tcp", address)
}

// startProxied starts Caddy in front of the plain server, to which pushes go as
// they come.
func startProxied(s *stage.Stage) (*stage.Running, error) {
	r, err := startPlain(s)
	if err != nil {
		return r, err
	}
	site := s.Address()
	backend := strings.TrimPrefix(r.Push, "http://")
	r.URL = "ws://" + site + "/ws"
	return r, s.Caddy("caddy", fmt.Sprintf(global, "off")+s.Site("http", site, "reverse_proxy "+backend), r, site)
}

func startCentrifuge(s *stage.Stage) (*stage.Running, error) {
	address := s.Address()
	r := &stage.Running{URL: "ws://" + address + "/ws", Push: "http://" + address}
	return r, s.Run(r, s.Command("centrifuge", "-listen", address), "tcp", address)
}

// nodeDir has the server on Node.
const nodeDir = "bench/peers/ws"

// prepareNode installs the packages of the server on Node, if they are missing.
func prepareNode(ctx context.Context) error {
	for _, program := range []string{"node", "npm", "redis-server"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%s is not installed", program)
		}
	}
	if _, err := os.Stat(nodeDir + "/node_modules/ws"); err == nil {
		return nil
	}
	if out, err := stage.Command(ctx, nodeDir, "npm", "ci", "--no-audit", "--no-fund", "--silent").CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci: %w: %.300s", err, out)
	}
	return nil
}

// startNode starts Redis, without files, and the server on Node.
func startNode(s *stage.Stage) (*stage.Running, error) {
	address, socket := s.Address(), filepath.Join(s.Dir, "redis.sock")
	r := &stage.Running{URL: "ws://" + address + "/ws", Push: "http://" + address}
	redis := stage.Command(s.Ctx, s.Dir, "redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no")
	if err := s.Run(r, redis, "unix", socket); err != nil {
		return r, err
	}
	_, port, _ := strings.Cut(address, ":")
	err := s.Run(r, stage.Command(s.Ctx, nodeDir, "node", "server.js", port, socket), "tcp", address)
	return r, err
}
