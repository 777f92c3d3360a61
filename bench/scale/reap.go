package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/bench/stage"
)

const (
	// defaultLease is that of nodes whose upkeep is measured.
	defaultLease = 10 * time.Second

	// shortLease is that of a node that is killed, so that it is noticed soon.
	shortLease = 3 * time.Second

	// quiet is how long pushes are measured before a node is killed.
	quiet = 5 * time.Second

	// dying is how long it may take until its members are out.
	dying = 18 * time.Second
)

// fillResult is what calls cost among so many members.
type fillResult struct {
	Members int
	Bytes   float64            // of Redis, for a member
	Seconds float64            // for all of them
	Failed  int                // calls that were made again
	Redis   map[string]float64 // CPU of Redis for a member, by what was done, in µs
}

// reapResult is how the members of a node that was killed were taken out.
type reapResult struct {
	Members   int
	Removed   int
	Took      time.Duration // from the claim to its end
	Noticed   time.Duration // from the kill to the claim
	Rate      int           // pushes a second meanwhile
	Before    quantiles     // of pushes before the kill
	Meanwhile quantiles     // of those that were made while members were taken out
	PerMember float64       // CPU of Redis for a member, in µs
}

// quantiles are of how long pushes took.
type quantiles struct {
	Pushes, Lost  int
	P50, P99, Max time.Duration
}

// members is a process that holds members.
type members struct {
	cmd   *exec.Cmd
	stdin io.Closer // its end ends the process
	lines *bufio.Scanner
	log   bytes.Buffer
}

// fillFrom starts a process that fills Redis, and returns when it has.
func fillFrom(ctx context.Context, redis *server, count int, lease time.Duration) (*members, *fillResult, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	m := &members{cmd: stage.Command(ctx, "", program, "-fill", strconv.Itoa(count), "-redis", redis.address, "-lease", lease.String())}
	m.cmd.Stderr = &m.log
	stdin, err := m.cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	stdout, err := m.cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	m.stdin, m.lines = stdin, bufio.NewScanner(stdout)
	if err := m.cmd.Start(); err != nil {
		return nil, nil, err
	}
	result, err := readFill(m.lines)
	if err != nil {
		m.kill()
		return nil, nil, fmt.Errorf("filling: %w\n%s", err, &m.log)
	}
	return m, result, nil
}

// kill ends the process as a crash would. It returns what CPU time it used.
func (m *members) kill() time.Duration {
	_ = m.cmd.Process.Kill()
	_ = m.cmd.Wait()
	_ = m.stdin.Close()
	return stage.CPUOf(m.cmd)
}

// readFill reads what the process prints, until it is ready.
func readFill(lines *bufio.Scanner) (*fillResult, error) {
	r := &fillResult{Redis: map[string]float64{}}
	for lines.Scan() {
		parsed, err := stage.ParseLines(lines.Bytes())
		if err != nil {
			return nil, err
		}
		for _, l := range parsed {
			switch l.Scenario {
			case "ready":
				r.Seconds, r.Failed = float64(r.Members)/r.Seconds, int(l.Numbers["failed"])
				return r, nil
			case "fill":
				r.Members, r.Bytes = int(l.Numbers["members"]), l.Numbers["bytes"]
			case "open":
				r.Seconds = l.Numbers["per_second"]
			}
			if cpu, ok := l.Numbers["redis_us"]; ok {
				r.Redis[l.Scenario] = cpu
			}
		}
	}
	return nil, errors.Join(errors.New("it ended"), lines.Err())
}

// measureReap kills a node with many members while pushes go on at a fixed rate.
func measureReap(ctx context.Context, programs string, count int, o options) (*fillResult, *reapResult, time.Duration, error) {
	c, err := startCluster(ctx, programs, 2, shortLease)
	var filled *fillResult
	var reaped *reapResult
	var cpu time.Duration
	if err == nil {
		var m *members
		if m, filled, err = fillFrom(ctx, c.redis, count, shortLease); err == nil {
			reaped, cpu, err = c.reap(ctx, m, o)
		}
	}
	cpu += c.stop()
	if err != nil {
		err = fmt.Errorf("a node with %d members: %w\n%s", count, err, c.log())
	} else {
		reaped.Members = count
	}
	return filled, reaped, cpu, err
}

