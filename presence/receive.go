package presence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

var pong = NewMessage([]byte("pong"))

// Receive carries out one text message of a client. Messages of one connection
// are given one after the other; data is not kept. Whatever is wrong with it
// is answered with an error frame and changes nothing.
func (h *Hub) Receive(c Conn, data []byte) {
	if IsPing(data) {
		h.stats.pings.Add(1)
		c.Send(pong)
		return
	}
	h.stats.frames.Add(1)
	f, err := DecodeFrame(data)
	fields, then := "", func() {}
	switch {
	case err != nil:
	case f.Action == "open" || f.Action == "close":
		fields, then, err = h.carryOut(c, &f)
	case f.Action == "ack" && c.Attachment().resume.Load() != nil:
		err = h.acked(c.Attachment(), &f)
	default:
		if err = h.dispatch(c, &Action{Name: f.Action, Ref: f.Ref}, data); err == nil {
			return // answered later
		}
	}
	if err != nil {
		h.Refuse(c, f.Ref, err)
		return
	}
	if f.Ref != nil {
		c.Send(NewMessage(replyFrame(f.Ref, fields)))
	}
	then()
}

// IsPing reports whether a text message is the client's heartbeat.
func IsPing(data []byte) bool { return string(data) == "ping" }

// Refuse answers a client's frame with an error frame. An error that is no
// *FrameError is told as ErrorStoreUnavailable, without details.
func (h *Hub) Refuse(c Conn, ref json.RawMessage, err error) {
	var fe *FrameError
	if !errors.As(err, &fe) {
		fe = frameErrorf(ErrorStoreUnavailable, "presence cannot be written down right now, try again")
	}
	h.stats.refused(fe.Code)
	c.Send(NewMessage(ErrorFrame(ref, fe)))
}

// carryOut does what an open or close frame asks for, and returns further
// fields of the reply, and what is to be done behind it.
func (h *Hub) carryOut(c Conn, f *Frame) (string, func(), error) {
	if f.Action == "open" {
		return h.open(c.Attachment(), f)
	}
	return "", func() {}, h.close(c.Attachment())
}

func (h *Hub) open(a *Attachment, f *Frame) (string, func(), error) {
	if a.origin != nil {
		f.fix(a.origin.Fixed)
	}
	req, err := readOpen(f, a.identity)
	if err != nil {
		return "", nil, err
	}
	res, err := h.openLocked(a, req)
	if err != nil {
		return "", nil, err
	}
	h.seat(a, res)
	if !res.Accepted {
		return "", nil, frameErrorf(ErrorSessionConflict, "a newer connection of this user is open")
	}
	fields, then := h.resume(a, &req)
	return fmt.Sprintf(`"conn":"%s"`, h.ConnID(a)) + fields, then, nil
}

func (h *Hub) openLocked(a *Attachment, req openRequest) (OpenResult, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sealed {
		return OpenResult{}, frameErrorf(ErrorStoreUnavailable, "this connection is closing")
	}
	if m := a.Member(); m != nil && m.ID != req.member.ID {
		return OpenResult{}, frameErrorf(ErrorAlreadyOpen, "this connection is open for another id; send close first")
	}
	if a.doubt != nil && a.doubt.ID != req.member.ID {
		h.leave(a, CauseClient)
	}
	before := a.resume.Load()
	var next *resumption
	if req.resume && h.keeps() {
		next = newResumption(h, a, req.member.ID)
	}
	a.resume.Store(next) // before the store knows: what is pushed from then on is held
	res, err := h.register(a, h.Store(), req.member, opening{})
	if errors.Is(err, ErrStoreUnavailable) {
		h.keep(a, req.member, res.At)
		res, err = OpenResult{At: res.At, Accepted: true}, nil
	}
	if err != nil || res.RetryAfter > 0 {
		a.resume.Store(before)
		if next != nil {
			next.giveUp()
		}
	} else if before != nil {
		before.end()
	}
	if err != nil {
		return res, err
	}
	if res.RetryAfter > 0 {
		return res, &FrameError{
			Code:       ErrorSessionConflict,
			Message:    "other connections keep taking this user's place",
			RetryAfter: res.RetryAfter,
		}
	}
	a.setBeat(req.beat)
	a.opened.Store(true)
	h.stats.opens.Add(1)
	if res.Accepted {
		h.tell(EventOpen, req.member, a, "")
	}
	return res, nil
}

// opening is what OpenRequest.At and Quiet say.
type opening struct {
	at    int64
	quiet bool
}

