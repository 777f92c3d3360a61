package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/bench/stage"
)

// A pushed text begins with a mark, by which it is known again whatever a server
// wraps around it: a sign that nothing else holds, and the push's number.
const (
	markSign = '#'
	markSize = 1 + 8
)

// text is a pushed message of so many bytes.
func text(number, size int) string {
	mark := fmt.Sprintf("%c%08d", markSign, number)
	return mark + strings.Repeat("x", size-len(mark))
}

// findMarks returns the numbers of the pushes that a message holds.
func findMarks(message []byte) []int {
	var numbers []int
	for {
		at := bytes.IndexByte(message, markSign)
		if at < 0 || len(message) < at+markSize {
			return numbers
		}
		if number, err := strconv.Atoi(string(message[at+1 : at+markSize])); err == nil {
			numbers = append(numbers, number)
		}
		message = message[at+markSize:]
	}
}

// counter counts, and tells when a goal is reached.
type counter struct {
	n       atomic.Int64
	goal    atomic.Int64
	reached atomic.Pointer[chan time.Time]
}

func (c *counter) add(k int) {
	if k == 0 {
		return
	}
	n, goal := c.n.Add(int64(k)), c.goal.Load()
	if n >= goal && n-int64(k) < goal {
		if reached := c.reached.Load(); reached != nil {
			*reached <- time.Now()
		}
	}
}

// expect sets the goal to so many more. The function that it returns waits until
// they are there, and returns when that was, and how many are missing if it takes
// too long.
func (c *counter) expect(k int) (await func() (time.Time, int)) {
	reached := make(chan time.Time, 1)
	goal := c.n.Load() + int64(k)
	c.reached.Store(&reached)
	c.goal.Store(goal)
	return func() (time.Time, int) {
		select {
		case at := <-reached:
			return at, 0
		case at := <-time.After(patience):
			return at, max(0, int(goal-c.n.Load()))
		}
	}
}

// arrivals has when the message of each number was sent and came.
type arrivals struct {
	began      time.Time
	sent, came []atomic.Int64 // nanoseconds; 0 is never
}

func newArrivals(most int) *arrivals {
	return &arrivals{time.Now(), make([]atomic.Int64, most), make([]atomic.Int64, most)}
}

func (a *arrivals) departed(number int, at time.Time) {
	a.sent[number].Store(int64(at.Sub(a.began)))
}

func (a *arrivals) arrived(numbers []int) {
	at := int64(time.Since(a.began))
	for _, number := range numbers {
		if number < len(a.came) {
			a.came[number].Store(at)
		}
	}
}

// latencies returns how long the messages took that came, and how many did not.
func (a *arrivals) latencies() (took []time.Duration, lost int) {
	for i := range a.sent {
		sent, came := a.sent[i].Load(), a.came[i].Load()
		switch {
		case sent == 0:
		case came == 0:
			lost++
		default:
			took = append(took, time.Duration(came-sent))
		}
	}
	return took, lost
}

// write puts the times of all messages into a file.
func (a *arrivals) write(file string) error {
	var b bytes.Buffer
	for i := range a.sent {
		sent, came := a.sent[i].Load(), a.came[i].Load()
		if sent == 0 {
			continue
		}
		took := int64(0)
		if came > 0 {
			took = max(1, (came-sent)/int64(time.Microsecond))
		}
		fmt.Fprintf(&b, "%d %d\n", a.began.Add(time.Duration(sent)).UnixMicro(), took)
	}
	return os.WriteFile(file, b.Bytes(), 0o600)
}

// spread fills in the quantiles of times.
func (r *result) spread(times []time.Duration) {
	if len(times) == 0 {
		return
	}
	slices.Sort(times)
	r.P50Micros = micros(stage.Quantile(times, 0.5))
	r.P99Micros = micros(stage.Quantile(times, 0.99))
	r.MaxMicros = micros(times[len(times)-1])
}
