package storetest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// testModel makes random calls, and compares the store with a model that keeps a
// slice of connections for each user, after each of them.
func (s *suite) testModel() {
	hubs := 0
	rapid.Check(s.T, func(t *rapid.T) {
		hubs++ // a new one is empty
		m := &model{T: t, store: s.store, hub: fmt.Sprintf("model%d", hubs), users: make(map[presence.UserID]*modelUser)}
		t.Repeat(map[string]func(*rapid.T){
			"open":   m.open,
			"assert": m.assert,
			"close":  m.close,
			"list":   m.list,
			"":       m.check, // after each call
		})
	})
}

// modelUsers and modelTypes are few, so that calls meet.
var (
	modelUsers = []presence.UserID{"ann", "bob", "7"}
	modelTypes = []string{"", "driver", "rider"}
)

// modelConns is how many connections a user has at the most.
const modelConns = 6

type model struct {
	*rapid.T
	store presence.Store
	hub   string
	users map[presence.UserID]*modelUser // who are online or linger
}

type modelUser struct {
	conns []modelConn // newest first
	last  string      // the type of a user who lingers
}

type modelConn struct {
	num               uint64
	at                int64
	typ, seat, device string
	takeovers         int // of its seat; all within the window
}

func newest(x, y modelConn) int { return cmp.Or(cmp.Compare(y.at, x.at), cmp.Compare(y.num, x.num)) }

// pick draws a user and one of its connections: a connection has one user only.
func (m *model) pick(t *rapid.T) (presence.UserID, uint64) {
	i := rapid.IntRange(0, len(modelUsers)-1).Draw(t, "user")
	return modelUsers[i], uint64(10*i + rapid.IntRange(1, modelConns).Draw(t, "conn"))
}

func (m *model) connID(num uint64) presence.ConnID {
	return presence.ConnID{Node: m.store.Node(), Num: num}
}

// open opens a connection now.
func (m *model) open(t *rapid.T) {
	id, num := m.pick(t)
	m.carryOut(t, id, modelConn{
		num:    num,
		typ:    rapid.SampledFrom(modelTypes).Draw(t, "type"),
		seat:   rapid.SampledFrom([]string{"", "phone"}).Draw(t, "seat"),
		device: rapid.SampledFrom([]string{"", "", "a", "b"}).Draw(t, "device"),
	})
}

// assert opens a connection again at about the time at which one of the user's
// was opened, as nodes do after an outage.
func (m *model) assert(t *rapid.T) {
	id, num := m.pick(t)
	u := m.users[id]
	if u == nil || len(u.conns) == 0 {
		t.Skip("there is no connection")
	}
	c := rapid.SampledFrom(u.conns).Draw(t, "like")
	c.num = num
	c.at += rapid.Int64Range(-1, 1).Draw(t, "later")
	c.takeovers = 0
	m.carryOut(t, id, c)
}

func (m *model) carryOut(t *rapid.T, id presence.UserID, add modelConn) {
	most := rapid.IntRange(1, 3).Draw(t, "max")
	got, err := m.store.Open(t.Context(), presence.OpenRequest{
		Hub: m.hub, Conn: m.connID(add.num), Member: member(string(id), add.typ, ""),
		At: add.at, Seat: add.seat, Max: most, Device: add.device,
	})
	if err != nil {
		t.Fatal(err)
	}
	u := m.users[id]
	if u == nil {
		u = new(modelUser)
	}
	if add.at != 0 && got.At != add.at {
		t.Fatalf("opened at %d, want %d", got.At, add.at)
	}
	add.at = got.At
	want := presence.OpenResult{At: got.At, Online: m.users[id] == nil}
	kept, displaced, refused := u.place(add, most)
	if refused {
		if got.RetryAfter <= 0 || got.Accepted || len(got.Displaced) > 0 {
			t.Fatalf("got %+v, want it refused", got)
		}
		return
	}
	u.conns, u.last = kept, ""
	m.users[id] = u
	want.Accepted = slices.ContainsFunc(kept, func(c modelConn) bool { return c.num == add.num && c.at == add.at })
	for _, num := range displaced {
		want.Displaced = append(want.Displaced, m.connID(num))
	}
	order := func(x, y presence.ConnID) int { return cmp.Compare(x.Num, y.Num) }
	slices.SortFunc(want.Displaced, order)
	slices.SortFunc(got.Displaced, order)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}

