package main

import "math"

// target is what a figure of this module should not exceed.
type target struct {
	what   string
	server string // ours, or a variant of it
	figure string
	of     string  // the server whose figure it is a part of; "" for an absolute figure
	than   string  // that server's figure, if it is another
	most   float64 // in the figure's unit, or as a part
}

// Figures, by scenario and field.
const (
	idleKiB       = "idle.kib_per_conn"
	idleCPU       = "idle.cpu_us_per_conn_second"
	connectCPU    = "connect.cpu_us_per_op"
	heartbeatCPU  = "heartbeat.cpu_us_per_op"
	broadcastCPU  = "broadcast.cpu_us_per_op"
	broadcastLast = "broadcast.p50_us"
	broadcast4CPU = "broadcast4.cpu_us_per_op"
	pushCPU       = "push.cpu_us_per_op"
	pushPerSecond = "push.per_second"
	streamCPU     = "stream.cpu_us_per_op"
	ratedP50      = "pushrate.p50_us"
	ratedP99      = "pushrate.p99_us"
	ratedMax      = "pushrate.max_us"
	stormSeconds  = "storm.seconds"
	stormPeak     = "storm.peak_kib_per_conn"
)

var targets = []target{
	{what: "KiB of an idle connection", server: ours, figure: idleKiB, most: 6},
	{what: "KiB of an idle connection, TLS", server: oursTLS, figure: idleKiB, most: 18},
	{what: "memory of an idle connection", server: ours, figure: idleKiB, of: naive, most: 0.15},
	{what: "memory of an idle connection", server: ours, figure: idleKiB, of: nodeWS, most: 1},
	{what: "CPU of a delivery, one broadcast after the other", server: ours, figure: broadcastCPU, of: plain, most: 0.85},
	{what: "CPU of a delivery, one broadcast after the other", server: ours, figure: broadcastCPU, of: naive, most: 0.85},
	{what: "CPU of a delivery, one broadcast after the other", server: ours, figure: broadcastCPU, of: centrifuge, most: 0.6},
	{what: "CPU of a delivery, four broadcasts under way", server: ours, figure: broadcast4CPU, of: plain, most: 0.35},
	{what: "CPU of a delivery, four broadcasts under way", server: ours, figure: broadcast4CPU, of: naive, most: 0.35},
	{what: "CPU of a heartbeat", server: ours, figure: heartbeatCPU, of: naive, most: 0.8},
	{what: "CPU of a push to one", server: ours, figure: pushCPU, of: centrifuge, most: 0.8},
	{what: "CPU of a push in an ndjson stream, against a POST of its own", server: ours, figure: streamCPU, of: ours, than: pushCPU, most: 0.25},
}

// value is the figure that the target is about.
func (t target) value(s samples) float64 {
	value := s.median(t.server, t.figure)
	if t.of == "" {
		return value
	}
	than := t.figure
	if t.than != "" {
		than = t.than
	}
	return value / s.median(t.of, than)
}

// verdict says whether the target is met.
func (t target) verdict(s samples) string {
	switch value := t.value(s); {
	case math.IsNaN(value):
		return "not measured"
	case value <= t.most:
		return "met"
	default:
		return "**missed**"
	}
}
