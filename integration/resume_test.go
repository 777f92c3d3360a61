package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore/redistest"
)

// resumeSite is a node that keeps messages.
const resumeSite = `{
	presence {
		store {$STORE}
		grace 2s
		drain 100ms
	}
}
{$SITE}
presence /ws {
	rate_limit 0 0
	max_unopened 0
	resume
	{$ON}
}
`

// startResuming starts nodes that keep messages.
func startResuming(t *testing.T, n int, store, on string) []*Caddy {
	t.Helper()
	nodes := make([]*Caddy, n)
	for i := range nodes {
		nodes[i] = StartText(t, strings.NewReplacer("{$STORE}", store, "{$ON}", on).Replace(resumeSite))
	}
	return nodes
}

func (c *Caddy) ws() string { return "ws" + strings.TrimPrefix(c.URL, "http") + "/ws" }

// start has a client stay on a node; what it returns waits until its connection has
// ended.
func (r *Resumer) start(t *testing.T, node *Caddy) func() {
	t.Helper()
	before := r.Opens()
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.Visit(context.Background(), node.ws()) })
	t.Cleanup(func() { r.Cut(); wg.Wait() })
	Eventually(t, func() bool { return r.Opens() > before }, func() string { return "the client does not come online" })
	return wg.Wait
}

func (r *Resumer) expect(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	Eventually(t, func() bool { got = r.Got(); return len(got) >= len(want) }, func() string { return fmt.Sprintf("got %q, want %q", got, want) })
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got %q, want %q", got, want)
	}
}

// TestResume brings what was missed while a client was away, on both stores.
func TestResume(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		c := startResuming(t, 1, "memory", "")[0]
		testResume(t, c, c, c)
	})
	t.Run("redis", func(t *testing.T) {
		nodes := startResuming(t, 3, "redis "+redistest.Start(t).URL(), "")
		testResume(t, nodes[0], nodes[1], nodes[2])
	})
}

// testResume has a client on two nodes by turns; pushes are made on a third.
func testResume(t *testing.T, first, second, third *Caddy) {
	ann := &Resumer{ID: "ann"}
	ended := ann.start(t, first)
	raw := third.Dial("/ws")
	raw.Open(`"id":"bob","type":"driver"`)
	third.Push(`{"to":{"ids":["ann"]},"data":{"n":1}}`)
	third.Push(`{"to":{"all":true},"text":"two"}`)
	ann.expect(t, `{"n":1}`, "two")
	raw.Expect("two")
	ann.Cut()
	ended()
	third.ExpectState("ann", "lingering")
	if r := third.Push(`{"to":{"ids":["ann","nobody"]},"text":"a"}`); r.Queued != 1 || len(r.Offline) != 2 {
		t.Errorf("the report is %+v", r)
	}
	third.Push(`{"to":{"types":["driver"]},"text":"b"}`)
	third.Push(`{"to":{"types":["rider"]},"text":"not for drivers"}`)
	third.ExpectState("ann", "offline") // and is within the window
	if r := third.Push(`{"to":{"ids":["ann"]},"text":"c","collapse":"k"}`); r.Queued != 1 {
		t.Errorf("the report is %+v", r)
	}
	third.Push(`{"to":{"ids":["ann"]},"text":"d","collapse":"k"}`)
	ann.start(t, second)
	third.Push(`{"to":{"ids":["ann"]},"text":"e"}`)
	third.Push(`{"to":{"all":true},"text":"f"}`)
	ann.expect(t, `{"n":1}`, "two", "a", "b", "d", "e", "f")
	raw.Expect("b", "f")
}

// TestReceipts asks for receipts over nodes, and tells a backend who gave none.
func TestReceipts(t *testing.T) {
	b := StartBackend(t, func(http.ResponseWriter, *http.Request) {})
	nodes := startResuming(t, 2, "redis "+redistest.Start(t).URL(), "on undelivered {\n\t\treverse_proxy "+b.Addr+"\n\t}")
	ann, bob := &Resumer{ID: "ann", acks: true}, &Resumer{ID: "bob"}
	ann.start(t, nodes[0])
	bob.start(t, nodes[0])
	if r := nodes[1].Push(`{"to":{"ids":["ann"]},"data":[1],"ack":true,"wait":"20s"}`); r.Acked != 1 || r.Sent != 1 {
		t.Errorf("the report is %+v", r)
	}
	r := nodes[1].Push(`{"to":{"ids":["ann","bob","eve"]},"data":{"n":2},"ack":true,"wait":"500ms","id":"p1"}`)
	if r.Acked != 1 || r.Sent != 2 {
		t.Errorf("the report is %+v", r)
	}
	users := make(map[string]bool)
	for range 2 {
		req := b.Next()
		var e struct {
			Event, ID, Push string
			Data            map[string]int
		}
		if err := json.Unmarshal([]byte(req.Body), &e); err != nil || e.Event != "undelivered" || e.Push != "p1" || e.Data["n"] != 2 {
			t.Errorf("the backend was told %s", req.Body)
		}
		users[e.ID] = true
	}
	if !users["bob"] || !users["eve"] || len(b.requests) != 0 {
		t.Errorf("it was told of %v", users)
	}
	ann.expect(t, "[1]", `{"n":2}`)
	if r := nodes[0].Push(`{"to":{"all":true},"text":"x","ack":true,"wait":"500ms"}`); r.Acked != 1 || r.Sent != 2 {
		t.Errorf("the report is %+v", r)
	}
	if e := b.Next(); !strings.Contains(e.Body, `"id":"bob"`) || !strings.Contains(e.Body, `"text":"x"`) {
		t.Errorf("the backend was told %s", e.Body)
	}
}

// TestResumeLost empties Redis under clients that resume: they are told.
func TestResumeLost(t *testing.T) {
	redis := redistest.Start(t)
	nodes := startResuming(t, 2, "redis "+redis.URL(), "")
	ann, bob := &Resumer{ID: "ann"}, &Resumer{ID: "bob"}
	ann.start(t, nodes[0])
	ended := bob.start(t, nodes[1])
	nodes[0].Push(`{"to":{"all":true},"text":"a"}`)
	ann.expect(t, "a")
	bob.expect(t, "a")
	bob.Cut()
	ended()
	redis.Flush()
	nodes[0].ExpectState("ann", "online")
	ann.expect(t, "a", "lost")
	nodes[1].Push(`{"to":{"ids":["ann"]},"text":"b"}`)
	ann.expect(t, "a", "lost", "b")
	bob.start(t, nodes[0])
	nodes[1].Push(`{"to":{"ids":["bob"]},"text":"c"}`)
	bob.expect(t, "a", "lost", "c")
}
