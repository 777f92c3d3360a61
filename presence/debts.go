package presence

import (
	"cmp"
	"context"
	"errors"
	"hash/fnv"
	"maps"
	"slices"
	"sync"
	"time"
)

// debts are what a store could not be told: departures, and connections that are
// open. A goroutine lives only while there are some, and pays them when the store
// is back. Without them, users who left during an outage would stay listed, and
// those who came would not be.
type debts struct {
	mu      sync.Mutex // guards the fields below
	owed    map[Store][]Departure
	opens   map[*Attachment]struct{}
	tries   map[Store]int // how often a store has not taken them
	running bool
}

// leftTries is how often a store is asked that the hub has left.
const leftTries = 60

// debtInterval is how often a store that is away is asked to take them.
const debtInterval = time.Second

func (d *debts) add(h *Hub, store Store, gone []Departure) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.owed == nil {
		d.owed = make(map[Store][]Departure)
	}
	d.owed[store] = append(d.owed[store], gone...)
	d.payLocked(h)
}

// owe adds a connection that is open.
func (d *debts) owe(h *Hub, a *Attachment) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.opens == nil {
		d.opens = make(map[*Attachment]struct{})
	}
	d.opens[a] = struct{}{}
	d.payLocked(h)
}

// payLocked starts the goroutine that pays. d.mu must be held.
func (d *debts) payLocked(h *Hub) {
	if !d.running {
		d.running = true
		go d.pay(h)
	}
}

func (d *debts) pay(h *Hub) {
	for {
		time.Sleep(debtInterval)
		d.mu.Lock()
		owed, opens := d.owed, d.opens
		d.owed, d.opens = nil, nil
		if len(owed) == 0 && len(opens) == 0 {
			d.running = false
			d.mu.Unlock()
			return
		}
		d.mu.Unlock()
		for store, gone := range owed {
			_, err := store.Close(context.Background(), h.name, gone)
			if d.again(store, err, store == h.Store()) {
				d.add(h, store, gone)
			}
		}
		d.payOpens(h, opens)
	}
}

// again reports whether a store is to be asked again.
func (d *debts) again(store Store, err error, present bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.tries == nil {
		d.tries = make(map[Store]int)
	}
	if d.tries[store]++; err == nil || !present && d.tries[store] >= leftTries {
		delete(d.tries, store)
		return false
	}
	return true
}

// payOpens tells the store of connections, several at once; those that it does not
// take remain owed.
func (d *debts) payOpens(h *Hub, opens map[*Attachment]struct{}) {
	// One worker for all of a user, in the order in which they came.
	var work [assertWorkers][]*Attachment
	for _, a := range slices.SortedFunc(maps.Keys(opens), func(x, y *Attachment) int { return cmp.Compare(x.num, y.num) }) {
		if m := a.Member(); m != nil {
			w := hash(m.ID) % assertWorkers
			work[w] = append(work[w], a)
		}
	}
	var wg sync.WaitGroup
	for _, some := range work {
		wg.Go(func() {
			for _, a := range some {
				if err := h.settle(a); errors.Is(err, ErrStoreUnavailable) {
					d.owe(h, a)
				}
			}
		})
	}
	wg.Wait()
}

func hash(id UserID) uint32 {
	f := fnv.New32a()
	_, _ = f.Write([]byte(id)) // never fails
	return f.Sum32()
}
