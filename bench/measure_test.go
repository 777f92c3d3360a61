package main

import (
	"slices"
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

func TestQuantile(t *testing.T) {
	var times []time.Duration
	for i := range 100 {
		times = append(times, time.Duration(i+1))
	}
	for part, want := range map[float64]time.Duration{0: 1, 0.5: 51, 0.99: 100, 1: 100} {
		if got := quantile(times, part); got != want {
			t.Errorf("the quantile of %v is %d, want %d", part, got, want)
		}
	}
	if got := quantile(times[:1], 0.99); got != 1 {
		t.Errorf("of one value it is %d", got)
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
}
