package stage

import (
	"math"
	"slices"
	"time"
)

// Quantile returns the smallest of the sorted times that so large a part of them
// does not exceed. There must be one.
func Quantile(times []time.Duration, part float64) time.Duration {
	i := int(part * float64(len(times)))
	return times[min(i, len(times)-1)]
}

// Median is the middle one of values, or the mean of the two in the middle; it is
// not a number if there is none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}
