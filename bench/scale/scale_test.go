package main

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/seed-57c14f3c/caddy-presence/bench/stage"
	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore"
	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore/redistest"
)

func TestParseInfo(t *testing.T) {
	const text = "# CPU\r\nused_cpu_sys:1.500000\r\nused_cpu_user:2.250000\r\n\r\n# Memory\r\nused_memory:4096\r\nused_memory_human:4K\r\n"
	s, err := parseInfo(text, time.Now())
	if err != nil || s.cpu != 3750*time.Millisecond || s.memory != 4096 {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := parseInfo("used_cpu_sys:1\r\nused_memory:1\r\n", time.Now()); err == nil {
		t.Error("half of the CPU is taken for all")
	}
}

// TestFill fills a real Redis, and reads what was printed as the command does.
func TestFill(t *testing.T) {
	const count = 300
	address := redistest.Start(t).Addr
	store, err := redisstore.New(redisstore.Config{URLs: []string{"redis://" + address}}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Shutdown(t.Context()) }()
	redis := connectTo(address, 0)
	defer redis.client.Close()
	var out bytes.Buffer
	f := &filler{ctx: t.Context(), redis: redis, store: store, members: count, out: &out}
	if err := f.run(); err != nil {
		t.Fatal(err)
	}
	if n, err := store.Count(t.Context(), hub, "driver"); n != count || err != nil {
		t.Errorf("%d members are left, %v, want %d", n, err, count)
	}
	if _, err := readFill(bufio.NewScanner(bytes.NewReader(out.Bytes()))); err == nil {
		t.Error("it is taken for ready before it says so")
	}
	out.WriteString(`{"scenario":"ready"}` + "\n")
	r, err := readFill(bufio.NewScanner(&out))
	if err != nil || r.Members != count || r.Bytes < float64(len(memberJSON(0))) || r.Seconds <= 0 {
		t.Errorf("%+v, %v", r, err)
	}
	for _, row := range rows {
		if _, ok := r.Redis[row.name]; !ok {
			t.Errorf("%q is not measured", row.name)
		}
	}
}

func TestTheLastProcessIsRedis(t *testing.T) {
	lines, err := stage.ParseLines([]byte(`{"scenario":"push","cpu_us_of_each":[100,50,7],"per_second":9,"lost":2}
{"scenario":"push","cpu_us_of_each":[200,50,9],"per_second":3,"lost":0}
{"scenario":"push","cpu_us_of_each":[90,10,5],"per_second":12,"lost":1}
`))
	if err != nil {
		t.Fatal(err)
	}
	r := nodesResult{Nodes: 2}
	r.take(lines)
	if r.NodesOf["push"] != 150 || r.RedisOf["push"] != 7 || r.Figures["push.per_second"] != 9 || r.Lost != 3 {
		t.Errorf("%+v", r)
	}
}

func TestFindEnd(t *testing.T) {
	const log = "plain text\n" +
		`{"level":"info","ts":100.5,"logger":"presence","msg":"a node is gone: its members are out","removed":0,"took":0.1}` + "\n" +
		`{"level":"info","ts":200.5,"logger":"presence","msg":"a node is gone: its members are out","node":"x","removed":9,"took":1.5}` + "\n"
	end, ok := findEnd(log)
	if want := (reaping{time.UnixMilli(200_500), 1500 * time.Millisecond, 9}); !ok || !end.at.Equal(want.at) || end.took != want.took || end.removed != 9 {
		t.Errorf("%+v, %v", end, ok)
	}
	if _, ok := findEnd(log[:150]); ok {
		t.Error("a node without members is taken for the one that was killed")
	}
}

func TestPushesBetweenTimes(t *testing.T) {
	var text strings.Builder
	for i := range 100 {
		fmt.Fprintf(&text, "%d %d\n", 1_000_000+i, (i+1)*10)
	}
	text.WriteString("1000050 0\n")
	pushes, err := parseTimes(text.String())
	if err != nil {
		t.Fatal(err)
	}
	all := pushes.between(time.UnixMicro(0), time.UnixMicro(2_000_000))
	if want := (quantiles{101, 1, 510 * time.Microsecond, time.Millisecond, time.Millisecond}); all != want {
		t.Errorf("%+v, want %+v", all, want)
	}
	if some := pushes.between(time.UnixMicro(1_000_010), time.UnixMicro(1_000_019)); some.Pushes != 10 || some.Max != 200*time.Microsecond {
		t.Errorf("of ten they are %+v", some)
	}
	if none := pushes.between(time.UnixMicro(0), time.UnixMicro(1)); none != (quantiles{}) {
		t.Errorf("of none they are %+v", none)
	}
	if _, err := parseTimes("1 x\n"); err == nil {
		t.Error("a line without numbers is taken")
	}
}

func TestCPUBeyondTheOrdinary(t *testing.T) {
	began := time.Unix(1000, 0)
	at := func(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }
	var w watched
	for i := range 21 { // a tenth of a core, then a half
		cpu := min(i, 10)*100 + max(0, i-10)*500
		w.samples = append(w.samples, sample{at: at(i), cpu: time.Duration(cpu) * time.Millisecond})
	}
	if got := w.beyond(at(0), at(10), at(12), at(17)); math.Abs(got-2e6) > 1 {
		t.Errorf("%v µs, want two seconds", got)
	}
}

func TestSlots(t *testing.T) {
	// What CLUSTER KEYSLOT says.
	for tag, want := range map[string]int{"123456789": 12739, "foo": 12182, "": 0} {
		if got := slot(tag); got != want {
			t.Errorf("%q is in slot %d, want %d", tag, got, want)
		}
	}
	for masters, least := range map[int]float64{1: 1, 3: 1, 12: 1} {
		if got := imbalance(masters); got < least || got > 2 || masters == 1 && got != 1 {
			t.Errorf("of %d masters the busiest has %v times the mean", masters, got)
		}
	}
}

func TestThousands(t *testing.T) {
	for _, c := range []struct {
		v      float64
		digits int
		want   string
	}{{0, 2, "0"}, {7, 2, "7"}, {999.6, 9, "1,000"}, {1234567, 9, "1,234,567"}, {1234567, 2, "1,200,000"}, {98765, 2, "99,000"}, {math.NaN(), 2, "–"}} {
		if got := thousands(c.v, c.digits); got != c.want {
			t.Errorf("%v is %q, want %q", c.v, got, c.want)
		}
	}
}

// example has a cost of 10 µs for everything.
func example() *measurement {
	ten := map[string]float64{"push": 10, "stream": 10, "pushrate": 20}
	fill := map[string]float64{}
	for _, row := range rows {
		fill[row.name] = 10
	}
	return &measurement{
		Nodes: []*nodesResult{{Nodes: 1, RedisOf: ten, NodesOf: ten}, {Nodes: 4, Idle: 4000, RedisOf: ten, NodesOf: ten, Figures: map[string]float64{"push.per_second": 4711}}},
		Fills: []*fillResult{{Members: 100_000, Bytes: 400, Seconds: 10, Redis: fill}, {Members: 1_000_000, Bytes: 300, Seconds: 50, Redis: fill}},
		Reap:  &reapResult{Members: 100_000, Removed: 100_000, Took: 1500 * time.Millisecond, PerMember: 10},
	}
}

func TestPlanAddsUp(t *testing.T) {
	const benchmarks = "| this module | 4.33 | 108 | 17.0 | 8.5 |\n| this module, TLS: KiB of an idle connection | 10 |\n| this module, TLS: CPU of a connect, µs | 400 |\n"
	p, err := newPlan(example(), benchmarks)
	if err != nil {
		t.Fatal(err)
	}
	if p.nodes != 55 || p.nodeBeat != 17 || p.connection != 10*1024 || p.nodeConnect != 400 || p.memory != 4.5e9 {
		t.Errorf("%+v", p)
	}
	// 5,555 opens and as many losses, 33,333 pushes, 6,666 who come back, at 10 µs;
	// 55 nodes at a millisecond.
	if got, want := cores(p.redis), (2*5555+33333+6666)*10/1e6+0.055; math.Abs(got-want) > 1e-6 {
		t.Errorf("%v cores, want %v", got, want)
	}
	if p.masters != 1 || p.busiest(1) > busy {
		t.Errorf("%d masters", p.masters)
	}
	if dear := p.costly(); dear.push != 20 || cores(dear.redis) <= cores(p.redis) || dear.carried() >= p.carried() {
		t.Errorf("with dear pushes: %+v", dear)
	}
	for _, byInbox := range []bool{false, true} {
		p.redis = []load{{"more", 1e6, 1, byInbox}}
		if one, three := p.busiest(1), p.busiest(3); one != 1 || three <= one/3 || three > 1 {
			t.Errorf("one master has %v cores to do, the busiest of three %v", one, three)
		}
	}
	if _, err := newPlan(example(), "nothing"); err == nil {
		t.Error("figures are made up that the benchmarks do not have")
	}
}

func TestReport(t *testing.T) {
	benchmarks, err := os.ReadFile("../../docs/benchmarks.md")
	if err != nil {
		t.Fatal(err)
	}
	m := example()
	p, err := newPlan(m, string(benchmarks))
	if err != nil {
		t.Fatal(err)
	}
	text := report(m, p)
	for _, want := range []string{
		"| 4 | 4.7k |", "| Redis CPU, µs | at 100,000 members | at 1,000,000 members |", "| **memory of a member**, B | 400 | 300 |",
		"out took **1.5 s**", "| opens | 10.0 | 60,000 |", "plan for 10,000,000 users", "| together |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q:\n%s", want, text)
		}
	}
	columns := 0
	for line := range strings.Lines(text) {
		n := strings.Count(line, "|")
		if strings.Contains(line, "NaN") || strings.Contains(line, "%!") || n > 0 && columns > 0 && n != columns {
			t.Errorf("%q", line)
		}
		columns = n
	}
}
