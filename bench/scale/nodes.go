package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/bench/stage"
)

// cluster is some nodes that share a Redis.
type cluster struct {
	stage *stage.Stage
	redis *server
	nodes []*stage.Running
	whole *stage.Running // Redis
}

// caddyfile is that of a node. Its log says when another node's members are out.
const caddyfile = `{
	admin %s
	persist_config off
	auto_https off
	log {
		exclude admin.api
	}
	presence {
		store redis redis://%s {
			lease %s
		}
	}
}
`

// startCluster starts Redis and nodes, and waits until they know each other. Stop
// the cluster also if it fails.
func startCluster(ctx context.Context, programs string, nodes int, lease time.Duration) (*cluster, error) {
	dir, err := os.MkdirTemp(programs, "redis")
	if err != nil {
		return nil, err
	}
	c := &cluster{stage: &stage.Stage{Ctx: ctx, Programs: programs, Dir: dir}, whole: new(stage.Running)}
	if c.redis, err = startRedis(c.stage, c.whole); err != nil {
		return c, err
	}
	for range nodes {
		if err := c.startNode(lease); err != nil {
			return c, err
		}
	}
	return c, c.await(nodes)
}

func (c *cluster) startNode(lease time.Duration) error {
	dir, err := os.MkdirTemp(c.stage.Programs, "node")
	if err != nil {
		return err
	}
	s := *c.stage
	s.Dir = dir
	site, admin := s.Address(), s.Address()
	r := &stage.Running{URL: "ws://" + site + "/ws", Push: "http://" + admin}
	c.nodes = append(c.nodes, r)
	text := fmt.Sprintf(caddyfile, admin, c.redis.address, lease) + s.Site("http", site, "presence /ws")
	return s.Caddy("caddy", text, r, site, admin)
}

// await waits until so many nodes are alive.
func (c *cluster) await(nodes int) error {
	if nodes == 0 {
		return nil
	}
	for until := time.Now().Add(15 * time.Second); time.Now().Before(until); time.Sleep(100 * time.Millisecond) {
		res, err := http.Get(c.nodes[0].Push + "/presence/nodes")
		if err != nil {
			return err
		}
		var answer struct {
			Nodes []struct{ Alive bool }
		}
		err = json.NewDecoder(res.Body).Decode(&answer)
		_ = res.Body.Close()
		if err == nil && len(answer.Nodes) == nodes {
			return nil
		}
	}
	return fmt.Errorf("there are not %d nodes", nodes)
}

// stop ends all processes, and returns what CPU time they used.
func (c *cluster) stop() (cpu time.Duration) {
	if c == nil {
		return 0
	}
	for _, node := range c.nodes {
		cpu += node.Stop()
	}
	if c.redis != nil {
		_ = c.redis.client.Close()
	}
	return cpu + c.whole.Stop()
}

// log is what the nodes have printed, at its end.
func (c *cluster) log() string {
	if c == nil {
		return ""
	}
	var b strings.Builder
	for _, r := range slices.Concat(c.nodes, []*stage.Running{c.whole}) {
		b.WriteString(r.Log())
	}
	return b.String()
}

// load is the command that connects clients, and pushes to them through the first
// node. If there are others, it is those that have the clients, by turns.
func (c *cluster) load(o options, extra []string, scenarios ...string) (args []string) {
	holding := c.nodes[min(1, len(c.nodes)-1):]
	var urls, pids []string
	for _, node := range holding {
		urls = append(urls, node.URL)
	}
	for _, node := range c.nodes {
		pids = append(pids, strconv.Itoa(node.Cmds[0].Process.Pid))
	}
	pids = append(pids, strconv.Itoa(c.redis.pid))
	args = []string{
		"-url", strings.Join(urls, ","), "-push", c.nodes[0].Push, "-pid", strings.Join(pids, ","),
		"-conns", strconv.Itoa(o.conns), "-rate", strconv.Itoa(o.rate), "-time", o.time.String(),
	}
	return append(append(args, extra...), scenarios...)
}

// nodesResult is what was measured with some nodes.
type nodesResult struct {
	Nodes   int
	Idle    float64            // CPU of Redis in a second in which nothing is done, in µs
	Figures map[string]float64 // those of the load generator, by scenario and field: medians of rounds
	RedisOf map[string]float64 // CPU of Redis for an op, by scenario, in µs
	NodesOf map[string]float64 // that of all nodes together
	Lost    float64            // messages and connections, of all rounds
}

// measureNodes measures what nodes and their Redis do for clients.
func measureNodes(ctx context.Context, programs string, nodes int, o options) (*nodesResult, time.Duration, error) {
	c, err := startCluster(ctx, programs, nodes, defaultLease)
	var result *nodesResult
	var load time.Duration
	if err == nil {
		result, load, err = c.measure(ctx, o)
	}
	cpu := c.stop() + load
	if err != nil {
		err = fmt.Errorf("%d nodes: %w\n%s", nodes, err, c.log())
	}
	return result, cpu, err
}

func (c *cluster) measure(ctx context.Context, o options) (*nodesResult, time.Duration, error) {
	result := &nodesResult{Nodes: len(c.nodes)}
	cpu, took, err := c.redis.cost(ctx, func() error { return sleep(ctx, o.idle) })
	if err != nil {
		return nil, 0, err
	}
	result.Idle = micros(cpu) / took.Seconds()
	cmd := stage.Command(ctx, "", filepath.Join(c.stage.Programs, "bench"), c.load(o, nil, slices.Repeat([]string{"push", "stream", "pushrate"}, o.rounds)...)...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %s", err, &complaint)
	}
	lines, err := stage.ParseLines(out)
	if err != nil {
		return nil, 0, err
	}
	result.take(lines)
	if result.RedisOf["push"] == 0 {
		return nil, 0, errors.New("the load generator does not say what Redis used")
	}
	return result, stage.CPUOf(cmd), nil
}

// take keeps the medians. The last of the processes is Redis.
func (r *nodesResult) take(lines []stage.Line) {
	figures, ofRedis, ofNodes := map[string][]float64{}, map[string][]float64{}, map[string][]float64{}
	for _, l := range lines {
		for field, value := range l.Numbers {
			figures[l.Scenario+"."+field] = append(figures[l.Scenario+"."+field], value)
		}
		nodes := 0.0
		for i := range r.Nodes {
			nodes += l.Numbers[fmt.Sprintf("cpu_us_of_each.%d", i)]
		}
		ofNodes[l.Scenario] = append(ofNodes[l.Scenario], nodes)
		ofRedis[l.Scenario] = append(ofRedis[l.Scenario], l.Numbers[fmt.Sprintf("cpu_us_of_each.%d", r.Nodes)])
		r.Lost += l.Numbers["lost"]
	}
	r.Figures, r.RedisOf, r.NodesOf = medians(figures), medians(ofRedis), medians(ofNodes)
}

func medians(all map[string][]float64) map[string]float64 {
	one := make(map[string]float64, len(all))
	for name, values := range all {
		one[name] = stage.Median(values)
	}
	return one
}

// sleep waits, unless ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
