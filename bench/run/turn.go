package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/bench/stage"
)

// turnLimit is how long a server may have, so that one that hangs does not take
// all time there is.
const turnLimit = 90 * time.Second

// turn starts a server, loads it, and ends it. It also returns what CPU time server
// and clients used.
func turn(ctx context.Context, programs string, s server, o options) ([]stage.Line, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, turnLimit)
	defer cancel()
	dir, err := os.MkdirTemp(programs, "turn")
	if err != nil {
		return nil, 0, err
	}
	r, err := s.start(&stage.Stage{Ctx: ctx, Programs: programs, Dir: dir})
	var out []byte
	var clients time.Duration
	if err == nil {
		out, clients, err = loadServer(ctx, filepath.Join(programs, "bench"), s, r, o)
	}
	cpu := r.Stop() + clients
	if err != nil {
		return nil, cpu, fmt.Errorf("%w\n%s", err, r.Log())
	}
	lines, err := stage.ParseLines(out)
	return lines, cpu, err
}

// loadServer runs the load generator, and returns what it printed and used.
func loadServer(ctx context.Context, program string, s server, r *stage.Running, o options) ([]byte, time.Duration, error) {
	pids := make([]string, len(r.Cmds))
	for i, cmd := range r.Cmds {
		pids[i] = strconv.Itoa(cmd.Process.Pid)
	}
	codec := s.codec
	if codec == "" {
		codec = ours
	}
	args := []string{
		"-url", r.URL, "-push", r.Push, "-codec", codec, "-pid", strings.Join(pids, ","),
		"-conns", strconv.Itoa(o.conns), "-time", o.time.String(), "-idle", o.idle.String(),
	}
	cmd := stage.Command(ctx, "", program, append(args, strings.Fields(s.scenarios)...)...)
	var errors bytes.Buffer
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %s", err, &errors)
	}
	return out, stage.CPUOf(cmd), nil
}
