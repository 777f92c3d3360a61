package presence

import "sync"

// outbox keeps the order of deliveries when some run behind the answer to their
// push: what comes later does not overtake them.
type outbox struct {
	mu      sync.Mutex // guards the fields below
	waiting []func()
	running bool // a goroutine delivers; it ends when nothing waits
}

// outboxDepth is how many deliveries may wait; a push more waits for them.
const outboxDepth = 256

// behind runs deliver after all that wait, and returns before it has run,
// unless too many wait.
func (o *outbox) behind(deliver func()) {
	o.mu.Lock()
	if len(o.waiting) >= outboxDepth {
		o.mu.Unlock()
		o.inTurn(deliver)
		return
	}
	o.addLocked(deliver)
	o.mu.Unlock()
}

// inTurn runs deliver after all that wait, and returns when it has run.
// Deliveries that have nothing to wait for run at once, beside each other.
func (o *outbox) inTurn(deliver func()) {
	o.mu.Lock()
	if !o.running {
		o.mu.Unlock()
		deliver()
		return
	}
	done := make(chan struct{})
	o.addLocked(func() {
		defer close(done)
		deliver()
	})
	o.mu.Unlock()
	<-done
}

// addLocked adds a delivery. o.mu must be held.
func (o *outbox) addLocked(deliver func()) {
	o.waiting = append(o.waiting, deliver)
	if !o.running {
		o.running = true
		go o.run()
	}
}

func (o *outbox) run() {
	for {
		o.mu.Lock()
		if len(o.waiting) == 0 {
			o.waiting, o.running = nil, false
			o.mu.Unlock()
			return
		}
		deliver := o.waiting[0]
		o.waiting = o.waiting[1:]
		o.mu.Unlock()
		deliver()
	}
}
