// Command scale measures what several nodes cost the Redis that they share, on this
// machine, and writes the figures into docs/scaling.md: real Caddy processes, real
// WebSocket clients (the command in bench/ is the load), and members that the store
// itself registers. It starts what it needs and ends it. Run it in the root of the
// source tree.
//
//	go run ./bench/scale                  # what make bench-scale does: less than six minutes
//	go run ./bench/scale -skip-million    # without a million members: less than three
//	go run ./bench/scale -quick           # few of everything, nothing written
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/bench/stage"
)

// options are the command's flags.
type options struct {
	nodes   []int // how many, one after the other
	conns   int
	rounds  int           // how often each scenario has its turn
	rate    int           // pushes a second, where latencies are measured
	time    time.Duration // of a scenario
	idle    time.Duration // how long nothing is done
	members []int         // how many, one after the other; a node with the first is killed
	docs    string        // the folder with scaling.md and benchmarks.md, or nothing
	raw     string        // a file that keeps what was measured, or nothing
	from    string        // such a file to write the report from, or nothing

	fill  int // what the process does that fills Redis
	redis string
	lease time.Duration
}

// budget is how long all may take.
const budget = 8 * time.Minute

func main() {
	log.SetFlags(log.Ltime)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, parse())
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func parse() options {
	o := options{nodes: []int{1, 2, 4}, members: []int{100_000, 1_000_000}}
	quick := flag.Bool("quick", false, "few of everything, and no files are written")
	skip := flag.Bool("skip-million", false, "without a million members")
	flag.IntVar(&o.conns, "conns", 400, "how many connections")
	flag.IntVar(&o.rate, "rate", 1000, "pushes a second, where latencies are measured")
	flag.IntVar(&o.rounds, "rounds", 3, "how often each scenario has its turn, of which the median counts")
	flag.DurationVar(&o.time, "time", 2*time.Second, "how long a scenario takes")
	flag.DurationVar(&o.idle, "idle", 6*time.Second, "how long nothing is done, to see what Redis uses then: two beats of a node")
	flag.StringVar(&o.docs, "docs", "docs", "the folder to write the report to")
	flag.StringVar(&o.raw, "raw", "", "a file to keep what was measured in")
	flag.StringVar(&o.from, "from", "", "such a file to write the report from, without measuring")
	flag.IntVar(&o.fill, "fill", 0, "used by the command itself: how many members to register")
	flag.StringVar(&o.redis, "redis", "", "likewise: where")
	flag.DurationVar(&o.lease, "lease", defaultLease, "likewise: the lease")
	flag.Parse()
	if *skip {
		o.members = o.members[:1]
	}
	if *quick {
		o.nodes, o.members, o.conns, o.docs = []int{1, 2}, []int{5000}, 50, ""
		o.rounds, o.time, o.idle = 1, time.Second, time.Second
	}
	return o
}

// measurement is all that was measured in one go.
type measurement struct {
	Machine stage.Machine
	Began   time.Time
	Took    time.Duration
	Others  float64 // cores that other processes used meanwhile
	Redis   string  // its version
	Conns   int
	Rounds  int
	Rate    int
	Nodes   []*nodesResult
	Fills   []*fillResult
	Reap    *reapResult
}

func run(ctx context.Context, o options) error {
	if o.fill > 0 {
		return fillAndWait(ctx, o.redis, o.fill, o.lease)
	}
	m, err := measured(ctx, o)
	if err != nil {
		return err
	}
	if o.raw != "" {
		raw, _ := json.Marshal(m)
		if err := os.WriteFile(o.raw, raw, 0o644); err != nil {
			return err
		}
	}
	benchmarks, err := os.ReadFile(filepath.Join("docs", "benchmarks.md"))
	if err != nil {
		return err
	}
	p, err := newPlan(m, string(benchmarks))
	if err != nil {
		return err
	}
	text := report(m, p)
	fmt.Println(text)
	if o.docs == "" {
		return nil
	}
	return stage.WritePart(filepath.Join(o.docs, "scaling.md"), "bench-scale", text)
}

// measured measures, or takes what was measured before.
func measured(ctx context.Context, o options) (*measurement, error) {
	if o.from == "" {
		return measure(ctx, o)
	}
	m := new(measurement)
	raw, err := os.ReadFile(o.from)
	if err != nil {
		return nil, err
	}
	return m, json.Unmarshal(raw, m)
}

func measure(ctx context.Context, o options) (*measurement, error) {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	dir, err := os.MkdirTemp("", "presence-scale")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	m := &measurement{Machine: stage.Describe(), Began: time.Now(), Redis: redisVersion(), Conns: o.conns, Rounds: o.rounds, Rate: o.rate}
	log.Print("building the programs")
	if err := stage.Build(ctx, dir, ".", "./bench", "./cmd/caddy"); err != nil {
		return nil, err
	}
	began, before := time.Now(), stage.Busy()
	own, err := m.parts(ctx, dir, o)
	if err != nil {
		return nil, err
	}
	m.Others = max(0, (stage.Busy()-before-own).Seconds()/time.Since(began).Seconds())
	m.Machine.LoadAfter, m.Took = stage.Load(), time.Since(m.Began)
	return m, nil
}

// parts measures one part after the other, and returns what CPU time they used.
func (m *measurement) parts(ctx context.Context, dir string, o options) (own time.Duration, err error) {
	for _, nodes := range o.nodes {
		log.Printf("%d nodes", nodes)
		result, cpu, err := measureNodes(ctx, dir, nodes, o)
		if err != nil {
			return own, err
		}
		own += cpu
		m.Nodes = append(m.Nodes, result)
	}
	log.Printf("%d members, and a node that is killed", o.members[0])
	filled, reaped, cpu, err := measureReap(ctx, dir, o.members[0], o)
	if err != nil {
		return own, err
	}
	own += cpu
	m.Fills, m.Reap = append(m.Fills, filled), reaped
	for _, count := range o.members[1:] {
		log.Printf("%d members", count)
		filled, cpu, err := measureFill(ctx, dir, count)
		if err != nil {
			return own, err
		}
		own += cpu
		m.Fills = append(m.Fills, filled)
	}
	return own, nil
}

// measureFill measures members without nodes.
func measureFill(ctx context.Context, programs string, count int) (*fillResult, time.Duration, error) {
	c, err := startCluster(ctx, programs, 0, defaultLease)
	var filled *fillResult
	var cpu time.Duration
	if err == nil {
		var m *members
		if m, filled, err = fillFrom(ctx, c.redis, count, defaultLease); err == nil {
			cpu = m.kill()
		}
	}
	return filled, cpu + c.stop(), err
}
