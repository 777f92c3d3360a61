package presence

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// keptPush is what connections that resume need of a push. It is never nil in a
// parcel.
type keptPush struct {
	id     string // of the push
	body   []byte // see frameBody
	ack    bool
	toMany bool             // it has one place, in the hub's series
	place  Place            // then; Seq 0: it is not kept
	places map[UserID]Place // of those of its users that it is kept for

	passed []*resumption // who is not to get it, and has to know of its place
}

// message is the message for one connection.
func (k *keptPush) message(r *resumption, raw *Message) *keptMessage {
	m := &keptMessage{toMany: k.toMany, place: k.place, body: k.body, raw: raw, ack: k.ack, report: raw.report}
	if !k.toMany {
		m.place = k.places[r.user]
	}
	return m
}

// pass lets those know of the place that are not to get the message.
func (k *keptPush) pass() {
	if !k.toMany || k.place.Seq == 0 {
		return
	}
	for _, r := range k.passed {
		r.deliver(&keptMessage{toMany: true, place: k.place})
	}
}

func newKeptPush(p *Push, id string) *keptPush {
	return &keptPush{id: id, body: frameBody(id, content(p.text(), p.Text != nil), p.Ack), ack: p.Ack}
}

func (h *Hub) keepRequest(p *Push, id string) KeepRequest {
	return KeepRequest{
		Hub: h.name, Body: p.keptBody(id), TTL: p.TTL.Duration(), Collapse: p.Collapse, Keeping: h.settings.Load().Keeping,
	}
}

// keeps reports whether pushes are kept.
func (h *Hub) keeps() bool { return h.settings.Load().Keeping.Window > 0 }

// keepForAll keeps a push that goes to many.
func (s *selector) keepForAll(ctx context.Context, p *Push) error {
	s.sel.kept.toMany = true
	if !s.hub.keeps() {
		return nil
	}
	place, err := s.hub.Store().KeepForAll(ctx, s.hub.keepRequest(p, s.sel.kept.id))
	s.sel.kept.place = place
	return err
}

// keepForUsers keeps a push for users, and returns what Lookup would.
func (s *selector) keepForUsers(ctx context.Context, p *Push, ids []UserID) ([]User, error) {
	excepted := func(id UserID) bool { _, ok := s.except.ids[id]; return ok }
	var users []User
	if len(s.except.ids) > 0 {
		others := slices.DeleteFunc(slices.Clone(ids), func(id UserID) bool { return !excepted(id) })
		var err error
		if users, err = s.hub.Store().Lookup(ctx, s.hub.name, others); err != nil {
			return nil, err
		}
		ids = slices.DeleteFunc(slices.Clone(ids), excepted)
	}
	kept, err := s.hub.Store().Keep(ctx, ids, s.hub.keepRequest(p, s.sel.kept.id))
	if err != nil {
		return nil, err
	}
	for i := range kept {
		k := &kept[i]
		if k.Place.Seq != 0 {
			if s.sel.kept.places == nil {
				s.sel.kept.places = make(map[UserID]Place)
			}
			s.sel.kept.places[k.ID] = k.Place
			if k.Gone || k.Lingering {
				s.sel.queued++
			}
		}
		if !k.Gone {
			users = append(users, k.User)
		}
	}
	return users, nil
}

// undelivered tells, when the wait of a push is over, which users have not confirmed
// it: those that it names, and those of this node that it selects.
func (h *Hub) undelivered(p *Push, id string, sel *selection, got map[UserID]struct{}) {
	if !h.wants(EventUndelivered) {
		return
	}
	users := make(map[UserID]struct{})
	for _, user := range p.To.IDs {
		if !slices.Contains(p.Except.IDs, user) {
			users[user] = struct{}{}
		}
	}
	if p.broad() {
		maps.Copy(users, sel.users)
	}
	h.tellUndelivered(id, content(p.text(), p.Text != nil), users, got)
}

// undeliveredHere does so on another node than the one that was asked, for the users
// that only this one knows.
func (h *Hub) undeliveredHere(p *remotePush, users, got map[UserID]struct{}) {
	if p.broad() && h.wants(EventUndelivered) {
		h.tellUndelivered(p.ID, content([]byte(p.Text), p.IsText), users, got)
	}
}

func (h *Hub) tellUndelivered(push string, body []byte, users, got map[UserID]struct{}) {
	for user := range users {
		if _, ok := got[user]; ok {
			continue
		}
		e := &Event{Kind: EventUndelivered, Member: &Member{ID: user}, At: time.Now(), Push: push, Body: body}
		if !h.teller.add(h, e, false) {
			h.gaveUp(e, errTooManyEvents)
		}
	}
}

// resume begins to hand over what is kept, if an open frame has asked for that. It
// returns fields of the reply, and what is to be done behind it.
func (h *Hub) resume(a *Attachment, req *openRequest) (string, func()) {
	asked := req.lost || req.since != Offset{}
	r := a.resume.Load()
	if r == nil || !req.resume {
		if asked {
			return `,"recovered":false`, func() {}
		}
		return "", func() {}
	}
	rec, err := r.recover(req.since)
	switch {
	case err != nil && asked && !req.lost: // the store is away: what was missed comes later, or that it is lost
		return fmt.Sprintf(`,"offset":%q,"recovered":true`, req.since), func() { r.beginLater(req.since, false) }
	case err != nil:
		fields := fmt.Sprintf(`,"offset":%q`, nowhere)
		if asked {
			fields += `,"recovered":false`
		}
		return fields, func() { r.beginLater(nowhere, true) }
	case !asked:
		return fmt.Sprintf(`,"offset":%q`, rec.Now), func() { r.begin(rec.Now, &rec) }
	case !rec.Complete || req.lost:
		h.stats.lost.Add(1)
		rec.Complete = false
		return fmt.Sprintf(`,"offset":%q,"recovered":false`, rec.Now), func() { r.begin(rec.Now, &rec) }
	}
	h.stats.resumed.Add(1)
	return fmt.Sprintf(`,"offset":%q,"recovered":true`, req.since), func() { r.begin(req.since, &rec) }
}

// nowhere is the offset of a client for which the store has not been asked yet.
var nowhere = Offset{Place{Epoch: "0"}, Place{Epoch: "0"}}

// acked carries out an ack frame.
func (h *Hub) acked(a *Attachment, f *Frame) error {
	raw, _ := f.field("offset")
	var text string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &text) != nil {
		return frameErrorf(ErrorBadFrame, "offset must be the offset of a push")
	}
	o, err := ParseOffset(text)
	if err != nil {
		return frameErrorf(ErrorBadFrame, "%v", err)
	}
	if r := a.resume.Load(); r != nil {
		return r.acked(o)
	}
	return nil
}
