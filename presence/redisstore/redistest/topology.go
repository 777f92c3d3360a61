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
		// The bus has a port of its own, which is the other's plus 10,000.
		servers[i] = Start(t, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(freePort(t)))
	}
	ctx := context.Background()
	first := servers[0]
	for i, s := range servers {
		must(t, s.Client().ClusterAddSlotsRange(ctx, slots*i/masters, slots*(i+1)/masters-1).Err())
		must(t, s.Client().Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err())
	}
	for _, s := range servers[1:] {
		host, port, _ := net.SplitHostPort(s.Addr)
		bus := s.option("--cluster-port")
		must(t, first.Client().Do(ctx, "CLUSTER", "MEET", host, port, bus).Err())
	}
	for _, s := range servers {
		s.await("cluster_state:ok", func(c *redis.Client) (string, error) { return c.ClusterInfo(ctx).Result() })
		s.await(fmt.Sprintf("cluster_known_nodes:%d", masters), func(c *redis.Client) (string, error) { return c.ClusterInfo(ctx).Result() })
	}
	return servers
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
