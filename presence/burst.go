package presence

import (
	"runtime"
	"sync"
)

// Burst is several messages that go to the same connections, one behind the
// other. Their frames are joined once for all of them, because a write costs far
// more than what it carries.
type Burst struct {
	// Messages, in their order. It must not be changed.
	Messages []*Message

	plain, deflated joined
}

type joined struct {
	once   sync.Once
	frames []byte
}

// Frames returns the frames of all messages, joined, each as Message.Frame says.
// They must not be changed.
func (b *Burst) Frames(deflate bool) []byte {
	j := &b.plain
	if deflate {
		j = &b.deflated
	}
	j.once.Do(func() {
		for _, m := range b.Messages {
			j.frames = append(j.frames, m.Frame(deflate)...)
		}
	})
	return j.frames
}

// parcel is a message with the connections that are to get it.
type parcel struct {
	conns    []Conn
	message  *Message
	kept     *keptPush
	detached bool          // its push had its answer before
	done     chan struct{} // closed when it was handed out, if it had to wait
}

func (p *parcel) record(out Outcome) { p.message.report.record(out) }

// send hands the message to one connection.
func (p *parcel) send(c Conn) {
	if r := c.Attachment().resume.Load(); r != nil {
		r.deliver(p.kept.message(r, p.message))
		return
	}
	p.record(c.Send(p.message))
}

// handOut gives each connection the messages of all parcels that it is in, in
// the order of the parcels. There are at most maxBurst.
func handOut(parcels []*parcel) {
	if len(parcels) == 1 {
		p := parcels[0]
		spread(p.conns, p.send)
	} else {
		newRound(parcels).run()
	}
	for _, p := range parcels {
		p.kept.pass()
		p.message.report.release()
		if p.done != nil {
			close(p.done)
		}
	}
}

// spread calls fn for each of items, by several goroutines if there are many.
func spread[T any](items []T, fn func(T)) {
	const share = 512 // below it, another goroutine costs more than it saves
	workers := max(1, min(runtime.GOMAXPROCS(0), len(items)/share))
	some := func(w int) {
		for _, item := range items[len(items)*w/workers : len(items)*(w+1)/workers] {
			fn(item)
		}
	}
	if workers == 1 {
		some(0)
		return
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() { some(w) })
	}
	wg.Wait()
}

// members is a set of parcels, a bit for each.
type members uint64

// maxBurst is how many parcels are handed out together.
const maxBurst = 64

// round is one handing out of several parcels.
type round struct {
	parcels []*parcel
	targets []target
	bursts  map[members]*burstOf
}

type target struct {
	conn Conn
	in   members
}

// burstOf is what the connections get that are in the same parcels.
type burstOf struct {
	Burst
	parcels []*parcel
}

func newRound(parcels []*parcel) *round {
	r := &round{parcels: parcels, bursts: make(map[members]*burstOf)}
	index := make(map[Conn]int, len(parcels[0].conns))
	for bit, p := range parcels {
		for _, c := range p.conns {
			i, ok := index[c]
			if !ok {
				i = len(r.targets)
				index[c] = i
				r.targets = append(r.targets, target{conn: c})
			}
			r.targets[i].in |= 1 << bit
		}
	}
	for _, t := range r.targets {
		if r.bursts[t.in] == nil {
			r.bursts[t.in] = r.burst(t.in)
		}
	}
	return r
}

func (r *round) burst(in members) *burstOf {
	b := new(burstOf)
	for bit, p := range r.parcels {
		if in&(1<<bit) != 0 {
			b.parcels = append(b.parcels, p)
			b.Messages = append(b.Messages, p.message)
		}
	}
	return b
}

func (r *round) run() {
	spread(r.targets, func(t target) {
		b := r.bursts[t.in]
		if len(b.parcels) == 1 || t.conn.Attachment().resume.Load() != nil {
			for _, p := range b.parcels {
				p.send(t.conn)
			}
			return
		}
		var room [maxBurst]Outcome
		outcomes := room[:len(b.parcels)]
		t.conn.SendBurst(&b.Burst, outcomes)
		for i, p := range b.parcels {
			p.record(outcomes[i])
		}
	})
}
