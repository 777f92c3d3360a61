package main

import (
	"syscall"
	"time"
)

// sleepUntil sleeps by the kernel's clock: Go's own timers are late by up to a
// millisecond, which would be measured as the server's.
func sleepUntil(at time.Time) {
	for d := time.Until(at); d > 0; d = time.Until(at) {
		left := syscall.NsecToTimespec(int64(d))
		_ = syscall.Nanosleep(&left, nil) // if a signal ends it early, it is begun again
	}
}
