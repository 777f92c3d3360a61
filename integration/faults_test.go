package integration

import (
	"strconv"
	"strings"
	"testing"

	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore/redistest"
)

// startNodesWith starts nodes with a Caddyfile.
func startNodesWith(t *testing.T, n int, site string) []*Caddy {
	t.Helper()
	nodes := make([]*Caddy, n)
	for i := range nodes {
		nodes[i] = StartText(t, site)
	}
	return nodes
}

// socketURL is where the clients of a node connect.
func (c *Caddy) socketURL() string { return "ws" + strings.TrimPrefix(c.URL, "http") + "/ws" }

// socketURLs is that of several nodes, beginning with one of them.
func socketURLs(first int, nodes ...*Caddy) []string {
	urls := make([]string, 0, len(nodes))
	for i := range nodes {
		urls = append(urls, nodes[(first+i)%len(nodes)].socketURL())
	}
	return urls
}

// startLoaded starts nodes on a Redis, and a load of users who connect to all of
// them in turns, with pushes through all.
func startLoaded(t *testing.T, n, users int) ([]*Caddy, *redistest.Server, *load) {
	t.Helper()
	nodes, redis := startNodes(t, n)
	l := startLoad(t, users, func(id int) []string { return socketURLs(id, nodes...) })
	l.awaitOnline(users)
	l.push(nodes...)
	return nodes, redis, l
}

// TestNodeKilledUnderLoad kills a node while pushes go to its users from others, and
// through it. Some users come back on another node, some do not.
func TestNodeKilledUnderLoad(t *testing.T) {
	const users, lost = 180, 30
	nodes, redis := startNodes(t, 3)
	l := startLoad(t, users, func(id int) []string {
		if id < lost {
			return socketURLs(0, nodes[0])
		}
		return socketURLs(id, nodes...)
	})
	l.awaitOnline(users)
	expectPresence(t, l.live, redis.Client(), nodes...)
	l.push(nodes...)
	l.awaitPushes(1500)
	nodes[0].Kill()
	l.awaitOnline(users - lost)
	expectPresence(t, l.live, redis.Client(), nodes[1:]...)
	l.awaitPushes(1500)
	l.endPushes(nodes[1:]...)
	expectPresence(t, l.live, redis.Client(), nodes[1:]...)
}

// TestConnectionsKilled kills, again and again, each connection that a node has to
// Redis: nobody is offline, nothing is lost.
func TestConnectionsKilled(t *testing.T) {
	server := redistest.Start(t)
	nodes := []*Caddy{startNodesOn(t, 1, server.URL())[0], startNodesOn(t, 1, "unix://"+server.Socket)[0]}
	const users, rounds = 100, 6
	l := startLoad(t, users, func(id int) []string { return socketURLs(id, nodes...) })
	l.awaitOnline(users)
	l.push(nodes...)
	c, ctx := server.Client(), t.Context()
	for round := range rounds {
		l.awaitPushes(1500)
		killed := 0
		for line := range strings.Lines(c.ClientList(ctx).Val()) {
			fields := clientFields(line)
			ofSecond := strings.Contains(fields["addr"], server.Socket)
			if fields["name"] != "caddy-presence" || ofSecond != (round%2 == 1) {
				continue
			}
			killed += int(c.ClientKillByFilter(ctx, "ID", fields["id"]).Val())
		}
		if killed == 0 {
			t.Error("no connection was killed")
		}
	}
	l.awaitPushes(1500)
	l.endPushes(nodes...)
	expectPresence(t, l.live, c, nodes...)
	for _, u := range l.users {
		if u.opens != 1 {
			t.Errorf("user %d has opened %d times", u.id, u.opens)
		}
	}
}

// clientFields reads a line of CLIENT LIST.
func clientFields(line string) map[string]string {
	fields := make(map[string]string)
	for _, field := range strings.Fields(line) {
		name, value, _ := strings.Cut(field, "=")
		fields[name] = value
	}
	return fields
}

// TestRedisRestartedUnderLoad kills Redis, and starts it again, empty.
func TestRedisRestartedUnderLoad(t *testing.T) {
	const users = 100
	nodes, redis, l := startLoaded(t, 2, users)
	l.awaitPushes(1500)
	redis.Kill()
	nodes[0].expectReady(503)
	redis.Restart()
	expectPresence(t, l.live, redis.Client(), nodes...)
	l.awaitPushes(1500)
	l.endPushes(nodes...)
	if n := len(l.live()); n != users {
		t.Errorf("%d users are online, want %d", n, users)
	}
}

// expectReady waits until the node says that it is ready, or not.
func (c *Caddy) expectReady(want int) {
	c.t.Helper()
	status, answer := 0, ""
	Eventually(c.t, func() bool {
		status, answer = c.Call("GET", "/presence/ready", "")
		return status == want
	}, func() string { return "ready: " + strconv.Itoa(status) + " " + answer })
}

// TestComingAndGoing pushes to users who leave again and again, and come back on
// the other node, also while the nodes' connections to Redis are cut.
func TestComingAndGoing(t *testing.T) {
	for name, cut := range map[string]bool{"calm": false, "cut": true} {
		t.Run(name, func(t *testing.T) { testComingAndGoing(t, cut) })
	}
}

func testComingAndGoing(t *testing.T, cut bool) {
	nodes, server := startNodes(t, 2)
	const users, most, rounds = 16, 3, 10
	l := startRestless(t, users, most, func(id int) []string { return socketURLs(id, nodes...) })
	l.push(nodes...)
	for range rounds {
		l.awaitPushes(500)
		if cut {
			server.Client().ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes")
		}
	}
	l.end()
	l.pushing.Wait()
	l.awaitOnline(users)
	l.check()
	expectPresence(t, l.live, server.Client(), nodes...)
}
