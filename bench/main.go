// Command bench loads a presence server over raw WebSockets, and prints what that
// cost the server: one line of JSON for each scenario. It sends traffic to loopback
// addresses only.
//
//	bench -url ws://127.0.0.1:8080/ws -pid 1234 -conns 9000 idle heartbeat broadcast push
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/url"
	"os"
	"time"
)

// options are the command's flags.
type options struct {
	url   *url.URL
	admin string
	pid   int
	conns int
	size  int
	tls   bool
	time  time.Duration
}

func main() {
	log.SetFlags(0)
	o, scenarios, err := parse()
	if err == nil {
		err = run(o, scenarios)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func parse() (options, []string, error) {
	var o options
	address := flag.String("url", "ws://127.0.0.1:8080/ws", "where clients connect")
	flag.StringVar(&o.admin, "admin", "http://127.0.0.1:2019", "where the API is")
	flag.IntVar(&o.pid, "pid", 0, "the server's process, whose CPU and memory are counted")
	flag.IntVar(&o.conns, "conns", 9000, "how many connections")
	flag.IntVar(&o.size, "size", 256, "bytes of a message")
	flag.DurationVar(&o.time, "time", 3*time.Second, "how long a scenario takes")
	flag.Parse()
	u, err := url.Parse(*address)
	if err != nil {
		return o, nil, err
	}
	o.url, o.tls = u, u.Scheme == "wss"
	if host := u.Hostname(); host != "localhost" && host[:4] != "127." && host != "::1" {
		return o, nil, fmt.Errorf("%s is no loopback address", host)
	}
	if o.pid == 0 || flag.NArg() == 0 {
		return o, nil, errors.New("usage: bench -pid PID [-url URL] [-conns N] idle|heartbeat|broadcast|push…")
	}
	return o, flag.Args(), nil
}

// result is a line of output; numbers that a scenario does not have are left out.
type result struct {
	Scenario string  `json:"scenario"`
	Conns    int     `json:"conns"`
	Ops      int     `json:"ops,omitempty"`
	PerSec   float64 `json:"per_second,omitempty"`

	KiBPerConn   float64 `json:"kib_per_conn,omitempty"`    // resident memory
	CPUMicros    float64 `json:"cpu_us_per_op,omitempty"`   // the server's, user and system
	ConnectCPU   float64 `json:"cpu_us_per_conn,omitempty"` // likewise
	P50Micros    float64 `json:"p50_us,omitempty"`
	P99Micros    float64 `json:"p99_us,omitempty"`
	MaxMicros    float64 `json:"max_us,omitempty"`
	Lost         int     `json:"lost"`
	ElapsedMilli int64   `json:"elapsed_ms"`
}

// run connects, then runs the scenarios on the same connections.
func run(o options, names []string) error {
	before := usage(o.pid)
	began := time.Now()
	clients, err := connectAll(o)
	if err != nil {
		return err
	}
	defer clients.close()
	settle(o.pid)
	after := usage(o.pid)
	print(result{
		Scenario: "connect", Conns: o.conns, ElapsedMilli: time.Since(began).Milliseconds(),
		PerSec:     float64(o.conns) / clients.took.Seconds(),
		ConnectCPU: (after.cpu - before.cpu).Seconds() * 1e6 / float64(o.conns),
		KiBPerConn: float64(after.rss-before.rss) / 1024 / float64(o.conns),
	})
	for _, name := range names {
		scenario, ok := scenarios[name]
		if !ok {
			return fmt.Errorf("no scenario %q", name)
		}
		began, before := time.Now(), usage(o.pid)
		r, err := scenario(o, clients)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		cpu := usage(o.pid).cpu - before.cpu
		r.Scenario, r.Conns, r.ElapsedMilli = name, o.conns, time.Since(began).Milliseconds()
		if r.Ops > 0 {
			r.CPUMicros = cpu.Seconds() * 1e6 / float64(r.Ops)
			r.PerSec = float64(r.Ops) / time.Since(began).Seconds()
		}
		print(r)
	}
	return nil
}

func print(r result) {
	_ = json.NewEncoder(os.Stdout).Encode(r)
}
