package presence

import (
	"bytes"
	"encoding/json"
	"slices"
)

// What is kept of a push is its selector, as far as the receiver has to look at it
// again, a line feed, and what its frame has behind the offset.

// keptSelector is the selector of a push that is kept once for many.
type keptSelector struct {
	All    bool     `json:"all,omitempty"`
	Types  []string `json:"types,omitempty"`
	IDs    []UserID `json:"ids,omitempty"`
	Except Selector `json:"except"`
}

// frameBody is what the frame of a push has behind the offset. By the id a client
// knows a message that was pushed again because it was not known what became of it.
func frameBody(id string, content []byte, ack bool) []byte {
	b := make([]byte, 0, len(content)+len(id)+32)
	quoted, _ := json.Marshal(id) // a string always can be
	b = append(append(append(b, `"id":`...), quoted...), ',')
	if ack {
		b = append(b, `"ack":true,`...)
	}
	return append(b, content...)
}

// content is what was pushed, as a field of JSON.
func content(text []byte, isText bool) []byte {
	if !isText {
		return append([]byte(`"data":`), text...)
	}
	quoted, _ := json.Marshal(string(text)) // a string always can be
	return append([]byte(`"text":`), quoted...)
}

// envelope is the frame of a push to a connection that resumes.
func envelope(at Offset, kept bool, body []byte) []byte {
	b := make([]byte, 0, len(body)+96)
	b = append(b, `{"action":"push",`...)
	if kept {
		b = append(b, `"offset":"`...)
		b = append(b, at.String()...)
		b = append(b, `",`...)
	}
	return append(append(b, body...), '}')
}

// lostFrame tells a client that resumes that something is lost.
func lostFrame(now Offset) []byte {
	return []byte(`{"action":"resume","recovered":false,"offset":"` + now.String() + `"}`)
}

// keptBody is what a store keeps of a push with an id.
func (p *Push) keptBody(id string) []byte {
	s := keptSelector{Except: p.Except}
	if p.broad() {
		s.All, s.Types, s.IDs = p.To.All, p.To.Types, p.To.IDs
	}
	b, _ := json.Marshal(s) // plain values
	return append(append(b, '\n'), frameBody(id, content(p.text(), p.Text != nil), p.Ack)...)
}

// broad reports whether the push goes to whoever is there, and not to users only.
func (p *Push) broad() bool { return p.To.All || len(p.To.Types) > 0 }

// split takes a kept body apart. A message of another version may not be readable.
func split(body []byte) (keptSelector, []byte, bool) {
	var s keptSelector
	head, rest, ok := bytes.Cut(body, []byte("\n"))
	return s, rest, ok && json.Unmarshal(head, &s) == nil
}

// names reports whether a message that is kept for many is for a connection.
func (s *keptSelector) names(id ConnID, m *Member) bool {
	return (s.All || slices.Contains(s.Types, m.Type) || slices.Contains(s.IDs, m.ID)) && !s.leavesOut(id, m)
}

func (s *keptSelector) leavesOut(id ConnID, m *Member) bool {
	return slices.Contains(s.Except.IDs, m.ID) || slices.Contains(s.Except.Types, m.Type) || slices.Contains(s.Except.Conns, id)
}

// merge puts the messages of both series into one order, and leaves those out that
// are not for this connection.
func (r *resumption) merge(rec *Recovered) []*keptMessage {
	id, member := r.hub.ConnID(r.a), r.a.member.Load()
	if member == nil {
		return nil // it is about to end
	}
	var out []*keptMessage
	add := func(k Kept, toMany bool, epoch string) {
		s, body, ok := split(k.Body)
		if !ok || s.leavesOut(id, member) || toMany && !s.names(id, member) {
			return
		}
		out = append(out, &keptMessage{toMany: toMany, place: Place{epoch, k.Seq}, body: body})
	}
	user, hub := rec.User, rec.Hub
	for len(user) > 0 || len(hub) > 0 {
		if len(hub) == 0 || len(user) > 0 && user[0].Order <= hub[0].Order {
			add(user[0], false, rec.Now.User.Epoch)
			user = user[1:]
		} else {
			add(hub[0], true, rec.Now.Hub.Epoch)
			hub = hub[1:]
		}
	}
	return out
}
