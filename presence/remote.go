package presence

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"
)

// ErrNodeGone is the answer of a node that is no more.
var ErrNodeGone = errors.New("the node is gone")

// Answer is what another node said to a request.
type Answer struct {
	Data []byte // nil if it has no such hub
	Err  error  // ErrNodeGone, ErrStoreUnavailable, or that of the request's context
}

// Peer is a node that keeps its members in the same store.
type Peer struct {
	Node  NodeID
	Lease time.Duration // how much of its lease is left
	Info  NodeInfo
}

// NodeInfo is what a node says of itself.
type NodeInfo struct {
	Host        string    `json:"host"`
	PID         int       `json:"pid"`
	Started     time.Time `json:"started"`
	Connections int       `json:"connections"`       // open ones, at its last beat
	Trouble     string    `json:"trouble,omitempty"` // why it was not ready then
}

// request is what one node asks of a hub on another. One field is set.
type request struct {
	Push     *remotePush     `json:"push,omitempty"`
	Displace *remoteDisplace `json:"displace,omitempty"`
	Kick     []ConnID        `json:"kick,omitempty"`
}

// remotePush is the part of a push that concerns another node.
type remotePush struct {
	Conns  []ConnID `json:"conns,omitempty"`
	Types  []string `json:"types,omitempty"`
	All    bool     `json:"all,omitempty"`
	Except Selector `json:"except"`

	// Counted are users that are matched already.
	Counted []UserID `json:"counted,omitempty"`

	Text string        `json:"text"`
	Wait time.Duration `json:"wait"` // 0: no answer is wanted

	// For connections that resume: whether it was given as text, not as data, and
	// where it is kept, in the hub's series, or for Users.
	IsText bool             `json:"is_text,omitempty"`
	Place  Place            `json:"place,omitzero"`
	Users  map[UserID]Place `json:"users,omitempty"`

	// Ack asks for receipts. ID is that of the push.
	Ack bool   `json:"ack,omitempty"`
	ID  string `json:"id,omitempty"`
}

// remoteResult is what became of it.
type remoteResult struct {
	Matched     int `json:"matched"`
	Sent        int `json:"sent"`
	Dropped     int `json:"dropped"`
	Unconfirmed int `json:"unconfirmed"`

	Acked int      `json:"acked,omitempty"`
	Got   []UserID `json:"got,omitempty"` // who has confirmed it
}

// remoteDisplace tells that a connection lost its seat to one that opened then.
type remoteDisplace struct {
	Conn ConnID `json:"conn"`
	At   int64  `json:"at"`
}

// answerShare is which part of a push's wait another node may take.
const answerShare = 0.8

const (
	// displaceTime is how long a node is told that a connection lost its seat;
	// pushes do not reach that any more.
	displaceTime = 30 * time.Second

	// detachedTime is how long a push without a wait may be on its way.
	detachedTime = 30 * time.Second

	// kickTime is how long a kick waits for other nodes.
	kickTime = 2 * time.Second
)

// ask sends a request to another node.
func (h *Hub) ask(to NodeID, r request, until time.Time) <-chan Answer {
	body, _ := json.Marshal(r) // plain values
	return h.Store().Ask(h.name, to, body, until)
}

// Asked implements Local.
func (h *Hub) Asked(body []byte, answer func([]byte)) {
	var r request
	if err := json.Unmarshal(body, &r); err != nil {
		h.settings.Load().Log.Error("another node asks what this one does not understand", zap.Error(err))
		answer(nil)
		return
	}
	switch {
	case r.Push != nil:
		h.askedPush(r.Push, answer)
	case r.Displace != nil:
		if a := h.local(r.Displace.Conn); a != nil {
			h.displace(a, r.Displace.At)
		}
		answer([]byte("{}"))
	default:
		kicked := 0
		for _, id := range r.Kick {
			if h.KickConn(id) {
				kicked++
			}
		}
		b, _ := json.Marshal(kicked)
		answer(b)
	}
}

// askedPush hands a push out to the connections of this node, in order, and
// answers when they have taken it.
func (h *Hub) askedPush(p *remotePush, answer func([]byte)) {
	s := selector{hub: h, except: newExclusion(&p.Except), combined: len(p.Conns) > 0}
	s.sel.kept = &keptPush{
		body: frameBody(p.ID, content([]byte(p.Text), p.IsText), p.Ack), ack: p.Ack, toMany: p.broad(), place: p.Place, places: p.Users,
	}
	ended := 0 // since the other node looked them up
	for _, id := range p.Conns {
		if !s.byConn(id) {
			ended++
		}
	}
	clear(s.users) // the other node has counted them
	if p.broad() {
		s.broad(p.All, setOf(p.Types))
	}
	for _, id := range p.Counted {
		delete(s.users, id)
	}
	h.stats.pushes.Add(1)
	d := h.newDelivery(PushResult{Matched: len(s.users), Dropped: ended}, s.sel.conns, p.Wait)
	var got []UserID
	if p.Ack {
		d.undelivered = func(have map[UserID]struct{}) {
			got = slices.Collect(maps.Keys(have))
			h.undeliveredHere(p, s.users, have)
		}
	}
	d.handOut(h, []byte(p.Text), s.sel.kept, p.Wait == 0)
	finish := func() {
		r := d.Result(context.Background())
		b, _ := json.Marshal(remoteResult{r.Matched, r.Sent, r.Dropped, r.Unconfirmed, r.Acked, got})
		answer(b)
	}
	select {
	case <-d.report.done:
		finish()
	default:
		go finish()
	}
}

