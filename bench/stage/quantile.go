package stage

import "time"

// Quantile returns the smallest of the sorted times that so large a part of them
// does not exceed. There must be one.
func Quantile(times []time.Duration, part float64) time.Duration {
	i := int(part * float64(len(times)))
	return times[min(i, len(times)-1)]
}
