package socket

import "testing"

func TestTrimDue(t *testing.T) {
	trimming.last, trimming.seen, trimming.steady = 0, 0, 0
	at := ticks(0)
	step := func(n int64, after ticks) bool {
		at += after
		return trimDue(at, n)
	}
	for i, s := range []struct {
		conns int64
		after ticks
		due   bool
	}{
		{0, 10_000, false},
		{4000, 1000, false}, // a storm
		{9000, 1000, false},
		{9000, 1000, false}, // not steady yet
		{9010, 1500, true},  // steady, but for a few
		{9010, 10_000, false},
		{9900, 10_000, false}, // a tenth more
		{9900, 10_000, false},
		{3000, 10_000, false}, // most are gone
		{3000, 5000, true},
		{100, 1000, false},
		{100, 5000, true},
		{900, 1000, false}, // few
		{900, 5000, false},
	} {
		if got := step(s.conns, s.after); got != s.due {
			t.Errorf("step %d, %d connections: %v, want %v", i, s.conns, got, s.due)
		}
	}
}
