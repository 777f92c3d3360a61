package socket

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// poller waits for bytes on behalf of connections whose reader is parked. There
// is one for the process. Its epoll descriptor lies in Go's own poller, so that
// waiting blocks no thread.
type poller struct {
	// Static after newPoller.
	file *os.File // keeps fd open
	fd   int
	raw  syscall.RawConn

	mu    sync.Mutex // guards the fields below
	slots []slot
	free  []uint32
}

// slot is a place for a connection. Its generation tells events of an earlier
// connection in the place from those of the present one.
type slot struct {
	conn       *Conn
	generation uint32
}

var startPoller struct {
	sync.Once
	poller *poller
	err    error
}

// thePoller returns the poller, which starts when the first connection parks.
func thePoller() (*poller, error) {
	s := &startPoller
	s.Do(func() { s.poller, s.err = newPoller() })
	return s.poller, s.err
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("creating an epoll descriptor: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("setting up an epoll descriptor: %w", err)
	}
	p := &poller{file: os.NewFile(uintptr(fd), "epoll"), fd: fd}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		return nil, errors.Join(err, p.file.Close())
	}
	go p.run()
	return p, nil
}

// run wakes the readers of connections that have bytes, or have ended. It runs
// as long as the process.
func (p *poller) run() {
	const batch = 256
	events := make([]unix.EpollEvent, batch)
	for {
		n := 0
		err := p.raw.Read(func(fd uintptr) bool {
			var err error
			n, err = unix.EpollWait(int(fd), events, 0)
			return n > 0 || err != nil // or Go's poller waits
		})
		if err != nil {
			return // the descriptor is closed, which nobody does
		}
		for i := range max(n, 0) {
			const end = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
			p.wake(uint32(events[i].Fd), uint32(events[i].Pad), event{true, events[i].Events&end != 0})
		}
	}
}

func (p *poller) wake(index, generation uint32, e event) {
	p.mu.Lock()
	s := p.slots[index]
	p.mu.Unlock()
	if s.conn != nil && s.generation == generation {
		s.conn.unpark(e)
	}
}

// parking is what a connection keeps of the poller. It is owned by the reader.
type parking struct {
	raw        syscall.RawConn // nil if the reader is never parked
	index      uint32
	generation uint32
	registered bool
}

// ticket is what a reader needs to ask for an event. It is taken before the
// connection is parked: from then on its fields may be another reader's.
type ticket struct {
	poller     *poller
	raw        syscall.RawConn
	op         int // 0: nothing has to be asked for
	events     uint32
	index      uint32
	generation uint32
}

// ticket gives the connection a slot, the first time.
func (c *Conn) ticket() (ticket, error) {
	p, err := thePoller()
	if err != nil {
		return ticket{}, err
	}
	t := ticket{poller: p, raw: c.parking.raw, events: unix.EPOLLET}
	if c.raw == nil {
		// TLS reads a record at a time: bytes that came with it are still there.
		t.op, t.events = unix.EPOLL_CTL_MOD, unix.EPOLLONESHOT
	}
	if !c.parking.registered {
		t.op = unix.EPOLL_CTL_ADD
		p.add(c)
	}
	t.index, t.generation = c.parking.index, c.parking.generation
	return t, nil
}

// arm asks for events, beginning with that of bytes that are there: for one, or, if
// all bytes are read before the reader parks, once for all.
func (t ticket) arm() error {
	if t.op == 0 {
		return nil
	}
	var ctlErr error
	err := t.raw.Control(func(fd uintptr) {
		// The descriptor cannot be closed, and be another's, in here.
		ctlErr = unix.EpollCtl(t.poller.fd, t.op, int(fd), &unix.EpollEvent{
			Events: unix.EPOLLIN | unix.EPOLLRDHUP | t.events,
			Fd:     int32(t.index), Pad: int32(t.generation),
		})
	})
	return errors.Join(err, ctlErr)
}

// add gives the connection a slot.
func (p *poller) add(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := &c.parking
	if n := len(p.free); n > 0 {
		k.index = p.free[n-1]
		p.free = p.free[:n-1]
	} else {
		k.index = uint32(len(p.slots))
		p.slots = append(p.slots, slot{})
	}
	s := &p.slots[k.index]
	s.generation++
	s.conn = c
	k.generation, k.registered = s.generation, true
}

// leavePoller gives the slot back. The descriptor is closed, so epoll has
// forgotten it.
func (c *Conn) leavePoller() {
	if !c.parking.registered {
		return
	}
	p, err := thePoller()
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slots[c.parking.index].conn = nil
	p.free = append(p.free, c.parking.index)
	c.parking.registered = false
}
