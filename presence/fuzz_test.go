package presence_test

import (
	"encoding/json"
	"testing"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// FuzzReceive gives any text to the protocol: it never panics, never closes the
// connection, answers at most one frame of JSON (or pong), and opens nobody but
// who was named.
func FuzzReceive(f *testing.F) {
	for _, frame := range []string{
		"ping", "", "{}", `{"action":"open","id":7,"type":"driver","name":"Ann","phone":"1"}`,
		`{"action":"open","id":"x","ref":1,"device":"d","beat":25}`, `{"action":"close","ref":"r"}`,
		`{"action":"otherEvent","n":[1,{"a":null}]}`, `{"action":"open","id":9007199254740993}`,
		`{"action":"open","id":"\ud800"}`, `{"action":"open","id":7,"id":8}`, `[[[[`, "\xff", `{"ref":1e999}`,
	} {
		f.Add([]byte(frame))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fx := newFixture(t)
		c := fx.attach()
		fx.hub.Receive(c, data)
		got := c.take()
		if len(got) > 1 || c.closed() != 0 {
			t.Fatalf("got %q, closed with %d", got, c.closed())
		}
		for _, frame := range got {
			if frame != "pong" && !json.Valid([]byte(frame)) {
				t.Errorf("answered %q", frame)
			}
		}
		page, err := fx.store.Members(t.Context(), "default", presence.MemberQuery{Limit: 10})
		if err != nil || len(page.Users) > 1 {
			t.Fatalf("members: %+v, %v", page.Users, err)
		}
		for _, u := range page.Users {
			var m struct{ ID presence.UserID }
			if err := json.Unmarshal(u.Member.JSON, &m); err != nil || m.ID != u.ID {
				t.Errorf("user %q is kept as %s", u.ID, u.Member.JSON)
			}
		}
	})
}

// FuzzPush gives any body to the API's decoder: it never panics, and what it
// takes can be pushed.
func FuzzPush(f *testing.F) {
	for _, body := range []string{
		`{"to":{"ids":[7,"x"],"types":["a"],"conns":["n.1"],"all":true},"except":{"ids":[1]},"data":{"a":1},"id":"k","wait":"1ms"}`,
		`{"to":{"all":true},"text":"x"}`, `{}`, ``, `null`, `{"to":null,"data":null}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := presence.DecodePush(body)
		if err != nil {
			return
		}
		fx := newFixture(t)
		c := fx.open(`{"action":"open","id":7}`)
		r, err := fx.hub.Push(t.Context(), p)
		if err == nil && r.Sent != len(c.take()) {
			t.Errorf("the result is %+v", r)
		}
	})
}
