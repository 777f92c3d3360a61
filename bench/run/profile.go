package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/bench/stage"
)

// profiled are the scenarios of which a profile shows where this module's CPU goes.
var profiled = []string{"heartbeat", "broadcast", "push", "stream"}

// parts are what is looked for in a profile, in which functions it is, and what it
// is called. Parts overlap where one calls the other.
var parts = []struct{ title, function string }{
	{"write(2), read(2) and the like", `^internal/runtime/syscall/linux\.Syscall6$`},
	{"handing a push out, its writes included", `/presence\.handOut$`},
	{"carrying out a frame, its writes included", `/presence\.\(\*Hub\)\.Receive$`},
	{"finding whom a push is for", `/presence\.\(\*Hub\)\.selectMembers$`},
	{"decoding a push", `/presence\.DecodePush$`},
	{"the poller of parked readers", `/socket\.\(\*poller\)\.run$`},
	{"answering an HTTP request", `^net/http\.\(\*response\)\.finishRequest$`},
	{"Go's scheduler and network poller", `^runtime\.schedule$`},
	{"allocating", `^runtime\.mallocgc$`},
	{"collecting garbage", `^runtime\.gcBgMarkWorker$`},
}

// profiles loads this module with each scenario, and returns which part of its CPU
// each of parts has.
func profiles(ctx context.Context, dir string, o options) (map[string]map[string]float64, error) {
	shares := make(map[string]map[string]float64)
	for _, scenario := range profiled {
		share, err := profile(ctx, dir, scenario, o)
		if err != nil {
			return nil, fmt.Errorf("a profile of %s: %w", scenario, err)
		}
		shares[scenario] = share
	}
	return shares, nil
}

// profile takes a profile from the middle of a scenario.
func profile(ctx context.Context, dir, scenario string, o options) (map[string]float64, error) {
	const connecting, length, load = 3 * time.Second, 2 * time.Second, 5 * time.Second
	s := servers[0]
	s.scenarios = scenario
	long := o
	long.time = load
	file := filepath.Join(dir, scenario+".pprof")
	var failed error
	done := make(chan struct{})
	start := s.start
	s.start = func(st *stage.Stage) (*stage.Running, error) {
		r, err := start(st)
		if err == nil {
			go func() {
				defer close(done)
				failed = fetchProfile(ctx, r.Push, file, connecting, length)
			}()
		}
		return r, err
	}
	if _, _, err := turn(ctx, dir, s, long); err != nil {
		return nil, err
	}
	<-done
	if failed != nil {
		return nil, failed
	}
	out, err := stage.Command(ctx, dir, "go", "tool", "pprof", "-top", "-cum", "-nodecount=100000", "-nodefraction=0", filepath.Join(dir, "caddy"), file).Output()
	if err != nil {
		return nil, err
	}
	return readProfile(string(out)), nil
}

// fetchProfile waits until the clients have connected, and asks for a profile.
func fetchProfile(ctx context.Context, admin, file string, after, length time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(after):
	}
	url := fmt.Sprintf("%s/debug/pprof/profile?seconds=%.0f", admin, length.Seconds())
	res, err := http.Get(url)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.200s", res.Status, body)
	}
	return errors.Join(err, os.WriteFile(file, body, 0o600))
}

// profileLine is a function in what pprof prints: its own and its cumulated share.
var profileLine = regexp.MustCompile(`^\s*\S+\s+\S+%\s+\S+%\s+\S+\s+(\S+)%\s+(\S+)`)

// readProfile returns the cumulated shares of parts.
func readProfile(top string) map[string]float64 {
	shares := make(map[string]float64)
	for line := range strings.Lines(top) {
		m := profileLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		for _, p := range parts {
			if regexp.MustCompile(p.function).MatchString(m[2]) {
				percent, _ := strconv.ParseFloat(m[1], 64)
				shares[p.title] += percent / 100
			}
		}
	}
	return shares
}

// profileTable prints where the CPU goes.
func profileTable(b *strings.Builder, m *measurement) {
	if m.Profiles == nil {
		return
	}
	b.WriteString("\n### Where this module's CPU goes\n\nBy profiles of the process; what one part calls is in both.\n\n| part |")
	for _, scenario := range profiled {
		fmt.Fprintf(b, " %s |", scenario)
	}
	b.WriteString("\n|---" + strings.Repeat("|---", len(profiled)) + "|\n")
	for _, p := range parts {
		fmt.Fprintf(b, "| %s |", p.title)
		for _, scenario := range profiled {
			fmt.Fprintf(b, " %.0f %% |", 100*m.Profiles[scenario][p.title])
		}
		b.WriteString("\n")
	}
}
