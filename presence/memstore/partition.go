package memstore

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// partition holds some of a hub's users.
type partition struct {
	mu        sync.RWMutex // guards the fields below, and the users
	users     map[presence.UserID]*user
	types     map[string]int            // users by type, as user.types says
	lingering map[presence.UserID]*user // those of users without a connection
	series    map[presence.UserID]*series
	holding   map[presence.UserID]*series // those of series with a message
	gone      map[presence.UserID]*series // those of series whose user is offline

	changed func(presence.Change) // writes a change of a user down; static
}

// user is an online or lingering user.
type user struct {
	id    presence.UserID
	conns []conn // newest first; empty while lingering

	// While lingering.
	last     *presence.Member
	lastConn presence.ConnID
	cause    presence.Cause
	since    int64
	until    int64 // as uptime says
}

type conn struct {
	id           presence.ConnID
	at           int64
	seat, device string
	takeovers    takeovers // of its seat
	member       *presence.Member
}

// newer orders connections of a user: by time, then by id, so that all nodes
// come to the same end in whatever order they hear of opens.
func newer(a, b conn) int {
	return cmp.Or(cmp.Compare(b.at, a.at), cmp.Compare(b.id.String(), a.id.String()))
}

// takeovers counts how often a seat changed hands since a time.
type takeovers struct {
	n     int
	since int64
}

// after is the count after one more takeover at a time.
func (t takeovers) after(at int64) takeovers {
	if t.n == 0 || at-t.since >= presence.TakeoverWindow.Milliseconds() {
		return takeovers{1, at}
	}
	return takeovers{t.n + 1, t.since}
}

// open carries out an OpenRequest whose At is set.
func (p *partition) open(req presence.OpenRequest) presence.OpenResult {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := req.Member.ID
	u := p.users[id]
	if u != nil && u.over(uptime()) {
		p.put(u, nil)
		u = nil
	}
	wasOnline := u != nil
	if u == nil {
		u = &user{id: id}
	}
	add := conn{id: req.Conn, at: req.At, seat: req.Seat, device: req.Device, member: req.Member}
	res := presence.OpenResult{At: req.At, Online: !wasOnline}
	kept, displaced := u.place(&add, req.Max)
	if wait := takeoverWait(add.takeovers, req.At); req.Max == 1 && wait > 0 {
		return presence.OpenResult{At: req.At, RetryAfter: wait}
	}
	for _, c := range displaced {
		if c.id != req.Conn {
			res.Displaced = append(res.Displaced, c.id)
		}
	}
	res.Accepted = slices.ContainsFunc(kept, func(c conn) bool { return c.id == req.Conn && c.at == req.At })
	p.put(u, kept)
	if !wasOnline && !req.Quiet {
		p.changed(presence.Change{Kind: presence.EventOnline, Member: req.Member, Conn: req.Conn})
	}
	return res
}

func takeoverWait(t takeovers, at int64) time.Duration {
	if t.n <= presence.MaxTakeovers {
		return 0
	}
	return max(time.Second, time.Duration(t.since-at)*time.Millisecond+presence.TakeoverWindow)
}

// place works out which connections a user has once add opens. It counts in add
// whether that takes a seat over.
func (u *user) place(add *conn, most int) (kept, displaced []conn) {
	all := make([]conn, 0, len(u.conns)+1)
	for _, c := range u.conns {
		switch {
		case c.id == add.id && newer(c, *add) < 0:
			*add = c // an older open of the same connection, come late
		case c.id == add.id:
			add.takeovers = c.takeovers
		case add.device != "" && c.device == add.device && newer(*add, c) < 0:
			add.takeovers = c.takeovers
			displaced = append(displaced, c)
		default:
			all = append(all, c)
		}
	}
	all = append(all, *add)
	slices.SortFunc(all, newer)
	seats := make(map[string]int)
	var holder *conn // who would lose add's seat to it
	for i, c := range all {
		seats[c.seat]++
		if seats[c.seat] > most || len(kept) == presence.MaxSeats {
			displaced = append(displaced, c)
			if c.seat == add.seat && c.id != add.id {
				holder = &all[i]
			}
			continue
		}
		kept = append(kept, c)
	}
	if holder != nil && most == 1 {
		add.takeovers = holder.takeovers.after(add.at)
		for i := range kept {
			if kept[i].id == add.id {
				kept[i].takeovers = add.takeovers
			}
		}
	}
	return kept, displaced
}

