package main

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-57c14f3c/caddy-presence/bench/stage"
)

// server is a Redis that was started for one part of the measurement. Its methods
// may be called concurrently.
type server struct {
	client  *redis.Client
	address string
	pid     int
}

// startRedis starts Redis without files, on a port of its own: over TCP, because
// that is how nodes reach it, and a unix socket would cost it less.
func startRedis(s *stage.Stage, r *stage.Running) (*server, error) {
	address := s.Address()
	_, port, _ := strings.Cut(address, ":")
	cmd := stage.Command(s.Ctx, s.Dir, "redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no")
	if err := s.Run(r, cmd, "tcp", address); err != nil {
		return nil, err
	}
	return connectTo(address, cmd.Process.Pid), nil
}

// redisVersion is that of the program, or nothing.
func redisVersion() string {
	out, _ := exec.Command("redis-server", "--version").Output()
	_, version, _ := strings.Cut(string(out), "v=")
	version, _, _ = strings.Cut(version, " ")
	return version
}

// connectTo makes a client of a Redis that runs.
func connectTo(address string, pid int) *server {
	return &server{redis.NewClient(&redis.Options{Addr: address, DisableIdentity: true}), address, pid}
}

// sample is what a Redis had used at some time.
type sample struct {
	at     time.Time
	cpu    time.Duration // user and system
	memory float64       // bytes
}

func (r *server) sample(ctx context.Context) (sample, error) {
	text, err := r.client.Info(ctx, "cpu", "memory").Result()
	if err != nil {
		return sample{}, err
	}
	return parseInfo(text, time.Now())
}

// parseInfo takes a sample from what INFO says.
func parseInfo(text string, at time.Time) (sample, error) {
	values := make(map[string]float64)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			if number, err := strconv.ParseFloat(value, 64); err == nil {
				values[name] = number
			}
		}
	}
	for _, name := range []string{"used_cpu_user", "used_cpu_sys", "used_memory"} {
		if _, ok := values[name]; !ok {
			return sample{}, fmt.Errorf("INFO does not say %s", name)
		}
	}
	cpu := time.Duration((values["used_cpu_user"] + values["used_cpu_sys"]) * float64(time.Second))
	return sample{at, cpu, values["used_memory"]}, nil
}

// cost is the CPU that Redis uses while work is done, and how long that takes.
func (r *server) cost(ctx context.Context, work func() error) (cpu, took time.Duration, err error) {
	before, err := r.sample(ctx)
	if err != nil {
		return 0, 0, err
	}
	if err := work(); err != nil {
		return 0, 0, err
	}
	after, err := r.sample(ctx)
	return after.cpu - before.cpu, after.at.Sub(before.at), err
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
