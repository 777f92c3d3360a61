package presence

import (
	"sync"
	"time"
)

// outbox keeps the order of deliveries when some run behind the answer to their
// push, and hands those out together that wait at the same time: under load a
// connection is then written to once for several messages.
type outbox struct {
	mu       sync.Mutex // guards the fields below
	waiting  []*parcel
	running  bool          // a goroutine hands out; it ends when nothing waits
	detached int           // how many of those that wait, or are handed out, had their answer
	wanted   int           // how many the goroutine waits for; 0: it does not
	enough   chan struct{} // closed when so many do
}

const (
	// outboxDepth is how many detached parcels may wait; a push more waits too.
	outboxDepth = 256

	// fewConns is up to how many connections a delivery is not worth waiting
	// for others.
	fewConns = 32

	// gatherShare is which part of the time that a round took may be spent on
	// waiting for the next parcels, and gatherMost the most.
	gatherShare = 8
	gatherMost  = 5 * time.Millisecond
)

// post hands a parcel out, after all that had their answer before. It returns
// when that is done; for a detached one, at once, unless too many wait.
func (o *outbox) post(p *parcel, detached bool) {
	o.mu.Lock()
	if !detached && o.detached == 0 && len(p.conns) <= fewConns {
		o.mu.Unlock()
		handOut([]*parcel{p})
		return
	}
	behind := detached && o.detached < outboxDepth
	if detached {
		o.detached++
	}
	p.detached = detached
	if !behind {
		p.done = make(chan struct{})
	}
	o.waiting = append(o.waiting, p)
	switch {
	case !o.running:
		o.running = true
		go o.run()
	case o.wanted > 0 && len(o.waiting) >= o.wanted:
		o.wanted = 0
		close(o.enough)
	}
	o.mu.Unlock()
	if !behind {
		<-p.done
	}
}

// run hands out what waits until nothing does.
func (o *outbox) run() {
	for {
		parcels := o.take()
		if len(parcels) == 0 {
			return
		}
		began := time.Now()
		handOut(parcels)
		o.handedOut(parcels)
		if len(parcels) > 1 {
			o.gather(len(parcels), min(time.Since(began)/gatherShare, gatherMost))
		}
	}
}

// take removes what is handed out together.
func (o *outbox) take() []*parcel {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := min(len(o.waiting), maxBurst)
	if n == 0 {
		o.waiting, o.running = nil, false
		return nil
	}
	parcels := o.waiting[:n:n]
	o.waiting = o.waiting[n:]
	return parcels
}

func (o *outbox) handedOut(parcels []*parcel) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range parcels {
		if p.detached {
			o.detached--
		}
	}
}

// gather waits until n parcels more do, but not for longer than most: those who
// push one after the other, beside each other, are about to come again.
func (o *outbox) gather(n int, most time.Duration) {
	enough := make(chan struct{})
	o.mu.Lock()
	o.wanted, o.enough = min(len(o.waiting)+n, maxBurst), enough
	if len(o.waiting) >= o.wanted {
		o.wanted = 0
		close(enough)
	}
	o.mu.Unlock()
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-enough:
	case <-timer.C:
	}
	o.mu.Lock()
	o.wanted = 0
	o.mu.Unlock()
}
