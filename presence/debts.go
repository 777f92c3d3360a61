package presence

import (
	"context"
	"sync"
	"time"
)

// debts are departures that a store could not be told. A goroutine lives only
// while there are some, and pays them when the store is back. Without them,
// users who left during an outage would stay listed.
type debts struct {
	mu      sync.Mutex // guards the fields below
	owed    map[Store][]Departure
	running bool
}

// debtInterval is how often a store that is away is asked to take departures.
const debtInterval = time.Second

func (d *debts) add(h *Hub, store Store, gone []Departure) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.owed == nil {
		d.owed = make(map[Store][]Departure)
	}
	d.owed[store] = append(d.owed[store], gone...)
	if !d.running {
		d.running = true
		go d.pay(h)
	}
}

func (d *debts) pay(h *Hub) {
	for {
		time.Sleep(debtInterval)
		d.mu.Lock()
		owed := d.owed
		d.owed = nil
		if len(owed) == 0 {
			d.running = false
			d.mu.Unlock()
			return
		}
		d.mu.Unlock()
		for store, gone := range owed {
			if _, err := store.Close(context.Background(), h.name, gone); err != nil {
				d.add(h, store, gone)
			}
		}
	}
}
