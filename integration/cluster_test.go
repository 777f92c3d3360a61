package integration

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore/redistest"
)

// clusterSite is a node of several; its lease is short.
const clusterSite = `{
	presence {
		store redis {$REDIS} {
			lease 1s
		}
		grace 100ms
		drain 100ms
	}
}
{$SITE}
presence /ws {
	rate_limit 0 0
}
`

// startNodes starts nodes that share a Redis.
func startNodes(t *testing.T, n int) ([]*Caddy, *redistest.Server) {
	t.Helper()
	redis := redistest.Start(t)
	nodes := make([]*Caddy, n)
	for i := range nodes {
		nodes[i] = StartText(t, clusterSite, "REDIS="+redis.URL())
	}
	return nodes, redis
}

// online connects users and opens them.
func (c *Caddy) online(from, to int) []*Client {
	c.t.Helper()
	clients := make([]*Client, 0, to-from)
	for i := from; i < to; i++ {
		client := c.Dial("/ws")
		client.Open(fmt.Sprintf(`"id":%d,"type":"driver"`, i))
		clients = append(clients, client)
	}
	return clients
}

// TestNodeDies kills a node: another takes its members out, but not those that
// have come to it meanwhile.
func TestNodeDies(t *testing.T) {
	nodes, redis := startNodes(t, 3)
	nodes[0].online(0, 50)
	nodes[1].online(50, 60)
	nodes[2].expectMemberCount(60)
	nodes[0].Kill()
	nodes[2].online(0, 5)
	nodes[1].expectMemberCount(15)
	nodes[1].ExpectState("3", "online")
	nodes[1].ExpectState("30", "offline")
	Eventually(t, func() bool { return redis.Client().HLen(t.Context(), "presence:{g}:dead").Val() == 0 },
		func() string { return "a claim is left" })
	if n := redis.Client().ZCard(t.Context(), "presence:{g}:nodes").Val(); n != 2 {
		t.Errorf("%d nodes have a lease, want 2", n)
	}
}

// TestNodeStops stops a node: it gives its lease up, and nobody has to find out.
func TestNodeStops(t *testing.T) {
	nodes, redis := startNodes(t, 2)
	nodes[0].online(0, 3)
	Eventually(t, func() bool { return redis.Client().ZCard(t.Context(), "presence:{g}:nodes").Val() == 2 },
		func() string { return "not both nodes have a lease" })
	nodes[0].Stop()
	if n := redis.Client().ZCard(t.Context(), "presence:{g}:nodes").Val(); n != 1 {
		t.Errorf("%d nodes have a lease, want 1", n)
	}
	nodes[1].ExpectState("1", "lingering")
}

// TestNodePaused pauses a node for longer than its lease: it is declared dead, and
// when it goes on it finds out, and its members are online again, on the
// connections that they have.
func TestNodePaused(t *testing.T) {
	nodes, _ := startNodes(t, 2)
	clients := nodes[0].online(0, 20)
	stayed := nodes[1].online(20, 22)
	nodes[1].expectMemberCount(22)
	nodes[0].signal(syscall.SIGSTOP)
	nodes[1].expectMemberCount(2)
	nodes[0].signal(syscall.SIGCONT)
	nodes[1].expectMemberCount(22)
	nodes[0].Push(`{"to":{"ids":[7,20]},"text":"again"}`)
	clients[7].Expect("again")
	clients[7].Send("ping")
	clients[7].Expect("pong")
	clients[8].Send(`{"action":"close","ref":1}`)
	clients[8].Expect(`{"action":"reply","ref":1,"ok":true}`)
	nodes[1].ExpectState("8", "offline")
	clients[7].Cut()
	nodes[1].ExpectState("7", "offline")
	nodes[0].expectMemberCount(20)
	stayed[0].Send("ping")
	stayed[0].Expect("pong")
}

// TestRedisLosesAll empties Redis, and restarts it empty: all members come back.
func TestRedisLosesAll(t *testing.T) {
	nodes, redis := startNodes(t, 2)
	nodes[0].online(0, 20)
	nodes[1].online(20, 40)
	nodes[0].expectMemberCount(40)
	redis.Flush()
	nodes[0].expectMemberCount(40)
	redis.Kill()
	time.Sleep(1500 * time.Millisecond) // longer than a lease: there is nothing to wait for
	redis.Restart()
	nodes[1].expectMemberCount(40)
	nodes[0].ExpectState("3", "online")
	nodes[0].ExpectState("33", "online")
}

// TestRedisLosesSome takes records out, and puts others in, behind the nodes'
// backs: both are mended.
func TestRedisLosesSome(t *testing.T) {
	nodes, redis := startNodes(t, 2)
	nodes[0].online(0, 64)
	nodes[1].expectMemberCount(64)
	client, ctx := redis.Client(), t.Context()
	for _, name := range []string{"u", "t", "m"} {
		for p := range 32 {
			client.Del(ctx, fmt.Sprintf("presence:{p%d}:%s", p, name))
		}
	}
	nodes[1].expectMemberCount(64)
	for i := range 64 {
		nodes[1].ExpectState(fmt.Sprint(i), "online")
	}
}

func (c *Caddy) signal(s syscall.Signal) {
	c.t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		c.t.Fatal(err)
	}
}

// expectMemberCount waits until the node counts so many members.
func (c *Caddy) expectMemberCount(want int) {
	c.t.Helper()
	n := -1
	Eventually(c.t, func() bool { n = c.memberCount(); return n == want },
		func() string { return fmt.Sprintf("%d members, want %d", n, want) })
}
