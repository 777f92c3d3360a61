package integration

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore/redistest"
)

// clusterSite is a node of several; its lease is short.
const clusterSite = `{
	log {
		exclude admin.api
	}
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
	return startNodesOn(t, n, redis.URL()), redis
}

// startNodesOn starts nodes on a Redis that is there.
func startNodesOn(t *testing.T, n int, urls ...string) []*Caddy {
	t.Helper()
	return startNodesWith(t, n, strings.Replace(clusterSite, "{$REDIS}", strings.Join(urls, " "), 1))
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
	stayed[0].Expect("again")
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
	nodes, server := startNodes(t, 2)
	nodes[0].online(0, 64)
	nodes[1].expectMemberCount(64)
	client, ctx := server.Client(), t.Context()
	for _, name := range []string{"u", "t", "m"} {
		for p := range 32 {
			client.Del(ctx, fmt.Sprintf("presence:{p%d}:%s", p, name))
		}
	}
	nodes[1].expectMemberCount(64)
	for i := range 64 {
		nodes[1].ExpectState(fmt.Sprint(i), "online")
	}

	// A connection that the node has not, as an old snapshot may have it.
	_, answer := nodes[0].Call(http.MethodGet, "/presence/members/0", "")
	_, conn, _ := strings.Cut(answer, `"conn":"`)
	node, _, _ := strings.Cut(conn, ".")
	hash := fnv.New32a()
	_, _ = hash.Write([]byte("ghost"))
	key := fmt.Sprintf("presence:{p%d}:", hash.Sum32()%64)
	client.HSet(ctx, key+"u", "ghost", node+".zzz\t1\t\t\t\t\t{}")
	client.ZAdd(ctx, key+"t", redis.Z{Member: "\tghost"})
	client.HIncrBy(ctx, key+"m", "n:"+node, 1)
	nodes[1].ExpectState("ghost", "online")
	nodes[1].ExpectState("ghost", "offline")
	nodes[1].expectMemberCount(64)
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

// TestPushOverNodes pushes from one node to users on all of them, by each kind of
// selector.
func TestPushOverNodes(t *testing.T) {
	nodes, _ := startNodes(t, 3)
	clients := append(nodes[0].online(0, 2), append(nodes[1].online(2, 4), nodes[2].online(4, 6)...)...)
	nodes[0].expectMemberCount(6)
	for _, test := range []struct {
		to      string
		want    []int
		report  string
		offline int
	}{
		{`{"ids":[0,2,3,5,99]}`, []int{0, 2, 3, 5}, "4 4 0 0", 1},
		{`{"types":["driver"]}`, []int{0, 1, 2, 3, 4, 5}, "6 6 0 0", 0},
		{`{"types":["rider"]}`, nil, "0 0 0 0", 0},
		{`{"all":true,"ids":[2,4]}`, []int{0, 1, 2, 3, 4, 5}, "6 6 0 0", 0},
	} {
		r := nodes[1].Push(fmt.Sprintf(`{"to":%s,"text":%q}`, test.to, test.to))
		got := fmt.Sprint(r.Matched, r.Sent, r.Dropped, r.Unconfirmed)
		if got != test.report || len(r.Offline) != test.offline {
			t.Errorf("to %s: %+v, want %s", test.to, r, test.report)
		}
		for _, i := range test.want {
			clients[i].Expect(test.to)
		}
	}
	r := nodes[0].Push(`{"to":{"all":true},"except":{"ids":[3],"types":["x"]},"text":"but 3"}`)
	if r.Matched != 5 || r.Sent != 5 {
		t.Errorf("with an exception: %+v", r)
	}
	for i, c := range clients {
		if i != 3 {
			c.Expect("but 3")
		}
		c.Send("ping")
		c.Expect("pong")
	}
}

