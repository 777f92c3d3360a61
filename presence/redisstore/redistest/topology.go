package redistest

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// slots is how many a Cluster has.
const slots = 16384

// StartCluster starts a Cluster of so many masters, without replicas, and waits
// until all of them know all slots.
func StartCluster(t testing.TB, masters int) []*Server {
	t.Helper()
	servers := make([]*Server, masters)
	for i := range servers {
		servers[i] = startClusterNode(t)
	}
	ctx := context.Background()
	for i, s := range servers {
		must(t, s.Client().ClusterAddSlotsRange(ctx, slots*i/masters, slots*(i+1)/masters-1).Err())
		must(t, s.Client().Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err())
	}
	for _, s := range servers[1:] {
		servers[0].meet(s)
	}
	for _, s := range servers {
		s.awaitCluster("cluster_state:ok")
		s.awaitCluster(fmt.Sprintf("cluster_known_nodes:%d", masters))
	}
	return servers
}

// StartReplicatedCluster is StartCluster with a replica for each master, which takes
// its place when it has not answered for a second. replicas[i] is that of
// masters[i].
func StartReplicatedCluster(t testing.TB, n int) (masters, replicas []*Server) {
	t.Helper()
	ctx := context.Background()
	masters = StartCluster(t, n)
	for range masters {
		s := startClusterNode(t)
		masters[0].meet(s)
		replicas = append(replicas, s)
	}
	for _, s := range append(replicas, masters...) {
		s.awaitCluster(fmt.Sprintf("cluster_known_nodes:%d", 2*n))
	}
	for i, s := range replicas {
		of, err := masters[i].Client().ClusterMyID(ctx).Result()
		must(t, err)
		must(t, s.Client().ClusterReplicate(ctx, of).Err())
		id, err := s.Client().ClusterMyID(ctx).Result()
		must(t, err)
		s.await("master_link_status:up", func(c *redis.Client) (string, error) { return c.Info(ctx, "replication").Result() })
		s.awaitCluster("cluster_state:ok")
		for _, other := range masters { // which vote
			other.await(id+" ", func(c *redis.Client) (string, error) {
				lines, err := c.Do(ctx, "CLUSTER", "REPLICAS", of).StringSlice()
				return strings.Join(lines, "\n"), err
			})
		}
	}
	return masters, replicas
}

func startClusterNode(t testing.TB) *Server {
	t.Helper()
	// The bus has a port of its own, which is the other's plus 10,000 by default.
	return Start(t, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(freePort(t)),
		"--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0")
}

// meet makes another server part of the Cluster of this one.
func (s *Server) meet(other *Server) {
	s.t.Helper()
	host, port, _ := net.SplitHostPort(other.Addr)
	must(s.t, s.Client().Do(context.Background(), "CLUSTER", "MEET", host, port, other.option("--cluster-port")).Err())
}

// awaitCluster waits until what a server says of its Cluster contains want.
func (s *Server) awaitCluster(want string) {
	s.t.Helper()
	s.await(want, func(c *redis.Client) (string, error) { return c.ClusterInfo(context.Background()).Result() })
}

// MasterName is how the Sentinel of StartSentinel knows its master.
const MasterName = "themaster"

// StartSentinel starts a master, a replica of it, and a Sentinel that makes the
// replica the master when that does not answer for half a second.
func StartSentinel(t testing.TB) (master, replica, sentinel *Server) {
	t.Helper()
	ctx := context.Background()
	master = Start(t)
	host, port, _ := net.SplitHostPort(master.Addr)
	replica = Start(t, "--replicaof", host+" "+port)
	replica.await("master_link_status:up", func(c *redis.Client) (string, error) { return c.Info(ctx, "replication").Result() })
	config := filepath.Join(t.TempDir(), "sentinel.conf")
	text := fmt.Sprintf("sentinel monitor %[1]s %[2]s %[3]s 1\nsentinel down-after-milliseconds %[1]s 500\nsentinel failover-timeout %[1]s 3000\n", MasterName, host, port)
	must(t, os.WriteFile(config, []byte(text), 0o600))
	sentinel = start(t, []string{config}, "--sentinel")
	sentinel.await("slaves=1", func(c *redis.Client) (string, error) { return c.Info(ctx, "sentinel").Result() })
	return master, replica, sentinel
}

// option returns the value of an argument.
func (s *Server) option(name string) string {
	for i := range s.args {
		if s.args[i] == name {
			return s.args[i+1]
		}
	}
	return ""
}

// await waits until what a server answers contains want.
func (s *Server) await(want string, ask func(*redis.Client) (string, error)) {
	s.t.Helper()
	c := s.Client()
	const limit = 20 * time.Second
	for until := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		got, err := ask(c)
		if err == nil && strings.Contains(got, want) {
			return
		}
		if time.Now().After(until) {
			s.t.Fatalf("redis at %s answers %q, %v; want %q", s.Addr, got, err, want)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
