package integration

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"
	"github.com/redis/go-redis/v9"

	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore/redistest"
)

// TestSwap has 1,000 users change from one node to the other and back, again and
// again, in the three ways in which clients do: each is there once, and was never
// offline.
func TestSwap(t *testing.T) {
	const users, rounds, atOnce = 1000, 5, 100
	server, nodes, told := startSwap(t)
	places := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	swaps := make([]*swapper, users)
	for id := range swaps {
		s := &swapper{id: id}
		swaps[id] = s
		wg.Go(func() {
			for n := range rounds {
				places <- struct{}{}
				if err := s.move(t.Context(), nodes[(id+n)%2].socketURL()); err != nil {
					t.Errorf("user %d, round %d: %v", id, n, err)
				}
				<-places
			}
		})
	}
	wg.Wait()
	t.Cleanup(func() {
		for _, s := range swaps {
			_ = s.ws.CloseNow()
		}
	})
	want := make(map[string]int, users)
	for id := range users {
		want[strconv.Itoa(id)] = 1
	}
	expectPresence(t, func() map[string]int { return want }, server, nodes...)
	for i, node := range nodes {
		if r := node.Push(fmt.Sprintf(`{"to":{"all":true},"text":"all by %d"}`, i)); r.Sent != users || r.Matched != users {
			t.Errorf("a push to all: %+v", r)
		}
		for _, s := range swaps {
			if err := s.expect(fmt.Sprintf("all by %d", i)); err != nil {
				t.Errorf("user %d: %v", s.id, err)
			}
		}
	}
	Eventually(t, func() bool { return told.count("online") >= users },
		func() string { return fmt.Sprintf("%d users were told to be online", told.count("online")) })
	if told.count("online") != users || told.count("offline") != 0 {
		t.Errorf("%d users were told to be online and %d offline, want %d and none", told.count("online"), told.count("offline"), users)
	}
	Eventually(t, func() bool { return nodes[0].Stats().Connections+nodes[1].Stats().Connections == users },
		func() string {
			return fmt.Sprintf("connections: %d and %d", nodes[0].Stats().Connections, nodes[1].Stats().Connections)
		})
}

// swapper is a user who changes nodes.
type swapper struct {
	id int
	ws *websocket.Conn
}

// move connects to another node.
func (s *swapper) move(ctx context.Context, url string) error {
	before, device := s.ws, ""
	switch s.id % 3 {
	case 0: // comes before it goes
		device = `,"device":"d"`
	case 1: // goes with a farewell
		if before != nil {
			_ = before.Close(websocket.StatusGoingAway, "")
		}
	case 2: // is cut, and the node that it was on finds out while it opens
		if before != nil {
			_ = before.CloseNow()
		}
	}
	ws, _, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		return err
	}
	s.ws = ws
	open := fmt.Sprintf(`{"action":"open","id":%d,"ref":1%s}`, s.id, device)
	if err := ws.Write(ctx, websocket.MessageText, []byte(open)); err != nil {
		return err
	}
	_, data, err := ws.Read(ctx)
	if err != nil {
		return err
	}
	if !strings.Contains(string(data), `"ok":true`) {
		return fmt.Errorf("opening: %s", data)
	}
	if before != nil && s.id%3 == 0 {
		if _, _, err = before.Read(ctx); websocket.CloseStatus(err) != 4001 {
			return fmt.Errorf("the connection before: %w", err)
		}
	}
	return nil
}

func (s *swapper) expect(want string) error {
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	_, data, err := s.ws.Read(ctx)
	if err == nil && string(data) != want {
		err = fmt.Errorf("got %s, want %s", data, want)
	}
	return err
}

func startSwap(t *testing.T) (redis.UniversalClient, []*Caddy, *tally) {
	t.Helper()
	told := &tally{n: make(map[string]int)}
	backend := StartBackend(t, func(_ http.ResponseWriter, r *http.Request) { told.add(r.Header.Get("Presence-Event")) })
	server := redistest.Start(t)
	site := strings.NewReplacer("{$REDIS}", server.URL(), "lease 1s", "lease 10s", "grace 100ms", "grace 30s", "rate_limit 0 0",
		"rate_limit 0 0\n\tmax_unopened 0\n\ton online offline {\n\t\treverse_proxy "+backend.Addr+
			" {\n\t\t\ttransport http {\n\t\t\t\tkeepalive off\n\t\t\t}\n\t\t}\n\t}").Replace(clusterSite)
	return server.Client(), startNodesWith(t, 2, site), told
}

// tally counts by name.
type tally struct {
	mu sync.Mutex // guards the field below
	n  map[string]int
}

func (c *tally) add(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[name]++
}

func (c *tally) count(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[name]
}