// TestOrderOverNodes pushes a long stream from one node to a user on another: all
// arrives, once, in order, though Redis drops its connections meanwhile.
func TestOrderOverNodes(t *testing.T) {
	nodes, redis := startNodes(t, 2)
	client := nodes[1].online(0, 1)[0]
	const pushes = 1000
	for i := range pushes {
		if i%250 == 100 {
			redis.Client().Do(t.Context(), "CLIENT", "KILL", "TYPE", "normal")
		}
		r := nodes[0].retryPush(fmt.Sprintf(`{"to":{"ids":[0]},"text":"m%d","id":"push-%d","wait":"5s"}`, i, i))
		if r.Sent != 1 {
			t.Fatalf("push %d: %+v", i, r)
		}
	}
	for i := range pushes {
		client.Expect(fmt.Sprintf("m%d", i))
	}
}

// retryPush pushes again, with the same id, while the store is away.
func (c *Caddy) retryPush(body string) Report {
	c.t.Helper()
	var r Report
	var status int
	var answer string
	Eventually(c.t, func() bool {
		status, answer = c.Call(http.MethodPost, "/presence/push", body)
		return status == http.StatusOK && json.Unmarshal([]byte(answer), &r) == nil
	}, func() string { return fmt.Sprintf("pushing: %d %s", status, answer) })
	return r
}

// TestPushToDeadNode pushes to users of a node that was killed, and of one that is
// paused: what is not known to have arrived is unconfirmed.
func TestPushToDeadNode(t *testing.T) {
	nodes, _ := startNodes(t, 2)
	nodes[1].online(0, 3)
	nodes[0].online(3, 4)
	nodes[0].expectMemberCount(4)
	nodes[1].signal(syscall.SIGSTOP)
	r := nodes[0].Push(`{"to":{"ids":[0,1,3]},"text":"x","wait":"300ms"}`)
	if r.Matched != 3 || r.Sent != 1 || r.Unconfirmed != 2 {
		t.Errorf("to a paused node: %+v", r)
	}
	nodes[1].signal(syscall.SIGCONT)
	nodes[0].expectMemberCount(4)
	Eventually(t, func() bool {
		r = nodes[0].Push(`{"to":{"ids":[0,1,3]},"text":"x"}`)
		return r.Sent == 3
	}, func() string { return fmt.Sprintf("when it goes on: %+v", r) })
}

// TestOverNodes kicks, and replaces, connections of another node.
func TestOverNodes(t *testing.T) {
	nodes, _ := startNodes(t, 2)
	clients := nodes[1].online(0, 3)
	nodes[0].online(0, 1)
	clients[0].ExpectClosed(4001)
	nodes[1].ExpectState("0", "online")
	if status, answer := nodes[0].Call(http.MethodDelete, "/presence/members/1", ""); status != 200 || !strings.Contains(answer, `"kicked":1,"unconfirmed":0`) {
		t.Errorf("kicking a member: %d %s", status, answer)
	}
	clients[1].ExpectClosed(4003)
	nodes[0].ExpectState("1", "offline")
	_, answer := nodes[0].Call(http.MethodGet, "/presence/members/2", "")
	var user struct{ Conns []struct{ Conn string } }
	if err := json.Unmarshal([]byte(answer), &user); err != nil || len(user.Conns) != 1 {
		t.Fatalf("member 2 is %s", answer)
	}
	if status, answer := nodes[0].Call(http.MethodDelete, "/presence/conns/"+user.Conns[0].Conn, ""); status != 200 || !strings.Contains(answer, `"kicked":1`) {
		t.Errorf("kicking a connection: %d %s", status, answer)
	}
	clients[2].ExpectClosed(4003)
	if status, answer := nodes[0].Call(http.MethodDelete, "/presence/conns/nobody.1", ""); status != 404 {
		t.Errorf("kicking a connection that is not there: %d %s", status, answer)
	}
}

