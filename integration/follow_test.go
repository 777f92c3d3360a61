package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore/redistest"
)

// Follower reads the stream of events of a node.
type Follower struct {
	t    *testing.T
	stop context.CancelFunc

	mu     sync.Mutex // guards the fields below
	events []followed
	last   string // position
	ended  bool
}

type followed struct {
	Event, ID, Conn, Reason, Epoch string
	Number                         int64
	Member                         map[string]any
}

// Follow follows events from a position; empty: from now. When it returns, nothing
// that happens is missed.
func (c *Caddy) Follow(since string) *Follower {
	t := c.t.(*testing.T)
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Admin+"/presence/events?since="+url.QueryEscape(since), nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil || res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("following events: %+v, %v", res, err)
	}
	f := &Follower{t: t, stop: stop}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer res.Body.Close()
		f.read(res)
	}()
	t.Cleanup(func() { stop(); <-done })
	Eventually(t, func() bool { return f.position() != "" }, func() string { return "the stream gives no position" })
	return f
}

func (f *Follower) read(res *http.Response) {
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		f.mu.Lock()
		switch name {
		case "id":
			f.last = value
		case "data":
			var e followed
			if err := json.Unmarshal([]byte(value), &e); err != nil {
				f.t.Errorf("the stream has %s", value)
			}
			f.events = append(f.events, e)
		}
		f.mu.Unlock()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
}

func (f *Follower) position() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

// all returns the events until now, as "online 7" or "offline 7 lost".
func (f *Follower) all() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	texts := make([]string, 0, len(f.events))
	for _, e := range f.events {
		texts = append(texts, strings.TrimSpace(e.Event+" "+e.ID+" "+e.Reason))
	}
	return texts
}

// Expect waits for events of different users, which may come in any order, and wants
// no others until then.
func (f *Follower) Expect(want ...string) {
	f.t.Helper()
	var got []string
	Eventually(f.t, func() bool { got = f.all(); return len(got) >= len(want) },
		func() string { return fmt.Sprintf("events %q, want %q", got, want) })
	if diff := diffTexts(got, want); diff != "" {
		f.t.Fatalf("events %q, want %q: %s", got, want, diff)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = nil
}

func diffTexts(got, want []string) string {
	n := make(map[string]int)
	for _, s := range got {
		n[s]++
	}
	for _, s := range want {
		n[s]--
	}
	for s, d := range n {
		if d != 0 {
			return fmt.Sprintf("%+d of %q", d, s)
		}
	}
	return ""
}

// balance fails unless each user's events go online, offline, online, by rising
// numbers, and end as its state is. It returns how many there were.
func (f *Follower) balance(online func(id string) bool) (on, off int) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	last := make(map[string]followed)
	for _, e := range f.events {
		before := last[e.ID]
		if e.Event == before.Event || before.Event == "" && e.Event == "offline" {
			f.t.Errorf("user %s: %s behind %q", e.ID, e.Event, before.Event)
		}
		if before.Epoch == e.Epoch && before.Number >= e.Number {
			f.t.Errorf("user %s: number %d behind %d", e.ID, e.Number, before.Number)
		}
		last[e.ID] = e
		if e.Event == "online" {
			on++
		} else {
			off++
		}
	}
	for id, e := range last {
		if online(id) != (e.Event == "online") {
			f.t.Errorf("user %s: the last event is %s", id, e.Event)
		}
	}
	return on, off
}

// listing returns the ids of a first page, and the position that it gives.
func (c *Caddy) listing() ([]string, string) {
	c.t.Helper()
	status, answer := c.Call(http.MethodGet, "/presence/members?limit=1000", "")
	var page struct {
		Members  []struct{ ID string }
		Position string
	}
	if err := json.Unmarshal([]byte(answer), &page); err != nil || status != http.StatusOK {
		c.t.Fatalf("listing: %d %s", status, answer)
	}
	var ids []string
	for _, m := range page.Members {
		ids = append(ids, m.ID)
	}
	return ids, page.Position
}

