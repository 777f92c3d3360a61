package socket

import (
	"testing"
	"unsafe"
)

// TestSizes keeps a connection in the size class of the allocator that it is in:
// there are many of them.
func TestSizes(t *testing.T) {
	if size := unsafe.Sizeof(Conn{}); size > 384 {
		t.Errorf("a Conn has %d bytes, the next size class", size)
	}
}
