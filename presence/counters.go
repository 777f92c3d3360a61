package presence

import "sync"

// counters counts rare things by a label from a closed list.
type counters[K comparable] struct {
	mu sync.Mutex // guards the field below
	n  map[K]int64
}

func (c *counters[K]) add(k K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = make(map[K]int64)
	}
	c.n[k]++
}

func (c *counters[K]) snapshot() map[K]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[K]int64, len(c.n))
	for k, n := range c.n {
		out[k] = n
	}
	return out
}
