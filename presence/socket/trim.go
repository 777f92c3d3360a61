package socket

import (
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// A storm of connections leaves the heap twice as large as what is idle
// afterwards, and Go keeps that much for the garbage to come. Idle connections
// make none, so the memory is given back once they have come, or gone.

// connected counts the connections of this process.
var connected atomic.Int64

// trimming is the state of giving memory back.
var trimming struct {
	sync.Mutex       // guards the fields below
	last       int64 // connections when memory was given back
	seen       int64 // connections at the last look
	steady     ticks // since when there have been about as many
}

const (
	// trimStep is how many connections more or less make it worth while; it
	// costs a garbage collection.
	trimStep = 1000

	// trimWait is how long their number must have been steady.
	trimWait = 2 * time.Second
)

// trim gives memory back to the system, if the number of connections has changed
// by a quarter and is steady again. It is called at intervals.
func trim(t ticks) {
	if trimDue(t, connected.Load()) {
		go debug.FreeOSMemory()
	}
}

func trimDue(t ticks, n int64) bool {
	s := &trimming
	s.Lock()
	defer s.Unlock()
	if change := abs(n - s.seen); change > trimStep/10 && change > s.seen/100 {
		s.seen, s.steady = n, t
		return false
	}
	change := abs(n - s.last)
	if change < trimStep || change < max(n, s.last)/4 || t.since(s.steady) < trimWait {
		return false
	}
	s.last = n
	return true
}

func abs(n int64) int64 { return max(n, -n) }
