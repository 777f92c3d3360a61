package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/bench/stage"
)

// column is a figure in a table.
type column struct {
	title  string
	figure string
	scale  float64 // what the figure is multiplied with
}

const milli = 0.001 // from microseconds

var columns = []column{
	{"idle, KiB", idleKiB, 1},
	{"connect, µs", connectCPU, 1},
	{"heartbeat, µs", heartbeatCPU, 1},
	{"broadcast, µs", broadcastCPU, 1},
	{"to the last, ms", broadcastLast, milli},
	{"four broadcasts, µs", broadcast4CPU, 1},
	{"push to one, µs", pushCPU, 1},
	{"pushes/s", pushPerSecond, 1},
	{"2,000 pushes/s: p50, ms", ratedP50, milli},
	{"p99, ms", ratedP99, milli},
	{"max, ms", ratedMax, milli},
	{"storm, s", stormSeconds, 1},
	{"storm, peak KiB", stormPeak, 1},
}

// compared are the columns that ratios are printed of.
var compared = []column{
	{"idle memory", idleKiB, 1},
	{"connect", connectCPU, 1},
	{"heartbeat", heartbeatCPU, 1},
	{"broadcast", broadcastCPU, 1},
	{"four broadcasts", broadcast4CPU, 1},
	{"push to one", pushCPU, 1},
	{"storm, time", stormSeconds, 1},
	{"storm, peak memory", stormPeak, 1},
}

// report is the part of docs/benchmarks.md that is measured.
func report(m *measurement) string {
	var b strings.Builder
	conditions(&b, m)
	b.WriteString("\n![The servers beside each other](benchmarks.svg)\n\n### Side by side\n\n")
	figures(&b, m)
	b.WriteString("\n### This module's figure as a part of theirs\n\nBelow 1 this module needs less.\n\n")
	ratios(&b, m)
	b.WriteString("\n### TLS, protocol pings, streams\n\n")
	others(&b, m)
	b.WriteString("\n### Targets\n\n")
	verdicts(&b, m)
	profileTable(&b, m)
	return b.String()
}

// conditions tells where, when and how it was measured.
func conditions(b *strings.Builder, m *measurement) {
	fmt.Fprintf(b, "Measured %s in %v at commit %s: %d connections,\nmessages of 256 B, medians of %d rounds in which each server has its turn, %v a scenario.\n\n",
		m.Began.UTC().Format("2006-01-02 15:04 MST"), m.Took.Round(time.Second), m.Machine.Source, m.Conns, m.Rounds, m.ScenarioTime)
	fmt.Fprintf(b, "%s, %d virtual cores shared by server and clients, %s of memory, Linux %s,\n%s, Node %s, over loopback.",
		m.Machine.CPU, m.Machine.Cores, m.Machine.Memory, m.Machine.Kernel, m.Machine.Go, m.Machine.Node)
	fmt.Fprintf(b, " Load average %s before, %s after; what does\nnot belong to the benchmark used %.2f cores meanwhile.\n",
		m.Machine.LoadBefore, m.Machine.LoadAfter, m.Others)
	fmt.Fprintf(b, "\nBetween rounds a server's CPU of a broadcast differs by up to %.0f %%, its memory by up to %.0f %%.\nMessages and connections lost: %s.\n",
		100*widest(m, broadcastCPU), 100*widest(m, idleKiB), lost(m))
	for _, what := range m.LeftOut {
		fmt.Fprintf(b, "Not measured: %s.\n", what)
	}
}

// widest is the widest spread of a figure between rounds.
func widest(m *measurement, figure string) (most float64) {
	for _, s := range servers {
		most = max(most, spread(m.Samples[s.name][figure]))
	}
	return most
}

// lost names the servers that lost something.
func lost(m *measurement) string {
	var names []string
	for _, s := range servers {
		if n := m.Samples.sum(s.name, "lost"); n > 0 {
			names = append(names, fmt.Sprintf("%s %.0f", s.title, n))
		}
	}
	if names == nil {
		return "none by anyone"
	}
	return strings.Join(names, ", ")
}

// whole tells whether a server had all scenarios, and so has a line of its own.
func (s server) whole() bool { return strings.Contains(s.scenarios, "broadcast") }

