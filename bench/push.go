package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// maxPushes bounds the pushes of a scenario; a closed loop ends there.
const maxPushes = 1_000_000

// receiver is the user whom a push of this number is for: each time another one.
func (cs *clients) receiver(number int) string {
	return userID(number * 7919 % cs.conns)
}

func (cs *clients) pushOne(number int) error {
	body := fmt.Sprintf(`{"to":{"ids":[%q]},"text":%q}`, cs.receiver(number), text(number, cs.size))
	return cs.post("application/json", strings.NewReader(body))
}

// timed keeps the times of messages while work is done, which returns how many
// were pushed, and fills in what became of them.
func (cs *clients) timed(work func(*arrivals) (int, error)) (result, error) {
	times := newArrivals(maxPushes)
	cs.timing.Store(times)
	defer cs.timing.Store(nil)
	before := cs.received.n.Load()
	pushed, err := work(times)
	if err != nil {
		return result{}, err
	}
	for until := time.Now().Add(patience); cs.received.n.Load()-before < int64(pushed) && time.Now().Before(until); {
		time.Sleep(time.Millisecond)
	}
	took, lost := times.latencies()
	r := result{Ops: pushed, Lost: lost}
	r.spread(took)
	if cs.times != "" {
		err = times.write(cs.times)
	}
	return r, err
}

// pushClosedLoop has a few callers, each of which pushes to one user after the
// other, the next when the push is answered.
func pushClosedLoop(cs *clients) (result, error) {
	const callers = 8
	return cs.timed(func(times *arrivals) (int, error) {
		var next atomic.Int64
		errs := make(chan error, callers)
		until := time.Now().Add(cs.time)
		for range callers {
			go func() {
				var err error
				for err == nil && time.Now().Before(until) {
					number := int(next.Add(1) - 1)
					if number >= maxPushes {
						break
					}
					times.departed(number, time.Now())
					err = cs.pushOne(number)
				}
				errs <- err
			}()
		}
		var first error
		for range callers {
			if err := <-errs; err != nil {
				first = err
			}
		}
		return min(int(next.Load()), maxPushes), first
	})
}

// pushFixedRate pushes to one user after the other at a fixed rate. Latencies count
// from when a push was due, so that a stall is not hidden by pushes that wait for it.
func pushFixedRate(cs *clients) (result, error) {
	const callers = 64
	pushes := min(int(cs.time.Seconds()*float64(cs.rate)), maxPushes)
	return cs.timed(func(times *arrivals) (int, error) {
		due := make(chan int, pushes)
		errs := make([]error, callers)
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				for number := range due {
					if err := cs.pushOne(number); err != nil {
						errs[i] = err
					}
				}
			})
		}
		began := time.Now()
		for number := range pushes {
			at := began.Add(time.Duration(number) * time.Second / time.Duration(cs.rate))
			sleepUntil(at)
			times.departed(number, at)
			due <- number
		}
		close(due)
		wg.Wait()
		for _, err := range errs {
			if err != nil {
				return 0, err
			}
		}
		return pushes, nil
	})
}

// pushStream pushes to one user after the other in a stream of lines, as fast as
// the server takes them, many lines in one write, as any program that reads them
// from a file or a queue does.
func pushStream(cs *clients) (result, error) {
	return cs.timed(func(times *arrivals) (int, error) {
		r, w := io.Pipe()
		pushed := make(chan int, 1)
		go func() {
			number := 0
			lines := bufio.NewWriterSize(w, 16<<10)
			for until := time.Now().Add(cs.time); number < maxPushes && time.Now().Before(until); number++ {
				times.departed(number, time.Now())
				if _, err := fmt.Fprintf(lines, `{"to":{"ids":[%q]},"text":%q}`+"\n", cs.receiver(number), text(number, cs.size)); err != nil {
					break
				}
			}
			_ = lines.Flush()
			_ = w.Close()
			pushed <- number
		}()
		err := cs.post("application/x-ndjson", r)
		_ = r.Close() // lets the writer go if the server did not take all
		return <-pushed, err
	})
}
