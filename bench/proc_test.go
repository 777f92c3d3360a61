package main

import (
	"os"
	"runtime"
	"slices"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	const fields = " S 1 2 3 4 5 6 7 8 9 10 250 50 13 14 15 16 17 18 19 20 512 22 23\n"
	for _, name := range []string{"(caddy)", "(a b)", "(tmux: (1) 9)"} {
		cpu, rss, err := parseStat([]byte("4711 " + name + fields))
		if want := 3 * time.Second; err != nil || cpu != want {
			t.Errorf("%s: %v of CPU, %v, want %v", name, cpu, err, want)
		}
		if want := 512 * int64(os.Getpagesize()); rss != want {
			t.Errorf("%s: %d bytes are resident, want %d", name, rss, want)
		}
	}
	for _, bad := range []string{"", "1 (x) S 1", "1 (x) S 1 2 3 4 5 6 7 8 9 10 x 50 13 14 15 16 17 18 19 20 512"} {
		if _, _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestUsageAddsUp(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	const none = 1 << 30 // is no process
	u := usage([]int{os.Getpid(), none})
	if u.rss == 0 || len(u.each) != 2 || u.each[0] != u.rss || u.each[1] != 0 {
		t.Errorf("this process uses %+v", u)
	}
}

func TestEachProcessHasItsShare(t *testing.T) {
	before := used{cpus: []time.Duration{time.Second, 0}}
	after := used{cpus: []time.Duration{2 * time.Second, 3 * time.Second}}
	if got := after.eachSince(before, 1_000_000); !slices.Equal(got, []float64{1, 3}) {
		t.Errorf("%v, want 1 and 3 µs", got)
	}
	if got := (used{cpus: after.cpus[:1]}).eachSince(used{cpus: before.cpus[:1]}, 1); got != nil {
		t.Errorf("of one process it is %v", got)
	}
}
