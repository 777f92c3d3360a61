package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMarks(t *testing.T) {
	one, two := text(7, 256), text(99_999_999, markSize)
	if len(one) != 256 || len(two) != markSize {
		t.Errorf("texts have %d and %d bytes", len(one), len(two))
	}
	for message, want := range map[string][]int{
		one: {7},
		`{"push":{"pub":{"data":"` + one + `"}}}` + "\n" + `{"push":{"pub":{"data":"` + two + `"}}}`: {7, 99_999_999},
		"pong":  nil,
		"#1234": nil,
		"":      nil,
	} {
		if got := findMarks([]byte(message)); !slices.Equal(got, want) {
			t.Errorf("%.40s has the marks %v, want %v", message, got, want)
		}
	}
}

func TestCounterTellsWhenAGoalIsReached(t *testing.T) {
	var c counter
	c.add(5) // before anybody asks
	for range 3 {
		await := c.expect(10)
		for _, k := range []int{4, 0, 5, 3} { // two more than were expected
			c.add(k)
		}
		if _, missing := await(); missing != 0 {
			t.Errorf("%d are missing", missing)
		}
	}
}

func TestLostMessagesAreCounted(t *testing.T) {
	a := newArrivals(10)
	for number := range 4 {
		a.departed(number, a.began.Add(time.Duration(number+1)))
	}
	a.arrived([]int{0, 2, 3, 4711})
	took, lost := a.latencies()
	if len(took) != 3 || lost != 1 {
		t.Errorf("%d came and %d are lost, want 3 and 1", len(took), lost)
	}
	file := filepath.Join(t.TempDir(), "times")
	if err := a.write(file); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(file)
	lost = 0
	for line := range strings.Lines(string(text)) {
		var sent, took int64
		if _, err := fmt.Sscanf(line, "%d %d\n", &sent, &took); err != nil || sent < a.began.UnixMicro() {
			t.Errorf("%q: %v", line, err)
		}
		if took == 0 {
			lost++
		}
	}
	if n := strings.Count(string(text), "\n"); n != 4 || lost != 1 {
		t.Errorf("%d lines, of which %d are lost, want 4 and 1", n, lost)
	}
}
