package caddypresence

import (
	"net/http"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// nodeJSON is a node as the API shows it.
type nodeJSON struct {
	Node presence.NodeID `json:"node"`
	Self bool            `json:"self"`

	// Alive is false once the lease has lapsed: another node is about to take
	// the members out.
	Alive bool `json:"alive"`

	presence.NodeInfo
}

// nodes lists the nodes that share the hub's store.
func nodes(h *liveHub, _ http.ResponseWriter, r *http.Request) (any, error) {
	peers, err := h.Store().Peers(r.Context())
	if err != nil {
		return nil, err
	}
	list := make([]nodeJSON, 0, len(peers))
	for _, p := range peers {
		list = append(list, nodeJSON{p.Node, h.Store().Owns(p.Node), p.Lease > 0, p.Info})
	}
	return map[string]any{"nodes": list}, nil
}

// ready answers 200 while this node can do its part, else 503: load balancers ask
// it whether to send new connections.
func ready(h *liveHub, w http.ResponseWriter, _ *http.Request) (any, error) {
	if h.server.Draining() {
		return nil, apiErrorf(http.StatusServiceUnavailable, "this node is stopping")
	}
	if err := h.Store().Ready(); err != nil {
		w.Header().Set("Retry-After", "5")
		return nil, apiErrorf(http.StatusServiceUnavailable, "%v", err)
	}
	return map[string]bool{"ready": true}, nil
}
