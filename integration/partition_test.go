package integration

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore/redistest"
)

// TestPartition parts one node from Redis for longer than its lease, by a network
// that refuses, and by one that loses everything without a word.
func TestPartition(t *testing.T) {
	for name, part := range map[string]func(*Proxy, bool){"refuses": (*Proxy).SetRefuse, "silent": (*Proxy).SetSilent} {
		t.Run(name, func(t *testing.T) { testPartition(t, part) })
	}
}

func testPartition(t *testing.T, part func(*Proxy, bool)) {
	server := redistest.Start(t)
	proxy := StartProxy(t, server.Addr)
	far, near := startNodesOn(t, 1, "redis://"+proxy.Addr)[0], startNodesOn(t, 1, server.URL())[0]
	const users = 80
	l := startLoad(t, users, func(id int) []string {
		if id < users/2 {
			return socketURLs(0, far)
		}
		return socketURLs(0, near)
	})
	l.plain.Store(true)
	l.awaitOnline(users)
	stays, toNear, toFar, leaves := far.Dial("/ws"), far.Dial("/ws"), near.Dial("/ws"), far.Dial("/ws")
	stays.Open(`"id":"stays"`)
	toNear.Open(`"id":"to near"`)
	toFar.Open(`"id":"to far"`)
	leaves.Open(`"id":"leaves"`)
	near.expectMemberCount(users + 4)
	l.push(far, near)
	l.awaitPushes(1000)
	before := far.usage().goroutines

	part(proxy, true)
	far.expectReady(http.StatusServiceUnavailable)
	near.expectMemberCount(users/2 + 1) // those of the other node are out
	far.expectParted(l)
	stays.Expect("x")
	l.http.CloseIdleConnections()
	Eventually(t, func() bool { return far.usage().goroutines <= before+slack },
		func() string {
			u := far.usage()
			return fmt.Sprintf("%d goroutines, before %d\n%s", u.goroutines, before, u.stacks)
		})

	// Meanwhile users come, change nodes, and go.
	comes, nowNear, nowFar := far.Dial("/ws"), near.Dial("/ws"), far.Dial("/ws")
	comes.Open(`"id":"comes"`)
	nowNear.Open(`"id":"to near"`)
	nowFar.Open(`"id":"to far"`)
	leaves.Send(`{"action":"close","ref":1}`)
	leaves.Expect(`{"action":"reply","ref":1,"ok":true}`)
	l.awaitPushes(1000)

	part(proxy, false)
	healed := time.Now()
	want := func() map[string]int {
		all := l.live()
		maps.Copy(all, map[string]int{"stays": 1, "to near": 1, "to far": 1, "comes": 1})
		return all
	}
	expectPresence(t, want, server.Client(), far, near)
	t.Logf("presence is right %v after the network is whole", time.Since(healed).Round(10*time.Millisecond))
	l.awaitAnswers(far, near)
	t.Logf("all nodes answer %v after the network is whole", time.Since(healed).Round(10*time.Millisecond))
	far.expectReady(http.StatusOK)
	toNear.ExpectClosed(4001)
	toFar.ExpectClosed(4001)
	for i, c := range []*Client{stays, comes, nowNear, nowFar} {
		to := []string{"stays", "comes", "to near", "to far"}[i]
		for _, node := range []*Caddy{near, far} {
			if r := node.Push(fmt.Sprintf(`{"to":{"ids":[%q]},"text":"hello"}`, to)); r.Sent != 1 || r.Incomplete {
				t.Errorf("a push to %s: %+v", to, r)
			}
			c.Expect("hello")
		}
	}
	l.endPushes(far, near)
	for _, u := range l.users {
		if u.opens != 1 {
			t.Errorf("user %d has opened %d times", u.id, u.opens)
		}
	}
}

// expectParted wants what a node says that is parted from Redis: all that it knows
// by itself and, in time, that it does not know the rest.
func (c *Caddy) expectParted(l *load) {
	c.t.Helper()
	r := c.Push(`{"to":{"ids":["stays",79,"nobody"]},"text":"x","wait":"1s"}`)
	if r.Sent != 1 || !r.Incomplete || strings.Join(r.Unknown, " ") != "79 nobody" || len(r.Offline) != 0 {
		c.t.Errorf("a push: %+v", r)
	}
	const atOnce = 300
	calls := []struct{ method, path, body string }{
		{http.MethodGet, "/presence/members/stays", ""},
		{http.MethodGet, "/presence/members", ""},
		{http.MethodGet, "/presence/count", ""},
		{http.MethodGet, "/presence/nodes", ""},
		{http.MethodDelete, "/presence/members/stays", ""},
		{http.MethodPost, "/presence/push", `{"to":{"ids":["stays"]},"text":"x","id":"some"}`},
	}
	var wg sync.WaitGroup
	for n := range atOnce {
		call := calls[n%len(calls)]
		wg.Go(func() {
			// Far above the second that a call of the store may take.
			ctx, cancel := context.WithTimeout(context.Background(), waitLimit/2)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, call.method, c.Admin+call.path, strings.NewReader(call.body))
			if err != nil {
				c.t.Error(err)
				return
			}
			res, err := l.http.Do(req)
			if err != nil {
				c.t.Errorf("%s %s: %v", call.method, call.path, err)
				return
			}
			defer res.Body.Close()
			if answer, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusServiceUnavailable {
				c.t.Errorf("%s %s: status %d, %s", call.method, call.path, res.StatusCode, answer)
			}
		})
	}
	wg.Wait()
}