func figures(b *strings.Builder, m *measurement) {
	header(b, "server", columns)
	for _, s := range servers {
		if !s.whole() || m.Samples[s.name] == nil {
			continue
		}
		fmt.Fprintf(b, "| %s |", s.title)
		for _, c := range columns {
			fmt.Fprintf(b, " %s |", stage.Number(m.Samples.median(s.name, c.figure)*c.scale))
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(b, legend, m.Idle)
}

const legend = `
Time without more is CPU time of the server, user and system, of all its processes (the proxy and
the server behind it; Node and Redis). Memory is resident memory beyond that of the server
without clients, as it is %v after they came, garbage included; what the kernel holds for a
socket is not in it. This module gives garbage back to the system when connections have come or
gone; the other servers leave that to their runtimes.

A heartbeat is a ping from a client and its pong, 64 under way, on one connection after the
other. A broadcast counts by the delivery; the next one begins when the last client has the one
before, "to the last" being the median time of that; of four, likewise. A push is one POST for
one user, by 8 callers at once; at 2,000 a second latencies count from when the push was due to
when the client has it. In a storm all clients come back at once, up to 4,000 under way, after
they were dropped.

The naive handler and the plain server are the same code, bench/peers/obvious: a goroutine that
reads for each connection, and ` + "`Conn.Write`" + ` in a loop without a time limit. Caddy's log of requests
to its admin API is off, as the other servers log no requests either. Centrifuge answers a push
before it delivers it, and has no ping from clients: an empty call stands for it.
`

func header(b *strings.Builder, first string, columns []column) {
	fmt.Fprintf(b, "| %s |", first)
	for _, c := range columns {
		fmt.Fprintf(b, " %s |", c.title)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(columns)) + "\n")
}

func ratios(b *strings.Builder, m *measurement) {
	header(b, "compared with", compared)
	for _, s := range servers {
		if !s.whole() || s.name == ours || m.Samples[s.name] == nil {
			continue
		}
		fmt.Fprintf(b, "| %s |", s.title)
		for _, c := range compared {
			fmt.Fprintf(b, " %s |", part(m.Samples.median(ours, c.figure)/m.Samples.median(s.name, c.figure)))
		}
		b.WriteString("\n")
	}
}

// others has the figures that only some servers have.
func others(b *strings.Builder, m *measurement) {
	s := m.Samples
	b.WriteString("| what | |\n|---|---|\n")
	for _, name := range []string{oursTLS, naiveTLS} {
		fmt.Fprintf(b, "| %s: KiB of an idle connection | %s |\n", title(name), stage.Number(s.median(name, idleKiB)))
		fmt.Fprintf(b, "| %s: CPU of a connect, µs | %s |\n", title(name), stage.Number(s.median(name, connectCPU)))
	}
	fmt.Fprintf(b, "| %s: KiB of a connection | %s |\n", title(oursPings), stage.Number(s.median(oursPings, idleKiB)))
	fmt.Fprintf(b, "| %s: CPU of a connection in a second, µs | %s |\n", title(oursPings), stage.Number(s.median(oursPings, idleCPU)))
	fmt.Fprintf(b, "| %s, no ping due: CPU of a connection in a second, µs | %s |\n", title(ours), stage.Number(s.median(ours, idleCPU)))
	fmt.Fprintf(b, "| %s: CPU of a push to one in an ndjson stream, µs | %s |\n", title(ours), stage.Number(s.median(ours, streamCPU)))
	if redis := s.median(nodeWS, "idle.kib_of_each.0"); !math.IsNaN(redis) {
		fmt.Fprintf(b, "| %s: KiB of an idle connection in Node, in Redis | %s, %s |\n", title(nodeWS), stage.Number(s.median(nodeWS, "idle.kib_of_each.1")), stage.Number(redis))
	}
}

func title(name string) string {
	for _, s := range servers {
		if s.name == name {
			return s.title
		}
	}
	return name
}

func verdicts(b *strings.Builder, m *measurement) {
	b.WriteString("| what | compared with | at most | measured | |\n|---|---|---|---|---|\n")
	for _, t := range targets {
		than := ""
		if t.of != "" && t.of != ours {
			than = title(t.of)
		}
		fmt.Fprintf(b, "| %s | %s | %g | %s | %s |\n", t.what, than, t.most, part(t.value(m.Samples)), t.verdict(m.Samples))
	}
}

// part prints a ratio, or a dash if there is none.
func part(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "–"
	}
	return fmt.Sprintf("%.2f", v)
}

// writeDocs writes the report into benchmarks.md, and the chart beside it.
func writeDocs(dir, text, chart string) error {
	return errors.Join(
		stage.WritePart(filepath.Join(dir, "benchmarks.md"), "bench", text),
		os.WriteFile(filepath.Join(dir, "benchmarks.svg"), []byte(chart), 0o644),
	)
}