// TestFollow follows events from a listing, on both stores, and again from where a
// stream ended.
func TestFollow(t *testing.T) {
	t.Run("memory", func(t *testing.T) { testFollow(t, "memory") })
	t.Run("redis", func(t *testing.T) { testFollow(t, "redis "+redistest.Start(t).URL()) })
}

func testFollow(t *testing.T, store string) {
	c := StartText(t, "{\n\tpresence {\n\t\tstore "+store+"\n\t\tgrace 100ms\n\t}\n}\n{$SITE}\npresence /ws\n")
	first := c.Dial("/ws")
	first.Open(`"id":1`)
	ids, position := c.listing()
	if len(ids) != 1 || position == "" {
		t.Fatalf("listed %v, position %q", ids, position)
	}
	second := c.Dial("/ws")
	second.Open(`"id":2,"type":"driver"`)
	f := c.Follow(position) // what came between the listing and the stream is there
	f.Expect("online 2")
	second.Send(`{"action":"close"}`)
	f.Expect("offline 2 client")
	first.Cut()
	f.Expect("offline 1 lost")
	f.stop()
	third := c.Dial("/ws")
	third.Open(`"id":3`)
	again := c.Follow(f.position())
	again.Expect("online 3")
	if e := c.Follow(position); true {
		e.Expect("online 2", "offline 2 client", "offline 1 lost", "online 3")
	}
	for query, want := range map[string]int{"?since=x": 400, "?x=1": 400} {
		if status, answer := c.Call(http.MethodGet, "/presence/events"+query, ""); status != want {
			t.Errorf("%s: %d %s", query, status, answer)
		}
	}
	c.Follow(strings.Replace(position, ".", "x.", 1)).Expect("reset")
}

// TestFollowNodes follows events on one node of what happens on others: users hop,
// nodes stop and crash, Redis loses its data.
func TestFollowNodes(t *testing.T) {
	nodes, redis := startNodes(t, 3)
	f := nodes[0].Follow("")
	clients := nodes[1].online(0, 3)
	f.Expect("online 0", "online 1", "online 2")
	nodes[2].online(0, 1) // hops
	clients[1].Send(`{"action":"close"}`)
	f.Expect("offline 1 client")
	nodes[1].Kill()
	f.Expect("offline 2 node_lost")
	hopped := nodes[0].online(0, 1)[0]
	hopped.Close(1000)
	f.Expect("offline 0 client")
	nodes[2].online(5, 6)
	f.Expect("online 5")
	redis.Flush()
	f.Expect("reset")
	ids, position := nodes[2].listing()
	Eventually(t, func() bool { ids, position = nodes[2].listing(); return len(ids) == 1 && ids[0] == "5" },
		func() string { return fmt.Sprintf("members %v", ids) })
	f = nodes[0].Follow(position)
	nodes[0].online(6, 7)
	f.Expect("online 6")
}

// TestHooksNodes has a backend told of events by one node of several, and by another
// when that is killed: all are told, of each user in order.
func TestHooksNodes(t *testing.T) {
	var mu sync.Mutex // guards the variable below
	events := make(map[string][]followed)
	backend := StartBackend(t, func(_ http.ResponseWriter, r *http.Request) {
		var e followed
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		events[e.ID] = append(events[e.ID], e)
	})
	redis := redistest.Start(t)
	site := strings.Replace(strings.Replace(clusterSite, "{$REDIS}", redis.URL(), 1), "rate_limit 0 0",
		"rate_limit 0 0\n\ton online offline {\n\t\treverse_proxy "+backend.Addr+"\n\t}", 1)
	var nodes []*Caddy
	for range 3 {
		nodes = append(nodes, StartText(t, site))
	}
	told := func(id string, want ...string) {
		t.Helper()
		var got []string
		Eventually(t, func() bool {
			mu.Lock()
			defer mu.Unlock()
			got = compact(events[id])
			return fmt.Sprint(got) == fmt.Sprint(want)
		}, func() string { return fmt.Sprintf("of user %s the backend was told %v, want %v", id, got, want) })
	}
	clients := nodes[0].online(0, 20)
	nodes[1].online(20, 40)
	for i := range 40 {
		told(fmt.Sprint(i), "online")
	}
	clients[7].Send(`{"action":"close"}`)
	told("7", "online", "offline")
	clients[7].Open(`"id":7`)
	told("7", "online", "offline", "online")
	// Whichever has the turn is killed, or stops, sooner or later.
	nodes[0].Kill()
	for i := range 20 {
		if i == 7 {
			continue
		}
		told(fmt.Sprint(i), "online", "offline")
	}
	told("7", "online", "offline", "online", "offline")
	nodes[2].online(0, 5)
	told("3", "online", "offline", "online")
	nodes[1].Stop()
	nodes[2].online(40, 45)
	for i := 40; i < 45; i++ {
		told(fmt.Sprint(i), "online")
	}
}

