package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// used is what processes have used.
type used struct {
	cpu  time.Duration // user and system
	rss  int64         // resident memory in bytes
	each []int64       // resident memory of each process
	cpus []time.Duration
}

// eachSince is what each of several processes has used for an op, in microseconds.
func (u used) eachSince(before used, ops int) []float64 {
	if len(u.cpus) < 2 {
		return nil
	}
	each := make([]float64, len(u.cpus))
	for i := range each {
		each[i] = micros(u.cpus[i]-before.cpus[i]) / float64(ops)
	}
	return each
}

// clockTick is USER_HZ, which Linux has as 100 for every program.
const clockTick = 10 * time.Millisecond

// usage reads what processes have used together from /proc; those that are gone
// count nothing.
func usage(pids []int) used {
	var sum used
	for _, pid := range pids {
		var cpu time.Duration
		var rss int64
		if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
			cpu, rss, _ = parseStat(stat)
		}
		sum.cpu += cpu
		sum.rss += rss
		sum.each = append(sum.each, rss)
		sum.cpus = append(sum.cpus, cpu)
	}
	return sum
}

// parseStat takes the CPU time and the resident memory from /proc/PID/stat.
func parseStat(stat []byte) (cpu time.Duration, rss int64, err error) {
	// The name, in parentheses, may have spaces and parentheses: fields are counted
	// behind the last one.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const utime, stime, pages = 11, 12, 21
	if len(fields) <= pages {
		return 0, 0, fmt.Errorf("%d fields in %q", len(fields), stat)
	}
	var n [3]int64
	for i, field := range []int{utime, stime, pages} {
		if n[i], err = strconv.ParseInt(string(fields[field]), 10, 64); err != nil {
			return 0, 0, err
		}
	}
	return time.Duration(n[0]+n[1]) * clockTick, n[2] * int64(os.Getpagesize()), nil
}

// settle waits until the processes are idle.
func settle(pids []int) {
	const idle, most = 3, 50
	quiet := 0
	for range most {
		before := usage(pids).cpu
		time.Sleep(200 * time.Millisecond)
		if usage(pids).cpu-before > clockTick {
			quiet = 0
		} else if quiet++; quiet == idle {
			return
		}
	}
}

// watchPeak looks at the resident memory of processes at short intervals, until
// stop is called, which returns the most there was.
func watchPeak(pids []int) (stop func() int64) {
	done, peak := make(chan struct{}), make(chan int64)
	go func() {
		most := usage(pids).rss
		ticker := time.NewTicker(5 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				most = max(most, usage(pids).rss)
			case <-done:
				peak <- max(most, usage(pids).rss)
				return
			}
		}
	}()
	return func() int64 {
		close(done)
		return <-peak
	}
}