// register makes a connection its user's in a store. a.mu must be held.
func (h *Hub) register(a *Attachment, store Store, m *Member, o opening) (OpenResult, error) {
	s := h.settings.Load()
	h.follower.begin(h, store)
	req := OpenRequest{
		Hub:    h.name,
		Conn:   ConnID{Node: store.Node(), Num: a.num},
		Member: m,
		Max:    s.Sessions.Max,
		At:     o.at,
		Device: m.Device,
		Quiet:  o.quiet,
	}
	if s.Sessions.By != "" {
		req.Seat = m.Field(s.Sessions.By)
	}
	before := a.member.Load()
	// Before the store knows: a push that finds the connection there must find
	// it here.
	a.member.Store(m)
	res, err := store.Open(context.Background(), req)
	if err != nil || !res.Accepted {
		a.member.Store(before)
		if err != nil && before == nil {
			a.doubt = m
		}
		return res, err
	}
	if before == nil {
		h.stats.members.Add(1)
	}
	a.at, a.doubt, a.pending = res.At, nil, false
	a.open.Store(true)
	return res, nil
}

// seat ends the connections that lost their seat to a, or a itself if it got none.
// a.mu must not be held: two connections may displace each other at once.
func (h *Hub) seat(a *Attachment, res OpenResult) {
	for _, id := range res.Displaced {
		// It may be a itself, in an earlier incarnation of this node.
		if other := h.local(id); other != nil && other != a {
			h.displace(other, res.At)
		} else if !h.Store().Owns(id.Node) {
			h.ask(id.Node, request{Displace: &remoteDisplace{id, res.At}}, time.Now().Add(displaceTime))
		}
	}
	if !res.Accepted {
		h.noSeat(a, res.At+1)
	}
}

// displace ends a connection that lost its seat to one that opened at a time,
// unless it has opened anew since, or has been closed and has no seat.
func (h *Hub) displace(a *Attachment, at int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.Member() != nil {
		h.replaced(a, at)
	}
}

// noSeat ends a connection that was to open at a time and found its seat taken by
// a newer one.
func (h *Hub) noSeat(a *Attachment, at int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	h.replaced(a, at)
}

// replaced ends a connection whose place another one has, unless it has opened anew
// since. a.mu must be held.
func (h *Hub) replaced(a *Attachment, at int64) {
	if a.at > at || a.sealed {
		return
	}
	a.sealed = true
	if m := a.Member(); m != nil {
		h.forget(a)
		h.tell(EventClose, m, a, CauseReplaced)
	}
	a.conn.Close(CloseReplaced, "replaced by a newer connection")
}

func (h *Hub) close(a *Attachment) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	m := a.Member()
	if m == nil {
		return frameErrorf(ErrorNotOpen, "this connection is not open")
	}
	gone := Departure{User: m.ID, Conn: h.ConnID(a), At: a.at, Cause: CauseClient}
	h.depart(h.Store(), []Departure{gone})
	h.forget(a)
	h.tell(EventClose, m, a, CauseClient)
	return nil
}

// Kick ends all connections of a user, on all nodes, and makes it offline. It
// returns how many were ended, and how many are on nodes that have not confirmed
// it in time.
func (h *Hub) Kick(ctx context.Context, id UserID) (kicked, unconfirmed int, err error) {
	users, err := h.Store().Lookup(ctx, h.name, []UserID{id})
	if err != nil || len(users) == 0 {
		return 0, 0, err
	}
	var elsewhere []ConnID
	for _, c := range users[0].Conns {
		if h.KickConn(c.ID) {
			kicked++
		} else if !h.Store().Owns(c.ID.Node) {
			elsewhere = append(elsewhere, c.ID)
		}
	}
	more, unconfirmed, gone := h.kickElsewhere(ctx, elsewhere)
	return kicked + more, unconfirmed + gone, nil
}

// KickByID ends one connection, on whatever node it is. It returns how many were
// ended, and how many are on a node that has not confirmed it in time.
func (h *Hub) KickByID(ctx context.Context, id ConnID) (kicked, unconfirmed int) {
	switch {
	case h.KickConn(id):
		return 1, 0
	case h.Store().Owns(id.Node):
		return 0, 0
	}
	kicked, unconfirmed, _ = h.kickElsewhere(ctx, []ConnID{id})
	return kicked, unconfirmed
}

// KickConn ends one connection of this node, open or not, and takes it out of
// presence. It returns false if the connection is not here.
func (h *Hub) KickConn(id ConnID) bool {
	a := h.local(id)
	if a == nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sealed = true
	h.leave(a, CauseKicked)
	a.conn.Close(CloseKicked, "kicked")
	return true
}

// StopGraceAtLeast is the least time that the users of a stopping node linger:
// clients that wait before they come back must find their place.
const StopGraceAtLeast = 30 * time.Second
