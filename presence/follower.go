package presence

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// follower tells who came online and went offline, as the store has written it
// down. Of all processes that have the hub, one has the turn; if it ends, another
// goes on where it was. A goroutine lives only while such events are wanted.
type follower struct {
	begun atomic.Pointer[Store] // in which the turn was begun; written under mu

	mu      sync.Mutex // guards the fields below; held during store calls
	mine    bool
	taken   time.Time // when the turn was taken last
	at      Position  // up to where changes were read
	told    progress
	running chan struct{} // closed to end the goroutine; nil if there is none
	ended   chan struct{} // closed when it has ended
	stopped bool
}

const (
	// followInterval is how often the store is asked for changes.
	followInterval = 100 * time.Millisecond

	// followBound is how many changes may wait to be told; the store keeps the
	// others meanwhile.
	followBound = maxEvents / 2
)

// turnShare is which part of a turn's time passes before it is taken again, and
// saveEvery how often it is noted up to where changes are told.
const (
	turnShare = 3
	saveEvery = 200 * time.Millisecond
)

// follows reports whether it is of any use to follow.
func (h *Hub) follows() bool { return h.wants(EventOnline) || h.wants(EventOffline) }

// begin has the store write changes down before the first of them is made from
// here. Where that is not possible now, the change will not be either.
func (f *follower) begin(h *Hub, store Store) {
	if b := f.begun.Load(); b != nil && *b == store || !h.follows() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.beginLocked(h, store)
	f.launchLocked(h)
}

// beginLocked is begin. f.mu must be held.
func (f *follower) beginLocked(h *Hub, store Store) {
	if b := f.begun.Load(); b != nil && *b == store || f.stopped || store != h.Store() {
		return
	}
	ctx := context.Background()
	at, err := store.Position(ctx, h.name)
	if err != nil {
		return
	}
	f.mine = false
	f.told.begin(at) // from there it goes on if another has the turn, and what it told is lost
	if f.takeLocked(ctx, h, store, at, true) == nil {
		f.begun.Store(&store)
	}
}

// launch starts to follow, if that is of any use.
func (f *follower) launch(h *Hub) {
	if !h.follows() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.launchLocked(h)
}

// launchLocked is launch. f.mu must be held.
func (f *follower) launchLocked(h *Hub) {
	if f.running == nil && !f.stopped {
		f.running, f.ended = make(chan struct{}), make(chan struct{})
		go f.run(h, f.running, f.ended)
	}
}

// takeLocked takes the turn, or keeps it. f.mu must be held.
func (f *follower) takeLocked(ctx context.Context, h *Hub, store Store, told Position, first bool) error {
	turn, err := store.TakeTurn(ctx, h.name, told, first)
	if err != nil {
		return err
	}
	f.taken = time.Now()
	if turn.Mine && (!f.mine || first || turn.Told.String() != told.String()) {
		f.at = turn.Told
		f.told.begin(turn.Told)
	}
	f.mine = turn.Mine
	return nil
}

func (f *follower) run(h *Hub, stop, ended chan struct{}) {
	defer close(ended)
	tick := time.NewTicker(followInterval)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			f.step(h)
			return
		case <-tick.C:
			f.step(h)
		}
	}
}

// step keeps the turn, and has told what is new.
func (f *follower) step(h *Hub) {
	for f.told.waiting() < followBound {
		changes, epoch, done := f.read(h)
		if len(changes) == 0 {
			return
		}
		for i := range changes {
			h.announce(NewEvent(&changes[i], epoch), done[i])
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keepLocked(h)
}

// keepLocked keeps the turn, and returns the store if changes are to be read now.
// f.mu must be held.
func (f *follower) keepLocked(h *Hub) Store {
	store := h.Store()
	if !h.follows() {
		return nil
	}
	f.beginLocked(h, store)
	if b := f.begun.Load(); b == nil || *b != store {
		return nil
	}
	told, moved := f.told.position()
	since := time.Since(f.taken)
	if since > store.TurnTime()/turnShare || f.mine && moved && since > saveEvery {
		if f.takeLocked(context.Background(), h, store, told, !f.mine) != nil {
			return nil
		}
		f.told.saved(told)
	}
	if !f.mine {
		return nil
	}
	return store
}

// read returns the next changes, their epoch, and for each what is to be called when
// it is told.
func (f *follower) read(h *Hub) ([]Change, string, []func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	store := f.keepLocked(h)
	if store == nil {
		return nil, "", nil
	}
	changes, next, err := store.Changes(context.Background(), h.name, f.at)
	if errors.Is(err, ErrChangesLost) {
		f.restartLocked(context.Background(), h, store, err)
	}
	if err != nil {
		return nil, "", nil
	}
	f.at = next
	done := make([]func(), len(changes))
	for i := range changes {
		done[i] = f.told.start(changes[i])
	}
	return changes, next.Epoch, done
}

// restartLocked goes on from now. f.mu must be held.
func (f *follower) restartLocked(ctx context.Context, h *Hub, store Store, lost error) {
	at, err := store.Position(ctx, h.name)
	if err != nil {
		return
	}
	h.settings.Load().Log.Warn("nobody is told of some who came or went", zap.String("hub", h.name), zap.Error(lost))
	f.at = at
	f.told.begin(at)
}

// announce has an event told, then calls done.
func (h *Hub) announce(e *Event, done func()) {
	if a := h.local(e.Conn); a != nil {
		// Its open or close is told first: that happens under the same lock.
		a.mu.Lock()
		//lint:ignore SA2001 to have waited for it is all that is wanted
		a.mu.Unlock()
	}
	if !h.wants(e.Kind) {
		done()
		return
	}
	e.done = done
	h.teller.add(h, e, true) // unless it has stopped: then another process tells it
}

// stop ends reading.
func (f *follower) stop() {
	f.mu.Lock()
	running, ended := f.running, f.ended
	first := !f.stopped
	f.stopped = true
	f.mu.Unlock()
	if running == nil {
		return
	}
	if first {
		close(running)
	}
	<-ended
}

// end gives the turn to another process.
func (f *follower) end(h *Hub) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.mine {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	told, _ := f.told.position()
	store := *f.begun.Load()
	_, err := store.TakeTurn(ctx, h.name, told, false)
	if err == nil {
		err = store.LeaveTurn(ctx, h.name)
	}
	if err != nil {
		h.settings.Load().Log.Warn("the turn to tell events is not given up; it lapses", zap.String("hub", h.name), zap.Error(err))
	}
	f.mine = false
}
