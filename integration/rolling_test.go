package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore/redistest"
)

// TestRollingRestart restarts two nodes, one after the other, under clients that
// come back on whichever serves: nobody was offline meanwhile, and nobody is told so.
func TestRollingRestart(t *testing.T) {
	const clients = 2000
	var online, offline atomic.Int64
	backend := StartBackend(t, func(_ http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("Presence-Event") {
		case "online":
			online.Add(1)
		case "offline":
			offline.Add(1)
		}
	})
	redis := redistest.Start(t)
	site := strings.Replace(clusterSite, "rate_limit 0 0", "rate_limit 0 0\n\tmax_unopened 0\n\ton online offline {\n\t\treverse_proxy "+backend.Addr+" {\n\t\t\ttransport http {\n\t\t\t\tkeepalive off\n\t\t\t}\n\t\t}\n\t}", 1)
	nodes := []*Caddy{StartText(t, site, "REDIS="+redis.URL()), StartText(t, site, "REDIS="+redis.URL())}
	urls := []string{"ws" + strings.TrimPrefix(nodes[0].URL, "http") + "/ws", "ws" + strings.TrimPrefix(nodes[1].URL, "http") + "/ws"}

	ctx, stop := context.WithCancel(t.Context())
	var opens atomic.Int64
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() { roam(ctx, urls, i, &opens) })
	}
	t.Cleanup(func() { stop(); wg.Wait() })
	nodes[1].expectMemberCount(clients)
	for _, node := range nodes {
		before := opens.Load()
		node.Stop()
		Eventually(t, func() bool { return opens.Load() >= before+clients/3 },
			func() string { return fmt.Sprintf("%d of %d clients have come back", opens.Load()-before, clients) })
		node.Restart()
	}
	nodes[0].expectMemberCount(clients)
	for i := range clients {
		nodes[1].ExpectState(fmt.Sprint(i), "online")
	}
	Eventually(t, func() bool { return online.Load() >= clients }, func() string { return fmt.Sprintf("%d online events", online.Load()) })
	t.Logf("%d opens, %d online and %d offline events", opens.Load(), online.Load(), offline.Load())
	if online.Load() != clients || offline.Load() != 0 {
		t.Errorf("%d online and %d offline events, want %d and none", online.Load(), offline.Load(), clients)
	}
}

// roam keeps a user online on one of several nodes, as the client does.
func roam(ctx context.Context, urls []string, id int, opens *atomic.Int64) {
	for n := id; ctx.Err() == nil; n++ {
		_ = visit(ctx, urls[n%len(urls)], id, opens)
		select {
		case <-ctx.Done():
		case <-time.After(rand.N(200 * time.Millisecond)): // as clients do, lest all come at once
		}
	}
}

// visit connects, opens, and stays until the connection ends.
func visit(ctx context.Context, url string, id int, opens *atomic.Int64) error {
	ws, _, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		return err
	}
	defer ws.CloseNow()
	if err := ws.Write(ctx, websocket.MessageText, fmt.Appendf(nil, `{"action":"open","id":%d,"ref":1}`, id)); err != nil {
		return err
	}
	for {
		_, data, err := ws.Read(ctx)
		if err != nil {
			return err
		}
		if strings.Contains(string(data), `"ok":true`) {
			opens.Add(1)
		}
	}
}
