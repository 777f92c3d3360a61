// Command run compares this module with other servers, by turns, on this machine:
// it builds and starts each, loads it with the command in bench/, and writes the
// medians, their ratios and a chart to docs/. Run it in the root of the source tree.
//
//	go run ./bench/run          # what make bench does: less than ten minutes
//	go run ./bench/run -quick   # few connections, one round, nothing written
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/bench/stage"
)

// options are the command's flags.
type options struct {
	conns  int
	rounds int
	time   time.Duration // of a scenario
	idle   time.Duration // likewise, when nothing is done
	only   string        // the names of servers, with commas
	docs   string        // the folder that the report is written to, or nothing
	raw    string        // a file that keeps what was measured, or nothing
	from   string        // such a file to write the report from, or nothing
}

// budget is how long all may take.
const budget = 9*time.Minute + 30*time.Second

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
	var o options
	quick := flag.Bool("quick", false, "few connections, one round, and no files are written")
	flag.IntVar(&o.conns, "conns", 9000, "how many connections")
	flag.IntVar(&o.rounds, "rounds", 3, "how many times each server has its turn")
	flag.DurationVar(&o.time, "time", 1500*time.Millisecond, "how long a scenario takes")
	flag.DurationVar(&o.idle, "idle", 5*time.Second, "how long nothing is done, before memory counts as that of idle connections")
	flag.StringVar(&o.only, "only", "", "the names of the servers to measure, with commas; else all")
	flag.StringVar(&o.docs, "docs", "docs", "the folder to write the report to")
	flag.StringVar(&o.raw, "raw", "", "a file to keep what was measured in")
	flag.StringVar(&o.from, "from", "", "such a file to write the report from, without measuring")
	flag.Parse()
	if *quick {
		o.conns, o.rounds, o.time, o.docs = 300, 1, 200*time.Millisecond, ""
		o.idle = time.Second
	}
	return o
}

func run(ctx context.Context, o options) error {
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
	text := report(m)
	fmt.Println(text)
	if o.docs == "" {
		return nil
	}
	return writeDocs(o.docs, text, chart(m))
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

// measure gives each server its turn in each round.
func measure(ctx context.Context, o options) (*measurement, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	dir, err := os.MkdirTemp("", "presence-bench")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	m := &measurement{Machine: stage.Describe(), Began: began, Conns: o.conns, ScenarioTime: o.time, Idle: o.idle, Samples: samples{}}
	ready, err := build(ctx, dir, o, m)
	if err != nil {
		return nil, err
	}
	if err := rounds(ctx, dir, ready, o, m); err != nil {
		return nil, err
	}
	if o.docs != "" && ready[0].name == ours {
		log.Print("profiles")
		if m.Profiles, err = profiles(ctx, dir, o); err != nil {
			return nil, err
		}
	}
	m.Machine.LoadAfter, m.Took = stage.Load(), time.Since(began)
	return m, nil
}

// rounds measures, and keeps account of what the machine did besides.
func rounds(ctx context.Context, dir string, ready []server, o options, m *measurement) error {
	began, before := time.Now(), stage.Busy()
	var own time.Duration
	for round := range o.rounds {
		for i := range ready {
			// Each round begins with another server, so that none always runs behind the same.
			s := ready[(i+round)%len(ready)]
			log.Printf("round %d of %d: %s", round+1, o.rounds, s.name)
			lines, cpu, err := turn(ctx, dir, s, o)
			if ctx.Err() != nil {
				return fmt.Errorf("stopped after %v: %w", time.Since(m.Began).Round(time.Second), context.Cause(ctx))
			}
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			own += cpu
			m.Samples.add(s.name, lines)
		}
		m.Rounds++
	}
	m.Others = max(0, (stage.Busy()-before-own).Seconds()/time.Since(began).Seconds())
	return nil
}

// build makes the programs of all servers, and returns those that can run here. A
// program that is not installed excuses any but this module.
func build(ctx context.Context, dir string, o options, m *measurement) ([]server, error) {
	log.Print("building the programs")
	err := errors.Join(
		stage.Build(ctx, dir, ".", "./bench", "./cmd/caddy"),
		stage.Build(ctx, dir, "bench/peers", "./naive", "./plain", "./centrifuge"),
	)
	if err != nil {
		return nil, err
	}
	var ready []server
	for _, s := range servers {
		if o.only != "" && !slices.Contains(strings.Split(o.only, ","), s.name) {
			continue
		}
		if s.prepare != nil {
			if err := s.prepare(ctx); err != nil {
				log.Printf("%s is left out: %v", s.name, err)
				m.LeftOut = append(m.LeftOut, s.title+": "+err.Error())
				continue
			}
		}
		ready = append(ready, s)
	}
	if len(ready) == 0 {
		return nil, errors.New("no server to measure")
	}
	return ready, nil
}