// close carries out a Departure, and reports whether the connection was there.
func (p *partition) close(d presence.Departure) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.users[d.User]
	if u == nil {
		return false
	}
	i := slices.IndexFunc(u.conns, func(c conn) bool { return c.id == d.Conn && (d.At == 0 || c.at <= d.At) })
	if i < 0 {
		return false
	}
	if len(u.conns) == 1 {
		last := u.conns[0]
		u.last, u.lastConn, u.cause = last.member, last.id, d.Cause
		u.since, u.until = nowMilli(), uptime()+d.Linger.Milliseconds()
	}
	p.put(u, slices.Delete(slices.Clone(u.conns), i, i+1))
	return true
}

// put gives a user its connections, and keeps indexes and counts right. p.mu
// must be held.
func (p *partition) put(u *user, conns []conn) {
	if _, there := p.users[u.id]; there {
		p.countTypes(u, -1)
	}
	u.conns = conns
	delete(p.lingering, u.id)
	if len(conns) == 0 {
		if u.until <= uptime() {
			delete(p.users, u.id)
			if u.last != nil {
				p.changed(presence.Change{Kind: presence.EventOffline, Member: u.last, Conn: u.lastConn, Cause: u.cause})
			}
			p.leave(u.id)
			return
		}
		p.lingering[u.id] = u
	} else {
		u.last, u.lastConn, u.cause, u.since, u.until = nil, presence.ConnID{}, "", 0, 0
	}
	p.users[u.id] = u
	p.comeBack(u.id)
	p.countTypes(u, 1)
}

func (p *partition) countTypes(u *user, by int) {
	for _, typ := range u.types() {
		if p.types[typ] += by; p.types[typ] == 0 {
			delete(p.types, typ)
		}
	}
}

// types are the types that the user has a connection of, each once.
func (u *user) types() []string {
	if len(u.conns) == 0 {
		if u.last == nil {
			return nil
		}
		return []string{u.last.Type}
	}
	types := make([]string, 0, 1)
	for _, c := range u.conns {
		if !slices.Contains(types, c.member.Type) {
			types = append(types, c.member.Type)
		}
	}
	return types
}

func (p *partition) lookup(id presence.UserID, now int64) (presence.User, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	u := p.users[id]
	if u == nil || u.over(now) {
		return presence.User{}, false
	}
	return u.show(), true
}

// over reports whether the user's time of lingering is over.
func (u *user) over(now int64) bool { return len(u.conns) == 0 && u.until <= now }

func (u *user) show() presence.User {
	if len(u.conns) == 0 {
		return presence.User{ID: u.id, Member: u.last, Lingering: true, Since: u.since}
	}
	out := presence.User{ID: u.id, Member: u.conns[0].member, Since: u.conns[0].at}
	out.Conns = make([]presence.UserConn, len(u.conns))
	for i, c := range u.conns {
		out.Conns[i] = presence.UserConn{ID: c.id, At: c.at, Member: c.member}
	}
	return out
}

func (p *partition) count(typ string, now int64) int {
	p.mu.RLock()
	defer p.mu.RUnlock()
	n := len(p.users)
	if typ != "" {
		n = p.types[typ]
	}
	for _, u := range p.lingering {
		if u.over(now) && (typ == "" || u.last.Type == typ) {
			n--
		}
	}
	return n
}

// expire forgets the users whose time of lingering is over, and what was kept
// for too long, if that is wanted.
func (p *partition) expire(now int64, forget bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, u := range p.lingering {
		if u.over(now) {
			p.put(u, nil)
		}
	}
	if forget {
		p.forget(now)
	}
}
