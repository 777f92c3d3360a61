package presence

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"
)

// teller tells events in order for each user, and again while whoever is told
// does not take them. Goroutines live only while there are events.
type teller struct {
	mu      sync.Mutex          // guards the fields below
	users   map[UserID][]*Event // what is to be told; a key stays while its events are told
	ready   []UserID            // users that no goroutine has taken yet
	workers int
	waiting int  // events in users
	hanging int  // handlers that have not returned
	stopped bool // events are no longer taken

	// ctx ends when those that are told must be given up. It is there since the
	// first event.
	ctx    context.Context
	cancel context.CancelFunc
}

const (
	// maxEvents is how many events of a hub may wait to be told, maxTellers how
	// many are told at once.
	maxEvents  = 10_000
	maxTellers = 32
	maxHanging = 4 * maxTellers // handlers at work, with those that were given up

	// eventPatience is how long an event is told again, first after retryFirst,
	// then after twice as long each time, at most retryMost.
	eventPatience = time.Minute
	retryFirst    = 100 * time.Millisecond
	retryMost     = 5 * time.Second
)

var errTooManyEvents = errors.New("too many events are waiting")

// add takes an event, if there is room, or it is bounded elsewhere.
func (t *teller) add(h *Hub, e *Event, bounded bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped || !bounded && t.waiting >= maxEvents {
		return false
	}
	if t.users == nil {
		t.users = make(map[UserID][]*Event)
		t.ctx, t.cancel = context.WithCancel(context.Background())
	}
	user := e.Member.ID
	queue, taken := t.users[user]
	t.users[user] = append(queue, e)
	t.waiting++
	if taken {
		return true
	}
	t.ready = append(t.ready, user)
	if t.workers < maxTellers {
		t.workers++
		go t.work(h)
	}
	return true
}

// work tells the events of one user after the other, until there are none.
func (t *teller) work(h *Hub) {
	for {
		user, ok := t.take()
		if !ok {
			return
		}
		for e := t.next(user); e != nil; e = t.next(user) {
			t.tell(h, e)
		}
	}
}

// take returns a user whose events are to be told; if there is none, the worker
// must end.
func (t *teller) take() (UserID, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.ready) == 0 {
		t.workers--
		return "", false
	}
	user := t.ready[0]
	t.ready = t.ready[1:]
	return user, true
}

// next returns the next event of a user, or nil.
func (t *teller) next(user UserID) *Event {
	t.mu.Lock()
	defer t.mu.Unlock()
	queue := t.users[user]
	if len(queue) == 0 {
		delete(t.users, user)
		return nil
	}
	t.users[user] = queue[1:]
	t.waiting--
	return queue[0]
}

// tell tells one event until it is taken, or given up.
func (t *teller) tell(h *Hub, e *Event) {
	until, wait := time.Now().Add(eventPatience), retryFirst
	if events := h.settings.Load().Events; events != nil {
		events.Emit(e)
	}
	for {
		err := t.try(h, e)
		if err == nil {
			h.stats.told.Add(1)
			e.finished()
			return
		}
		var fe *FrameError
		refused := errors.As(err, &fe) && fe.Code == ErrorRefused && fe.RetryAfter == 0
		if refused || time.Now().Add(wait).After(until) {
			h.gaveUp(e, err)
			e.finished()
			return
		}
		select {
		case <-time.After(wait):
		case <-t.ctx.Done(): // another process may tell it
			h.gaveUp(e, err)
			return
		}
		wait = min(2*wait, retryMost)
	}
}

// try tells an event once.
func (t *teller) try(h *Hub, e *Event) error {
	for {
		s := h.settings.Load()
		if s.Events == nil {
			return nil // nobody wants it any more
		}
		ctx, cancel := actionContext(t.ctx, s.ActionTimeout)
		err := t.tellOnce(ctx, s.Events, e)
		cancel()
		// A reload may have come in between.
		if !errors.Is(err, ErrActionsRetired) || h.settings.Load() == s {
			return err
		}
	}
}

// tellOnce does not wait for handlers that go on when ctx has ended, unless too
// many do.
func (t *teller) tellOnce(ctx context.Context, events Events, e *Event) error {
	done := make(chan error, 1)
	go func() {
		t.hang(+1)
		defer t.hang(-1)
		done <- Guarded(func() error { return events.Tell(ctx, e) })
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	if t.hang(0) > maxHanging {
		<-done
	}
	return ctx.Err()
}

// hang counts handlers that have not returned.
func (t *teller) hang(more int) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hanging += more
	return t.hanging
}

// idle reports whether all events are told, or given up.
func (t *teller) idle() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.workers == 0
}

// EndEvents ends telling events, because the hub ends: it waits for those that
// are under way, and gives up what has not been told after a time.
func (h *Hub) EndEvents(patience time.Duration) {
	const poll = 5 * time.Millisecond
	h.follower.stop()
	for until := time.Now().Add(patience); !h.teller.idle() && time.Now().Before(until); {
		time.Sleep(poll)
	}
	h.teller.end()
	h.follower.end(h)
}

func (t *teller) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
	if t.cancel != nil {
		t.cancel()
	}
}

// finished notes that an event need not be told again.
func (e *Event) finished() {
	if e.done != nil {
		e.done()
	}
}

// gaveUp counts an event that nobody has taken.
func (h *Hub) gaveUp(e *Event, err error) {
	h.stats.untold.Add(1)
	if silent, ok := h.failures.pass(time.Now(), "on "+string(e.Kind)); ok {
		h.settings.Load().Log.Error("event given up", zap.String("hub", h.name), zap.String("event", string(e.Kind)),
			zap.String("id", string(e.Member.ID)), zap.Int("not_logged", silent), zap.Error(err))
	}
}
