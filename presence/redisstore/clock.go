package redisstore

import (
	"math"
	"sync"
	"time"
)

// clock estimates Redis's clock, so that it does not matter what the clocks of
// nodes show.
type clock struct {
	mu     sync.Mutex // guards the fields below
	known  bool
	offset int64         // Redis's milliseconds minus ours
	rtt    time.Duration // of the call that gave the offset: the shorter, the better
	taken  time.Time
	last   int64 // the last time that next gave
}

// sampleLife is how long a good sample is kept: clocks drift.
const sampleLife = 30 * time.Second

// learn takes note of what Redis's clock showed during a call.
func (c *clock) learn(redisMilli int64, began time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	rtt := time.Since(began)
	if c.known && rtt > c.rtt && time.Since(c.taken) < sampleLife {
		return
	}
	middle := began.Add(rtt / 2)
	c.known, c.offset, c.rtt, c.taken = true, redisMilli-milli(middle), rtt, middle
}

// forget makes the next sample count, whatever it is.
func (c *clock) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rtt = math.MaxInt64
}

func (c *clock) isKnown() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known
}

// now is what Redis's clock shows now.
func (c *clock) now() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return milli(time.Now()) + c.offset
}

// atLeast is a time that Redis's clock has reached: who is offline by it is so for
// the scripts too.
func (c *clock) atLeast() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return milli(time.Now()) + c.offset - min(c.rtt, time.Second).Milliseconds()/2 - 1
}

// next is now, but later than all times that it gave before.
func (c *clock) next() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = max(c.last+1, milli(time.Now())+c.offset)
	return c.last
}

var processStart = time.Now()

// milli counts by the monotonic clock, which nobody sets.
func milli(t time.Time) int64 {
	return processStart.UnixMilli() + t.Sub(processStart).Milliseconds()
}