// reap kills the process of the members, and measures what becomes of pushes until
// they are out. It also returns what CPU time the load and the process used.
func (c *cluster) reap(ctx context.Context, m *members, o options) (_ *reapResult, used time.Duration, err error) {
	defer func() { used += m.kill() }()
	file := filepath.Join(c.stage.Dir, "times")
	cmd := stage.Command(ctx, "", filepath.Join(c.stage.Programs, "bench"),
		c.load(o, []string{"-time", (quiet + dying).String(), "-times", file}, "pushrate")...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, used, err
	}
	if err := cmd.Start(); err != nil {
		return nil, used, err
	}
	// Its first line says that the clients are connected.
	if !bufio.NewScanner(out).Scan() {
		return nil, used, errors.Join(errors.New("the load generator ended"), cmd.Wait())
	}
	began := time.Now()
	w, err := c.killMeanwhile(ctx, m)
	if err == nil {
		_, err = io.Copy(io.Discard, out)
	} else {
		_ = cmd.Process.Kill()
	}
	if err = errors.Join(err, cmd.Wait()); err != nil {
		return nil, used, err
	}
	used += stage.CPUOf(cmd)
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, used, err
	}
	pushes, err := parseTimes(string(text))
	if err != nil {
		return nil, used, err
	}
	claim := w.end.at.Add(-w.end.took)
	r := &reapResult{
		Removed: w.end.removed, Took: w.end.took, Noticed: claim.Sub(w.killed), Rate: o.rate,
		Before: pushes.between(began, w.killed), Meanwhile: pushes.between(claim, w.end.at),
		PerMember: w.beyond(began, w.killed, claim, w.end.at) / float64(w.end.removed),
	}
	if r.Before.Pushes == 0 || r.Meanwhile.Pushes == 0 {
		return nil, used, errors.New("no pushes were made meanwhile")
	}
	return r, used, nil
}

// watched is what Redis had used at many times, when the node was killed, and how
// that ended.
type watched struct {
	samples []sample
	killed  time.Time
	end     reaping
}

// killMeanwhile kills the process after a while, and watches what Redis uses until
// the members are out.
func (c *cluster) killMeanwhile(ctx context.Context, m *members) (watched, error) {
	var w watched
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); ; {
		s, err := c.redis.sample(ctx)
		if err != nil {
			return w, err
		}
		w.samples = append(w.samples, s)
		if w.killed.IsZero() && time.Since(began) > quiet {
			_ = m.cmd.Process.Kill()
			w.killed = time.Now()
		}
		for _, node := range c.nodes {
			if end, ok := findEnd(node.Printed()); ok {
				w.end = end
				return w, nil
			}
		}
		if time.Since(began) > quiet+dying {
			return w, errors.New("its members are not taken out")
		}
		select {
		case <-ctx.Done():
			return w, ctx.Err()
		case <-tick.C:
		}
	}
}

// rate is how much of a core Redis used between two times.
func (w watched) rate(from, to time.Time) float64 {
	inside := slices.DeleteFunc(slices.Clone(w.samples), func(s sample) bool { return s.at.Before(from) || s.at.After(to) })
	if len(inside) < 2 {
		return 0
	}
	first, last := inside[0], inside[len(inside)-1]
	return (last.cpu - first.cpu).Seconds() / last.at.Sub(first.at).Seconds()
}

// beyond is the CPU in µs that Redis used between two times, beyond what it uses
// ordinarily.
func (w watched) beyond(ordinaryFrom, ordinaryTo, from, to time.Time) float64 {
	return (w.rate(from, to) - w.rate(ordinaryFrom, ordinaryTo)) * micros(to.Sub(from))
}

// reaping is what a node says when the members of another one are out.
type reaping struct {
	at      time.Time
	took    time.Duration
	removed int
}

// findEnd looks for it in the node's log.
func findEnd(log string) (reaping, bool) {
	for line := range strings.Lines(log) {
		var entry struct {
			Msg     string
			Ts      float64 // Unix seconds
			Took    float64 // seconds
			Removed int
		}
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "a node is gone: its members are out" && entry.Removed > 0 {
			return reaping{time.UnixMicro(int64(entry.Ts * 1e6)), time.Duration(entry.Took * float64(time.Second)), entry.Removed}, true
		}
	}
	return reaping{}, false
}

// pushTimes are when pushes were made, and how long they took; 0 is a lost one.
type pushTimes []struct {
	at   time.Time
	took time.Duration
}

// parseTimes reads what the load generator has written.
func parseTimes(text string) (pushTimes, error) {
	var times pushTimes
	for line := range strings.Lines(text) {
		var at, took int64
		if _, err := fmt.Sscanf(line, "%d %d\n", &at, &took); err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		times = append(times, struct {
			at   time.Time
			took time.Duration
		}{time.UnixMicro(at), time.Duration(took) * time.Microsecond})
	}
	return times, nil
}

// between are the quantiles of the pushes that were made between two times.
func (p pushTimes) between(from, to time.Time) quantiles {
	var q quantiles
	var took []time.Duration
	for _, push := range p {
		switch {
		case push.at.Before(from) || push.at.After(to):
		case push.took == 0:
			q.Lost++
		default:
			took = append(took, push.took)
		}
	}
	q.Pushes = len(took) + q.Lost
	if len(took) == 0 {
		return q
	}
	slices.Sort(took)
	q.P50, q.P99, q.Max = stage.Quantile(took, 0.5), stage.Quantile(took, 0.99), took[len(took)-1]
	return q
}