// compact leaves out what is told again, which may be after a crash.
func compact(events []followed) []string {
	var out []string
	last := int64(0)
	for _, e := range events {
		if e.Number > last {
			out = append(out, e.Event)
			last = e.Number
		}
	}
	return out
}

// TestEventsBalance has users roam between two nodes, which stop, are killed, and come
// back: the events of each user go by turns, and
// agree with the state in the end.
func TestEventsBalance(t *testing.T) {
	const users = 200
	nodes, _ := startNodes(t, 3)
	f := nodes[2].Follow("")
	urls := []string{"ws" + strings.TrimPrefix(nodes[0].URL, "http") + "/ws", "ws" + strings.TrimPrefix(nodes[1].URL, "http") + "/ws"}
	ctx, stop := context.WithCancel(t.Context())
	var opens atomic.Int64
	var wg sync.WaitGroup
	for i := range users {
		wg.Go(func() { roam(ctx, urls, i, &opens) })
	}
	t.Cleanup(func() { stop(); wg.Wait() })
	nodes[2].expectMemberCount(users)
	for _, end := range []func(){nodes[0].Stop, nodes[1].Kill, nodes[0].Kill} {
		before := opens.Load()
		end()
		Eventually(t, func() bool { return opens.Load() >= before+users/4 }, func() string { return "nobody comes back" })
		for _, n := range nodes[:2] {
			if n.ended() {
				n.Restart()
			}
		}
		open := 0
		Eventually(t, func() bool { open = nodes[0].Stats().Members + nodes[1].Stats().Members; return open == users },
			func() string { return fmt.Sprintf("%d users are back", open) })
	}
	stop()
	wg.Wait()
	nodes[2].expectMemberCount(0)
	ids, _ := nodes[2].listing()
	var on, off int
	Eventually(t, func() bool {
		f.mu.Lock()
		on, off = 0, 0
		for _, e := range f.events {
			if e.Event == "online" {
				on++
			} else {
				off++
			}
		}
		f.mu.Unlock()
		return on == off
	}, func() string { return fmt.Sprintf("%d online, %d offline events", on, off) })
	f.balance(func(id string) bool { return slices.Contains(ids, id) })
	t.Logf("%d opens, %d online, %d offline events", opens.Load(), on, off)
}

// TestFollowReload has streams end with a reload, and when Caddy stops, which they do
// not hold up; who goes on from where a stream ended misses nothing.
func TestFollowReload(t *testing.T) {
	c := StartText(t, "{$SITE}\npresence /ws\n")
	f := c.Follow("")
	client := c.Dial("/ws")
	client.Open(`"id":1`)
	f.Expect("online 1")
	c.Reload(c.file)
	Eventually(t, f.hasEnded, func() string { return "the stream goes on" })
	client.Send(`{"action":"close"}`)
	again := c.Follow(f.position())
	again.Expect("offline 1 client")
	c.Stop()
	Eventually(t, again.hasEnded, func() string { return "the stream goes on" })
}

func (f *Follower) hasEnded() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ended
}
