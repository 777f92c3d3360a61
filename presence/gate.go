package presence

import (
	"sync"
	"time"
)

// gate lets a few log lines a second pass for each label: a backend that is down
// would fill the log with one for each frame.
type gate struct {
	mu     sync.Mutex // guards the fields below
	since  time.Time
	passed map[string]int // since then, by label
	silent int            // lines that did not pass since one did
}

const (
	gateRate   = 5
	gateLabels = 1000 // more have to share one: a label may come from a client
)

// pass reports whether a line may be logged, and how many were not before it.
func (g *gate) pass(now time.Time, label string) (silent int, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now.Sub(g.since) >= time.Second {
		g.since, g.passed = now, make(map[string]int)
	}
	if len(g.passed) >= gateLabels {
		label = ""
	}
	if g.passed[label] >= gateRate {
		g.silent++
		return 0, false
	}
	g.passed[label]++
	silent, g.silent = g.silent, 0
	return silent, true
}