// TestNodes lists the nodes, and asks whether they are ready, with and without
// Redis.
func TestNodes(t *testing.T) {
	nodes, redis := startNodes(t, 2)
	var list struct {
		Nodes []struct {
			Node        string
			Self, Alive bool
			PID         int
		}
	}
	Eventually(t, func() bool {
		_, answer := nodes[0].Call(http.MethodGet, "/presence/nodes", "")
		return json.Unmarshal([]byte(answer), &list) == nil && len(list.Nodes) == 2
	}, func() string { return fmt.Sprintf("the nodes are %+v", list) })
	for _, n := range list.Nodes {
		if !n.Alive || n.PID == 0 || n.Self != (n.PID == nodes[0].PID()) {
			t.Errorf("a node: %+v", n)
		}
	}
	ready := func(want int) {
		t.Helper()
		var status int
		var answer string
		Eventually(t, func() bool {
			status, answer = nodes[0].Call(http.MethodGet, "/presence/ready", "")
			return status == want
		}, func() string { return fmt.Sprintf("ready: %d %s, want %d", status, answer, want) })
	}
	ready(http.StatusOK)
	redis.Kill()
	ready(http.StatusServiceUnavailable)
	redis.Restart()
	ready(http.StatusOK)
}

// TestOnRedisCluster has nodes on a Redis Cluster of three masters: a push, a kick
// and a crash over nodes.
func TestOnRedisCluster(t *testing.T) {
	var urls []string
	for _, s := range redistest.StartCluster(t, 3) {
		urls = append(urls, s.URL())
	}
	nodes := startNodesOn(t, 2, urls...)
	clients := append(nodes[0].online(0, 20), nodes[1].online(20, 40)...)
	nodes[0].expectMemberCount(40)
	if r := nodes[0].Push(`{"to":{"ids":[1,21,39,99]},"text":"x"}`); r.Sent != 3 || len(r.Offline) != 1 {
		t.Errorf("a push to ids: %+v", r)
	}
	clients[39].Expect("x")
	if r := nodes[0].Push(`{"to":{"all":true},"text":"y"}`); r.Sent != 40 || r.Matched != 40 {
		t.Errorf("a push to all: %+v", r)
	}
	if status, answer := nodes[0].Call(http.MethodDelete, "/presence/members/30", ""); status != 200 {
		t.Errorf("a kick: %d %s", status, answer)
	}
	clients[30].ExpectClosed(4003)
	nodes[1].Kill()
	nodes[0].expectMemberCount(20)
}

// TestInboxLost takes a node's inbox away: it makes another one.
func TestInboxLost(t *testing.T) {
	nodes, server := startNodes(t, 2)
	client := nodes[1].online(0, 1)[0]
	nodes[0].expectMemberCount(1)
	c, ctx := server.Client(), t.Context()
	inboxes := func() []string { return c.Keys(ctx, "presence:{n*}:in").Val() }
	Eventually(t, func() bool { return len(inboxes()) == 2 }, func() string { return "there are no two inboxes" })
	if err := c.Del(ctx, inboxes()...).Err(); err != nil {
		t.Fatal(err)
	}
	Eventually(t, func() bool { return len(inboxes()) == 2 }, func() string { return "the inboxes do not come back" })
	if r := nodes[0].Push(`{"to":{"ids":[0]},"text":"x"}`); r.Sent != 1 {
		t.Errorf("a push: %+v", r)
	}
	client.Expect("x")
}

// TestRollback puts an older state of all partitions back, as a replica that lags
// does at a failover: the number of connections is the same, and they are others.
func TestRollback(t *testing.T) {
	nodes, server := startNodes(t, 1)
	before := nodes[0].online(0, 20)
	c, ctx := server.Client(), t.Context()
	dumps := make(map[string]string)
	for _, key := range c.Keys(ctx, "presence:{p*").Val() {
		dumps[key] = c.Dump(ctx, key).Val()
	}
	for _, client := range before {
		client.Cut()
	}
	after := nodes[0].online(0, 20)
	for key, dump := range dumps {
		if err := c.RestoreReplace(ctx, key, 0, dump).Err(); err != nil {
			t.Fatal(err)
		}
	}
	var r Report
	Eventually(t, func() bool {
		r = nodes[0].Push(`{"to":{"ids":[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19]},"text":"x"}`)
		return r.Sent == 20
	}, func() string { return fmt.Sprintf("after the rollback: %+v", r) })
	after[19].Expect("x")
}