// share is the part of a push that another node has.
type share struct {
	conns  int // how many connections it has as far as is known
	named  int // how many more the push says that it has
	answer <-chan Answer
}

// forward sends a push to the other nodes that it concerns.
func (h *Hub) forward(p *Push, id string, sel *selection, until time.Time) ([]share, error) {
	broad := p.broad()
	if !broad && len(sel.remote)+len(sel.named) == 0 {
		return nil, nil
	}
	requests, counts, err := h.remoteParts(p, id, sel, broad)
	if err != nil {
		return nil, err
	}
	if p.Detached() {
		until = time.Now().Add(detachedTime)
	}
	if window := h.settings.Load().Keeping.Window; window > 0 {
		// Who resumes gets it live also when the pusher has stopped waiting.
		until = later(until, time.Now().Add(window))
	}
	shares := make([]share, 0, len(requests))
	for node, r := range requests {
		s := share{conns: counts[node], named: len(r.Conns) - counts[node]}
		s.named = max(s.named, 0)
		s.answer = h.ask(node, request{Push: r}, until)
		shares = append(shares, s)
	}
	return shares, nil
}

func later(x, y time.Time) time.Time {
	if x.After(y) {
		return x
	}
	return y
}

func (p *remotePush) broad() bool { return p.All || len(p.Types) > 0 }

// remoteParts is what each other node gets of a push, and to how many connections
// that goes.
func (h *Hub) remoteParts(p *Push, id string, sel *selection, broad bool) (map[NodeID]*remotePush, map[NodeID]int, error) {
	parts, counts := make(map[NodeID]*remotePush), make(map[NodeID]int)
	part := func(node NodeID) *remotePush {
		r := parts[node]
		if r == nil {
			r = &remotePush{
				Except: p.Except, Text: string(p.text()), Wait: time.Duration(float64(p.wait()) * answerShare),
				IsText: p.Text != nil, Place: sel.kept.place, Ack: p.Ack, ID: id,
			}
			parts[node] = r
		}
		return r
	}
	for i, id := range sel.remote {
		r := part(id.Node)
		r.Conns = append(r.Conns, id)
		counts[id.Node]++
		if place, ok := sel.kept.places[sel.owners[i]]; ok {
			if r.Users == nil {
				r.Users = make(map[UserID]Place)
			}
			r.Users[sel.owners[i]] = place
		}
	}
	for _, id := range sel.named {
		if r := part(id.Node); !slices.Contains(r.Conns, id) {
			r.Conns = append(r.Conns, id)
		}
	}
	if !broad {
		return parts, counts, nil
	}
	store := h.Store()
	peers, err := store.Peers(context.Background())
	if err != nil {
		return nil, nil, err
	}
	for _, peer := range peers {
		if store.Owns(peer.Node) {
			continue
		}
		r := part(peer.Node)
		r.All, r.Types, r.Counted = p.To.All, p.To.Types, p.To.IDs
		counts[peer.Node] = max(counts[peer.Node], peer.Info.Connections)
	}
	return parts, counts, nil
}

// kickElsewhere ends connections of other nodes, and returns how many they say
// they have ended, how many they say nothing of, and how many of nodes that cannot
// be reached at all.
func (h *Hub) kickElsewhere(ctx context.Context, ids []ConnID) (kicked, unconfirmed, gone int) {
	until := time.Now().Add(kickTime)
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	byNode := make(map[NodeID][]ConnID)
	for _, id := range ids {
		byNode[id.Node] = append(byNode[id.Node], id)
	}
	answers := make(map[NodeID]<-chan Answer, len(byNode))
	for node, ids := range byNode {
		answers[node] = h.ask(node, request{Kick: ids}, until)
	}
	for node, answer := range answers {
		n := 0
		select {
		case a := <-answer:
			if errors.Is(a.Err, ErrNodeGone) {
				gone += len(byNode[node])
				continue
			}
			if a.Err == nil && json.Unmarshal(a.Data, &n) == nil {
				kicked += n
				continue
			}
		case <-ctx.Done():
		}
		unconfirmed += len(byNode[node])
	}
	return kicked, unconfirmed, gone
}

// collect waits for the other nodes, and adds their results, and who has confirmed
// the message to those who have.
func collect(ctx context.Context, shares []share, r *PushResult, got map[UserID]struct{}) map[UserID]struct{} {
	for _, s := range shares {
		var a Answer
		select {
		case a = <-s.answer:
		case <-ctx.Done():
			a.Err = ctx.Err()
		}
		var part remoteResult
		if a.Err == nil && a.Data != nil {
			a.Err = json.Unmarshal(a.Data, &part)
		}
		if a.Err != nil {
			r.Unconfirmed += s.conns
			if !errors.Is(a.Err, ErrNodeGone) {
				r.Unconfirmed += s.named
			}
			continue
		}
		r.Matched += part.Matched
		r.Sent += part.Sent
		r.Dropped += part.Dropped
		r.Unconfirmed += part.Unconfirmed
		r.Acked += part.Acked
		for _, id := range part.Got {
			if got == nil {
				got = make(map[UserID]struct{})
			}
			got[id] = struct{}{}
		}
	}
	return got
}
