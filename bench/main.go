// Command bench loads a presence server over raw WebSockets, and prints what that
// cost the server: a line of JSON for each scenario. It sends traffic to loopback
// addresses only. The command in run/ compares servers with it.
//
//	bench -url ws://127.0.0.1:8080/ws -push http://127.0.0.1:2019 -pid 1234 idle heartbeat broadcast
//
// The scenarios are idle, heartbeat, pingburst (a ping on all connections at once),
// broadcast, broadcast4 (four under way), push (a closed loop), pushrate (a fixed
// rate), stream (ndjson), storm and reconnect; connect comes first by itself.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// options are the command's flags.
type options struct {
	urls  []*url.URL // where clients connect, by turns
	push  string     // where pushes are posted
	codec codec
	pids  []int // the server's processes
	conns int
	size  int // bytes of a pushed message
	rate  int // pushes a second, where they come at a fixed rate
	time  time.Duration
	idle  time.Duration
	times string // a file for the times of pushes, or nothing
}

func main() {
	log.SetFlags(0)
	o, names, err := parse(os.Args[1:])
	if err == nil {
		err = run(o, names)
	}
	if err != nil {
		log.Fatal("bench: ", err)
	}
}

// Bounds of what a run does.
const (
	maxConns = 15_000 // beside other descriptors, below the usual limit of 20,000
	maxTime  = time.Minute
)

func parse(args []string) (options, []string, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	address := flags.String("url", "ws://127.0.0.1:8080/ws", "where clients connect; several, with commas, by turns")
	codec := flags.String("codec", "presence", "what clients speak: presence or centrifuge")
	pids := flags.String("pid", "", "the server's processes, with commas, whose CPU and memory are counted")
	flags.StringVar(&o.push, "push", "http://127.0.0.1:2019", "where pushes are posted")
	flags.IntVar(&o.conns, "conns", 9000, "how many connections")
	flags.IntVar(&o.size, "size", 256, "bytes of a pushed message")
	flags.IntVar(&o.rate, "rate", 2000, "pushes a second in pushrate")
	flags.DurationVar(&o.time, "time", 2*time.Second, "how long a scenario takes")
	flags.StringVar(&o.times, "times", "", "a file for the times of the last scenario's pushes: a line for each, with when it was sent, in Unix microseconds, and how many it took; 0 is a lost one")
	flags.DurationVar(&o.idle, "idle", 5*time.Second, "how long idle takes")
	if err := flags.Parse(args); err != nil {
		return o, nil, err
	}
	err := errors.Join(o.addresses(*address), o.processes(*pids))
	if o.codec = codecs[*codec]; o.codec == nil {
		err = errors.Join(err, fmt.Errorf("no codec %q", *codec))
	}
	if o.conns < 1 || o.conns > maxConns || o.time <= 0 || max(o.time, o.idle) > maxTime || o.size < markSize || o.rate < 1 {
		err = errors.Join(err, fmt.Errorf("at most %d connections and %v, and at least %d bytes", maxConns, maxTime, markSize))
	}
	for _, name := range flags.Args() {
		if scenarios[name] == nil {
			err = errors.Join(err, fmt.Errorf("no scenario %q", name))
		}
	}
	return o, flags.Args(), err
}

// addresses takes the addresses, if they are of this machine.
func (o *options) addresses(address string) error {
	push, err := url.Parse(o.push)
	if err != nil {
		return err
	}
	hosts := []string{push.Hostname()}
	for one := range strings.SplitSeq(address, ",") {
		u, err := url.Parse(one)
		if err != nil {
			return err
		}
		o.urls = append(o.urls, u)
		hosts = append(hosts, u.Hostname())
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
			return fmt.Errorf("%q is no loopback address", host)
		}
	}
	return nil
}

func (o *options) processes(list string) error {
	for s := range strings.SplitSeq(list, ",") {
		pid, err := strconv.Atoi(s)
		if err != nil {
			return fmt.Errorf("-pid wants process ids: %w", err)
		}
		o.pids = append(o.pids, pid)
	}
	return nil
}

// result is a line of output; numbers that a scenario does not have are left out.
type result struct {
	Scenario string  `json:"scenario"`
	Conns    int     `json:"conns"`
	Ops      int     `json:"ops,omitempty"`
	PerSec   float64 `json:"per_second,omitempty"`

	KiBPerConn     float64   `json:"kib_per_conn,omitempty"`           // resident memory
	KiBOfEach      []float64 `json:"kib_of_each,omitempty"`            // by process, if there are several
	PeakKiB        float64   `json:"peak_kib_per_conn,omitempty"`      // the most there was meanwhile
	CPUMicros      float64   `json:"cpu_us_per_op,omitempty"`          // the server's, user and system
	CPUOfEach      []float64 `json:"cpu_us_of_each,omitempty"`         // the same by process, if there are several
	CPUConnSecond  *float64  `json:"cpu_us_per_conn_second,omitempty"` // where nothing is done
	ClientMicros   float64   `json:"client_cpu_us_per_op,omitempty"`
	P50Micros      float64   `json:"p50_us,omitempty"`
	P99Micros      float64   `json:"p99_us,omitempty"`
	MaxMicros      float64   `json:"max_us,omitempty"`
	Lost           int       `json:"lost"`
	ElapsedSeconds float64   `json:"seconds"`
}

// run connects, then runs the scenarios on the same connections.
func run(o options, names []string) error {
	cs := &clients{options: o}
	defer cs.close()
	if err := cs.warmUp(); err != nil {
		return fmt.Errorf("warming up: %w", err)
	}
	for _, name := range append([]string{"connect"}, names...) {
		scenario := scenarios[name]
		if name == "connect" {
			scenario = connect
		}
		before, own, began := usage(o.pids), usage([]int{os.Getpid()}), time.Now()
		r, err := scenario(cs)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if r.ElapsedSeconds == 0 {
			r.ElapsedSeconds = time.Since(began).Seconds()
		}
		after := usage(o.pids)
		cpu, client := after.cpu-before.cpu, usage([]int{os.Getpid()}).cpu-own.cpu
		r.Scenario, r.Conns = name, o.conns
		if r.Ops > 0 {
			r.CPUMicros = micros(cpu) / float64(r.Ops)
			r.ClientMicros = micros(client) / float64(r.Ops)
			r.PerSec = float64(r.Ops) / r.ElapsedSeconds
			r.CPUOfEach = after.eachSince(before, r.Ops)
		} else {
			idle := micros(cpu) / float64(o.conns) / r.ElapsedSeconds
			r.CPUConnSecond = &idle
		}
		if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
			return err
		}
	}
	return nil
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
