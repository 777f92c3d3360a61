package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// used is what a process has used.
type used struct {
	cpu time.Duration // user and system
	rss int64         // resident memory in bytes
}

// clockTick is USER_HZ, which Linux has as 100 for every program.
const clockTick = 10 * time.Millisecond

// usage reads what a process has used from /proc; it is zero if it is gone.
func usage(pid int) used {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return used{}
	}
	// The name, in parentheses, may have spaces.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	number := func(i int) int64 {
		n, _ := strconv.ParseInt(fields[i], 10, 64)
		return n
	}
	const utime, stime, rss = 11, 12, 21
	return used{time.Duration(number(utime)+number(stime)) * clockTick, number(rss) * int64(os.Getpagesize())}
}

// settle waits until the process is idle.
func settle(pid int) {
	const idle, most = 3, 50
	quiet := 0
	for range most {
		before := usage(pid).cpu
		time.Sleep(200 * time.Millisecond)
		if usage(pid).cpu-before > clockTick {
			quiet = 0
		} else if quiet++; quiet == idle {
			return
		}
	}
}
