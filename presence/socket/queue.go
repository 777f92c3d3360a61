package socket

import (
	"net"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// queue holds what the network did not take, in order. It is guarded by the mu
// of its wire.
type queue struct {
	done  chan struct{} // closed by the flusher when it ends
	items []item
	bytes int // of items, and of the batch being written

	pong int // the place in items of a whole pong that waits, or -1

	full      bool  // a message did not fit, and less than half has left since
	fullSince ticks // when that began
	max       int   // the limit it was held against
}

func newQueue() *queue { return &queue{done: make(chan struct{}), pong: -1} }

type item struct {
	data []byte
	msg  *presence.Message // nil for a control frame
}

func (it *item) settle(ok bool) {
	if it.msg != nil {
		it.msg.Flushed(ok)
	}
}

// fits reports whether n more bytes may wait, and remembers since when not.
func (q *queue) fits(n, limit int) bool {
	if q.bytes+n <= limit {
		return true
	}
	q.max = limit
	if !q.full {
		q.full, q.fullSince = true, now()
	}
	return false
}

// replacePong puts a pong in the place of one that waits. It returns false if none
// does.
func (q *queue) replacePong(frame []byte) bool {
	if q.pong < 0 {
		return false
	}
	it := &q.items[q.pong]
	q.bytes += len(frame) - len(it.data)
	it.data = append([]byte(nil), frame...)
	return true
}

func (q *queue) add(data []byte, m *presence.Message) {
	if m == nil && len(data) > 1 && data[0] == 0x80|opPong && len(data) == 2+int(data[1]) {
		q.pong = len(q.items)
	}
	q.items = append(q.items, item{data, m})
	q.bytes += len(data)
}

// maxBatch bounds what one write to the network carries.
const maxBatch = 64 << 10

// take removes what one write may carry; its bytes count until taken is called.
func (q *queue) take() []item {
	n, size := 0, 0
	for n < len(q.items) && (n == 0 || size+len(q.items[n].data) <= maxBatch) {
		size += len(q.items[n].data)
		n++
	}
	batch := q.items[:n:n]
	q.items = q.items[n:]
	q.pong = max(q.pong-n, -1)
	return batch
}

func (q *queue) taken(batch []item) {
	for i := range batch {
		q.bytes -= len(batch[i].data)
	}
	if q.bytes <= q.max/2 {
		q.full = false
	}
}

// writeBatch writes the frames of a batch as one, waiting as long as it takes,
// and returns how many were written whole.
func writeBatch(c net.Conn, batch []item) (int, error) {
	if len(batch) == 1 {
		if _, err := c.Write(batch[0].data); err != nil {
			return 0, err
		}
		return 1, nil
	}
	size := 0
	for i := range batch {
		size += len(batch[i].data)
	}
	joined := make([]byte, 0, size)
	for i := range batch {
		joined = append(joined, batch[i].data...)
	}
	n, err := c.Write(joined)
	if err == nil {
		return len(batch), nil
	}
	whole := 0
	for whole < len(batch) && n >= len(batch[whole].data) {
		n -= len(batch[whole].data)
		whole++
	}
	return whole, err
}
