package socket

import "testing"

// WithoutParking makes readers wait in Read during a test, which must not run
// beside others.
func WithoutParking(t *testing.T) {
	waiting.Store(true)
	t.Cleanup(func() { waiting.Store(false) })
}
