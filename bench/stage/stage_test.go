package stage

import (
	"math"
	"slices"
	"testing"
	"time"
)

func TestParseBusy(t *testing.T) {
	const stat = "cpu  100 20 30 4000 500 6 7 8 90 10\ncpu0 1 1 1 1 1 1 1 1 1 1\n"
	if got, want := parseBusy(stat), 1710*time.Millisecond; got != want {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestInsertKeepsTheRest(t *testing.T) {
	const begin = "<!-- make bench writes from here -->\n"
	got, err := insert("before\n"+begin+"old\n"+endMark+"after\n", "bench", "new\n")
	if want := "before\n" + begin + "new\n" + endMark + "after\n"; err != nil || got != want {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{"", begin, endMark, endMark + begin, "<!-- make other writes from here -->\n" + endMark} {
		if _, err := insert(bad, "bench", "new"); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestQuantile(t *testing.T) {
	var times []time.Duration
	for i := range 100 {
		times = append(times, time.Duration(i+1))
	}
	for part, want := range map[float64]time.Duration{0: 1, 0.5: 51, 0.99: 100, 1: 100} {
		if got := Quantile(times, part); got != want {
			t.Errorf("the quantile of %v is %d, want %d", part, got, want)
		}
	}
	if got := Quantile(times[:1], 0.99); got != 1 {
		t.Errorf("of one value it is %d", got)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{9, 1, 2}, 2},
		{[]float64{4, 1, 3, 100}, 3.5},
	} {
		given := slices.Clone(c.values)
		if got := Median(given); got != c.want || !slices.Equal(given, c.values) {
			t.Errorf("of %v it is %v, want %v, and the order is left alone", c.values, got, c.want)
		}
	}
	if got := Median(nil); !math.IsNaN(got) {
		t.Errorf("of nothing it is %v", got)
	}
}
