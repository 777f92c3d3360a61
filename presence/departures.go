package presence

import (
	"context"
	"slices"
	"sync"
	"time"
)

// departures are users whose connection on this node has ended, and who will be
// offline unless they come back. A goroutine lives only while there are some: it
// asks the store when their time is over.
type departures struct {
	mu      sync.Mutex // guards the fields below
	users   map[UserID]*departure
	running bool
}

type departure struct {
	event *Event
	due   time.Time
}

const (
	// departureSlack is how long after a user's time of lingering the store is
	// asked for it.
	departureSlack = 20 * time.Millisecond

	// departureRetry is how often it is asked again if it does not answer, or
	// still has the connection that ended.
	departureRetry = 500 * time.Millisecond
)

func (d *departures) add(h *Hub, e *Event, linger time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.users == nil {
		d.users = make(map[UserID]*departure)
	}
	d.users[e.Member.ID] = &departure{e, time.Now().Add(linger + departureSlack)}
	if !d.running {
		d.running = true
		go d.watch(h)
	}
}

// cameBack is told of a user that opens here: it was offline meanwhile, or not.
func (d *departures) cameBack(h *Hub, user UserID, wasOffline bool) {
	d.mu.Lock()
	gone := d.users[user]
	delete(d.users, user)
	d.mu.Unlock()
	if gone != nil && wasOffline {
		h.wentOffline(gone.event)
	}
}

func (h *Hub) wentOffline(e *Event) {
	e.At = time.Now()
	h.teller.add(h, e)
}

// end forgets everybody, because the hub ends.
func (d *departures) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.users)
}

// watch ends when no user is waited for.
func (d *departures) watch(h *Hub) {
	for {
		due, wait := d.due(time.Now())
		switch {
		case len(due) > 0:
			d.judge(h, due)
		case wait > 0:
			time.Sleep(min(wait, departureRetry))
		default:
			return
		}
	}
}

// due returns the users whose time is over or, if there are none, how long that
// takes; 0 if nobody is waited for, and the watch must end.
func (d *departures) due(now time.Time) (due []UserID, wait time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for user, gone := range d.users {
		left := gone.due.Sub(now)
		switch {
		case left <= 0:
			due = append(due, user)
		case wait == 0 || left < wait:
			wait = left
		}
	}
	d.running = len(d.users) > 0
	return due, wait
}

// judge asks the store for users whose time is over.
func (d *departures) judge(h *Hub, due []UserID) {
	const batch = 1000
	for ids := range slices.Chunk(due, batch) {
		users, err := h.Store().Lookup(context.Background(), h.name, ids)
		found := make(map[UserID]*User, len(users))
		for i := range users {
			found[users[i].ID] = &users[i]
		}
		for _, id := range ids {
			d.settle(h, id, found[id], err)
		}
	}
}

// settle decides about one user that the store has, or not, or has not told.
func (d *departures) settle(h *Hub, id UserID, user *User, err error) {
	d.mu.Lock()
	gone := d.users[id]
	if gone == nil || time.Now().Before(gone.due) { // came back, or left once more
		d.mu.Unlock()
		return
	}
	if err != nil || user != nil && (user.Lingering || has(user, gone.event.Conn)) {
		gone.due = time.Now().Add(departureRetry)
		d.mu.Unlock()
		return
	}
	delete(d.users, id)
	d.mu.Unlock()
	if user == nil {
		h.wentOffline(gone.event)
	}
}

// has reports whether the store still has a connection of a user: it could not
// be told yet that it ended.
func has(u *User, conn ConnID) bool {
	return slices.ContainsFunc(u.Conns, func(c UserConn) bool { return c.ID == conn })
}
