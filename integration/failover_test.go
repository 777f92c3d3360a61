package integration

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore/redistest"
)

// TestSentinelFailoverUnderLoad kills the master, whose replica takes its place.
func TestSentinelFailoverUnderLoad(t *testing.T) {
	master, replica, sentinel := redistest.StartSentinel(t)
	site := strings.NewReplacer("{$REDIS}", sentinel.URL(), "lease 1s", "lease 1s\n\t\t\tmaster_name "+redistest.MasterName).Replace(clusterSite)
	nodes := startNodesWith(t, 2, site)
	failOver(t, nodes, master, replica, func() redis.UniversalClient { return replica.Client() })
}

// TestClusterFailoverUnderLoad kills a master of a Cluster, whose replica takes its
// place.
func TestClusterFailoverUnderLoad(t *testing.T) {
	masters, replicas := redistest.StartReplicatedCluster(t, 3)
	var urls, addrs []string
	for _, s := range masters {
		urls, addrs = append(urls, s.URL()), append(addrs, s.Addr)
	}
	nodes := startNodesOn(t, 2, urls...)
	failOver(t, nodes, masters[0], replicas[0], func() redis.UniversalClient {
		c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs[1:]})
		t.Cleanup(func() { _ = c.Close() })
		return c
	})
}

// failOver kills a server under load; its replica takes its place.
func failOver(t *testing.T, nodes []*Caddy, server, replica *redistest.Server, after func() redis.UniversalClient) {
	t.Helper()
	const users = 100
	l := startLoad(t, users, func(id int) []string { return socketURLs(id, nodes...) })
	l.awaitOnline(users)
	const pools = 100 // connections that may remain to the servers of a Cluster
	for _, node := range nodes {
		node.expectMemberCount(users)
		node.start.descriptors += pools
	}
	l.push(nodes...)
	l.awaitPushes(1500)
	refused := l.again.Load()
	server.Kill()
	killed := time.Now()
	c, role := replica.Client(), ""
	Eventually(t, func() bool {
		role = c.Info(t.Context(), "replication").Val()
		return strings.Contains(role, "role:master")
	}, func() string { return "the replica does not take the place: " + role })
	t.Logf("the replica takes the place %v after the kill", time.Since(killed).Round(10*time.Millisecond))
	if l.again.Load() == refused {
		t.Error("no push was refused meanwhile")
	}
	l.awaitPushes(1500)
	t.Logf("pushes go on %v after the kill", time.Since(killed).Round(10*time.Millisecond))
	expectPresence(t, l.live, after(), nodes...)
	t.Logf("presence is right %v after the kill", time.Since(killed).Round(10*time.Millisecond))
	l.awaitAnswers(nodes...)
	t.Logf("all nodes answer %v after the kill", time.Since(killed).Round(10*time.Millisecond))
	l.endPushes(nodes...)
	for _, u := range l.users {
		if u.opens != 1 {
			t.Errorf("user %d has opened %d times", u.id, u.opens)
		}
	}
}