// place works out which connections the user has when one more opens, and which
// lose their place to it.
func (u *modelUser) place(add modelConn, most int) (kept []modelConn, displaced []uint64, refused bool) {
	opened := add.num
	var all []modelConn
	for _, c := range u.conns {
		switch {
		case c.num == add.num && newest(c, add) < 0:
			add = c // it opened again since
		case c.num == add.num:
			add.takeovers = c.takeovers
		case add.device != "" && c.device == add.device && newest(add, c) < 0:
			add.takeovers = c.takeovers
			displaced = append(displaced, c.num)
		default:
			all = append(all, c)
		}
	}
	all = append(all, add)
	slices.SortFunc(all, newest)
	seats := make(map[string]int)
	for _, c := range all {
		if seats[c.seat]++; seats[c.seat] <= most {
			kept = append(kept, c)
			continue
		}
		if c.num != opened {
			displaced = append(displaced, c.num)
		}
		if most == 1 && c.seat == add.seat && c.num != add.num {
			add.takeovers = c.takeovers + 1
		}
	}
	for i := range kept {
		if kept[i].num == add.num {
			kept[i].takeovers = add.takeovers
		}
	}
	return kept, displaced, most == 1 && add.takeovers > presence.MaxTakeovers
}

// close closes several connections, some of which are not there, or opened later.
func (m *model) close(t *rapid.T) {
	var gone []presence.Departure
	var want []bool
	for range rapid.IntRange(1, 3).Draw(t, "closes") {
		id, num := m.pick(t)
		d := presence.Departure{User: id, Conn: m.connID(num), Cause: presence.CauseLost}
		d.Linger = rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(t, "linger")
		if u := m.users[id]; u != nil && len(u.conns) > 0 && rapid.Bool().Draw(t, "since") {
			d.At = rapid.SampledFrom(u.conns).Draw(t, "at").at
		}
		gone = append(gone, d)
		want = append(want, m.leave(d))
	}
	got, err := m.store.Close(t.Context(), m.hub, gone)
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("closing %+v: got %v, %v; want %v", gone, got, err, want)
	}
}

// leave takes a connection out of the model, and returns whether it was there.
func (m *model) leave(d presence.Departure) bool {
	u := m.users[d.User]
	if u == nil {
		return false
	}
	i := slices.IndexFunc(u.conns, func(c modelConn) bool { return c.num == d.Conn.Num && (d.At == 0 || c.at <= d.At) })
	if i < 0 {
		return false
	}
	typ := u.conns[i].typ
	if u.conns = slices.Delete(u.conns, i, i+1); len(u.conns) > 0 {
		return true
	}
	if u.last = typ; d.Linger == 0 {
		delete(m.users, d.User)
	}
	return true
}

// check compares what the store says of the users with the model.
func (m *model) check(t *rapid.T) {
	users, err := m.store.Lookup(t.Context(), m.hub, modelUsers)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[presence.UserID]string)
	for _, u := range users {
		text := fmt.Sprintf("lingers with %q", u.Member.Type)
		if !u.Lingering {
			text = "is online"
		}
		for _, c := range u.Conns {
			text += fmt.Sprintf(" %d at %d as %q", c.ID.Num, c.At, c.Member.Type)
		}
		got[u.ID] = text
	}
	want := make(map[presence.UserID]string)
	for id, u := range m.users {
		want[id] = u.String()
	}
	if !maps.Equal(got, want) {
		t.Fatalf("the store has %v, want %v", got, want)
	}
}

// list compares the list and the count of a type, or of all, with the model.
func (m *model) list(t *rapid.T) {
	typ := rapid.SampledFrom(modelTypes).Draw(t, "type")
	var want []string
	for id, u := range m.users {
		if typ == "" || slices.Contains(u.types(), typ) {
			want = append(want, string(id))
		}
	}
	slices.Sort(want)
	n, err := m.store.Count(t.Context(), m.hub, typ)
	if err != nil || n != len(want) {
		t.Fatalf("count of type %q: %d, %v; want %v", typ, n, err, want)
	}
	var got []string
	for cursor := ""; ; {
		page, err := m.store.Members(t.Context(), m.hub, presence.MemberQuery{Type: typ, Limit: 2, Cursor: cursor})
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range page.Users {
			got = append(got, string(u.ID))
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Fatalf("listed of type %q: %v, want %v", typ, got, want)
	}
}

func (u *modelUser) String() string {
	if len(u.conns) == 0 {
		return fmt.Sprintf("lingers with %q", u.last)
	}
	text := "is online"
	for _, c := range u.conns {
		text += fmt.Sprintf(" %d at %d as %q", c.num, c.at, c.typ)
	}
	return text
}

// types are those that the user is counted under, each once.
func (u *modelUser) types() []string {
	if len(u.conns) == 0 {
		return []string{u.last}
	}
	var types []string
	for _, c := range u.conns {
		if !slices.Contains(types, c.typ) {
			types = append(types, c.typ)
		}
	}
	return types
}
