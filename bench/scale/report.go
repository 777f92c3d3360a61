package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/bench/stage"
)

// report is the part of docs/scaling.md that is measured, and computed from that.
func report(m *measurement, p *plan) string {
	var b strings.Builder
	conditions(&b, m)
	b.WriteString("\n### Pushes to a user on another node\n\n")
	pushes(&b, m)
	b.WriteString("\n### Calls of the store\n\n")
	calls(&b, m)
	fmt.Fprintf(&b, "\n### A node with %s members is killed\n\n", thousands(float64(m.Reap.Members), 9))
	reap(&b, m.Reap)
	p.write(&b)
	return b.String()
}

// conditions tells where, when and how it was measured.
func conditions(b *strings.Builder, m *measurement) {
	fmt.Fprintf(b, "Measured %s in %v at commit %s.\n", m.Began.UTC().Format("2006-01-02 15:04 MST"), m.Took.Round(time.Second), m.Machine.Source)
	fmt.Fprintf(b, "%s, %d virtual cores shared by nodes, Redis and clients, %s of memory, Linux %s,\n%s, Redis %s over loopback TCP.",
		m.Machine.CPU, m.Machine.Cores, m.Machine.Memory, m.Machine.Kernel, m.Machine.Go, m.Redis)
	fmt.Fprintf(b, " Load average %s before, %s after; what does\nnot belong to the measurement used %.2f cores meanwhile.\n",
		m.Machine.LoadBefore, m.Machine.LoadAfter, m.Others)
}

// pushColumns are the figures of pushes: what came of them, and what they cost.
var pushColumns = [][]column{
	{
		{"pushes/s, a POST each", func(n *nodesResult) float64 { return n.Figures["push.per_second"] }},
		{"pushes/s in a stream", func(n *nodesResult) float64 { return n.Figures["stream.per_second"] }},
		{"at the fixed rate: p50, ms", func(n *nodesResult) float64 { return n.Figures["pushrate.p50_us"] / 1000 }},
		{"p99, ms", func(n *nodesResult) float64 { return n.Figures["pushrate.p99_us"] / 1000 }},
		{"max, ms", func(n *nodesResult) float64 { return n.Figures["pushrate.max_us"] / 1000 }},
	},
	{
		{"Redis, a POST each", func(n *nodesResult) float64 { return n.RedisOf["push"] }},
		{"in a stream", func(n *nodesResult) float64 { return n.RedisOf["stream"] }},
		{"at the fixed rate", func(n *nodesResult) float64 { return n.RedisOf["pushrate"] }},
		{"all nodes, a POST each", func(n *nodesResult) float64 { return n.NodesOf["push"] }},
		{"in a stream", func(n *nodesResult) float64 { return n.NodesOf["stream"] }},
		{"at the fixed rate", func(n *nodesResult) float64 { return n.NodesOf["pushrate"] }},
		{"Redis, nothing to do: µs/s", func(n *nodesResult) float64 { return n.Idle }},
	},
}

type column struct {
	title string
	value func(*nodesResult) float64
}

func pushes(b *strings.Builder, m *measurement) {
	fmt.Fprintf(b, legend, m.Conns, m.Rate, m.Rounds)
	for i, columns := range pushColumns {
		b.WriteString([]string{"| nodes |", "\n| nodes: CPU, µs |"}[i])
		for _, c := range columns {
			fmt.Fprintf(b, " %s |", c.title)
		}
		b.WriteString("\n|---" + strings.Repeat("|---", len(columns)) + "|\n")
		for _, n := range m.Nodes {
			fmt.Fprintf(b, "| %d |", n.Nodes)
			for _, c := range columns {
				fmt.Fprintf(b, " %s |", stage.Number(c.value(n)))
			}
			b.WriteString("\n")
		}
	}
	lost := 0.0
	for _, n := range m.Nodes {
		lost += n.Lost
	}
	fmt.Fprintf(b, "\nPushes and connections lost: %.0f.\n", lost)
}

const legend = `The first node is asked; the %d clients are on the others by turns, or on the first if it is alone.
A push has 256 B and is for one user: a POST each by 8 callers at once, one ndjson stream as fast
as it is taken, and POSTs at a fixed rate of %d a second, by which p50 and p99 are measured, from
when a push was due to when its client has it. Medians of %d rounds. All processes share the cores:
pushes/s are what the cores give, not what Redis carries.

`

// rows are what calls are told of, by the name that the process that fills gives them.
var rows = []struct{ title, name string }{
	{"open", "open"},
	{"open that replaces an earlier connection", "replace"},
	{"close", "close"},
	{"close, 64 a script", "close batch"},
	{"lost: a close, lingering, forgotten", "linger"},
	{"look-up of one", "lookup"},
	{"look-up of 100, each", "lookup batch"},
}

func calls(b *strings.Builder, m *measurement) {
	b.WriteString("| Redis CPU, µs |")
	for _, f := range m.Fills {
		fmt.Fprintf(b, " at %s members |", thousands(float64(f.Members), 9))
	}
	b.WriteString("\n|---" + strings.Repeat("|---", len(m.Fills)) + "|\n")
	row := func(title string, value func(*fillResult) float64) {
		fmt.Fprintf(b, "| %s |", title)
		for _, f := range m.Fills {
			fmt.Fprintf(b, " %s |", stage.Number(value(f)))
		}
		b.WriteString("\n")
	}
	for _, r := range rows {
		row(r.title, func(f *fillResult) float64 { return f.Redis[r.name] })
	}
	row("**memory of a member**, B", func(f *fillResult) float64 { return f.Bytes })
	row("opens/s while Redis was filled", func(f *fillResult) float64 { return float64(f.Members) / f.Seconds })
	fmt.Fprintf(b, "\nA member is JSON of %d B. %d callers share the store's 16 connections; what the kernel does for\n"+
		"Redis's sockets is in its CPU.\n", len(memberJSON(100_000)), callers)
	for _, f := range m.Fills {
		if f.Failed > 0 {
			fmt.Fprintf(b, "At %s members %d calls had no answer within a second, and were made again.\n",
				thousands(float64(f.Members), 9), f.Failed)
		}
	}
}

func reap(b *strings.Builder, r *reapResult) {
	fmt.Fprintf(b, "Its lease of %.0f s lapsed, and another node claimed it %.1f s after it was killed (with the default\n"+
		"lease of %.0f s: at most 13 s). Taking its %s members out took **%.1f s**, and %s µs of Redis CPU a\n"+
		"member. Meanwhile %d pushes a second went on between two other nodes:\n\n",
		shortLease.Seconds(), r.Noticed.Seconds(), defaultLease.Seconds(), thousands(float64(r.Removed), 9), r.Took.Seconds(), stage.Number(r.PerMember), r.Rate)
	b.WriteString("| pushes | how many | p50, ms | p99, ms | max, ms | lost |\n|---|---|---|---|---|---|\n")
	for _, row := range []struct {
		title string
		q     quantiles
	}{{"before", r.Before}, {"while members were taken out", r.Meanwhile}} {
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %d |\n", row.title, thousands(float64(row.q.Pushes), 9),
			millis(row.q.P50), millis(row.q.P99), millis(row.q.Max), row.q.Lost)
	}
}

func millis(d time.Duration) string { return stage.Number(micros(d) / 1000) }
