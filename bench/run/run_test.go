package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/seed-57c14f3c/caddy-presence/bench/stage"
)

func TestParseLines(t *testing.T) {
	lines, err := stage.ParseLines([]byte(`{"scenario":"idle","kib_per_conn":5.5,"kib_of_each":[1,4.5],"lost":0}` + "\n" + `{"scenario":"push","lost":2}` + "\n"))
	if err != nil || len(lines) != 2 {
		t.Fatalf("%v, %v", lines, err)
	}
	s := samples{}
	s.add(ours, lines)
	s.add(ours, lines[:1])
	for figure, want := range map[string]float64{"idle.kib_per_conn": 5.5, "idle.kib_of_each.1": 4.5, "push.lost": 2} {
		if got := s.median(ours, figure); got != want {
			t.Errorf("%s is %v, want %v", figure, got, want)
		}
	}
	if len(s[ours]["idle.kib_per_conn"]) != 2 || s.sum(ours, "lost") != 2 {
		t.Errorf("the samples are %v", s)
	}
	if _, err := stage.ParseLines([]byte("panic: no JSON\n")); err == nil {
		t.Error("a line that is no JSON is taken")
	}
}

// TestFiguresAreMeasured sees that what is reported belongs to a scenario that the
// server has.
func TestFiguresAreMeasured(t *testing.T) {
	has := func(name, figure string) {
		scenario, _, _ := strings.Cut(figure, ".")
		i := slices.IndexFunc(servers, func(s server) bool { return s.name == name })
		if i < 0 || scenario != "connect" && !slices.Contains(strings.Fields(servers[i].scenarios), scenario) {
			t.Errorf("%s does not have %s", name, figure)
		}
	}
	for _, target := range targets {
		has(target.server, target.figure)
		if target.than != "" {
			has(target.of, target.than)
		} else if target.of != "" {
			has(target.of, target.figure)
		}
	}
	for _, c := range slices.Concat(columns, compared, panels) {
		for _, s := range servers {
			if s.whole() {
				has(s.name, c.figure)
			}
		}
	}
}

// example has every figure of every server: 2 for this module, 4 for the others.
func example() *measurement {
	m := &measurement{Conns: 9000, Rounds: 3, Samples: samples{}}
	for _, s := range servers {
		value := 4.0
		if s.name == ours {
			value = 2
		}
		m.Samples[s.name] = map[string][]float64{}
		for _, c := range slices.Concat(columns, []column{{figure: streamCPU}, {figure: idleCPU}, {figure: connectCPU}}) {
			m.Samples[s.name][c.figure] = []float64{value - 1, value, value + 9}
		}
	}
	return m
}

func TestReport(t *testing.T) {
	m := example()
	text := report(m)
	for _, want := range []string{
		"medians of 3 rounds", "none by anyone", "| this module | 2.00 |",
		"| Centrifuge, in memory | 0.50 |",
		"| KiB of an idle connection |  | 6 | 2.00 | met |",
		"| CPU of a delivery, one broadcast after the other | Centrifuge, in memory | 0.6 | 0.50 | met |",
		"| CPU of a delivery, four broadcasts under way | coder/websocket under net/http | 0.35 | 0.50 | **missed** |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q:\n%s", want, text)
		}
	}
	for line := range strings.Lines(text) {
		if strings.Contains(line, "NaN") || strings.HasPrefix(line, "|") && !strings.HasSuffix(line, "|\n") {
			t.Errorf("%q", line)
		}
	}
	delete(m.Samples, centrifuge)
	m.Samples[plain]["storm.lost"] = []float64{0, 3}
	text = report(m)
	if !strings.Contains(text, "not measured") || !strings.Contains(text, "net/http 3.") {
		t.Errorf("neither what is missing nor what was lost is told:\n%s", text)
	}
}

func TestChartIsXML(t *testing.T) {
	text := chart(example())
	bars := 0
	for d := xml.NewDecoder(strings.NewReader(text)); ; {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%v in:\n%s", err, text)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
			bars++
		}
	}
	if want := 1 + 6*len(panels); bars != want {
		t.Errorf("%d rectangles, want %d", bars, want)
	}
}

// TestPeersHaveOurVersions sees that what is compared differs in nothing but this
// module, and that the packages of the server on Node name no registry.
func TestPeersHaveOurVersions(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	theirs := read("../peers/go.mod")
	for _, module := range []string{"github.com/caddyserver/caddy/v2", "github.com/coder/websocket"} {
		line := regexp.MustCompile(regexp.QuoteMeta(module) + ` v\S+`).FindString(read("../../go.mod"))
		if line == "" || !strings.Contains(theirs, line) {
			t.Errorf("bench/peers has not %q", line)
		}
	}
	if strings.Contains(read("../peers/ws/package-lock.json"), `"resolved"`) {
		t.Error("the lock file of bench/peers/ws names a registry")
	}
}

func TestReadProfile(t *testing.T) {
	shares := readProfile(`File: caddy
Showing nodes accounting for 1.37s, 100% of 1.37s total
      flat  flat%   sum%        cum   cum%
     0.55s 40.15% 41.61%      0.55s 40.15%  internal/runtime/syscall/linux.Syscall6
         0     0% 41.61%      0.44s 32.12%  github.com/x/y/presence.handOut
         0     0% 41.61%      0.44s 32.12%  github.com/x/y/presence.handOut.func1
     0.01s  0.73% 42.34%      0.17s 12.41%  net/http.(*response).finishRequest
`)
	got := fmt.Sprintf("%d: %.4f %.4f %.4f", len(shares), shares[parts[0].title], shares[parts[1].title], shares["answering an HTTP request"])
	if want := "3: 0.4015 0.3212 0.1241"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
