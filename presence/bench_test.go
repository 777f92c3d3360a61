package presence_test

import (
	"fmt"
	"testing"

	"go.uber.org/zap"

	"github.com/seed-57c14f3c/caddy-presence/presence"
	"github.com/seed-57c14f3c/caddy-presence/presence/memstore"
)

// sink is a connection that throws away.
type sink struct{ attachment presence.Attachment }

func (s *sink) Attachment() *presence.Attachment        { return &s.attachment }
func (s *sink) Send(*presence.Message) presence.Outcome { return presence.Sent }
func (s *sink) SendBurst(_ *presence.Burst, out []presence.Outcome) {
	clear(out) // presence.Sent
}
func (s *sink) Close(presence.CloseCode, string) {}

// benchHub is a hub with so many members, without sockets.
func benchHub(b *testing.B, n int) *presence.Hub {
	b.Helper()
	store := memstore.New()
	b.Cleanup(func() { _ = store.Shutdown(b.Context()) })
	hub := presence.NewHub("default")
	hub.Configure(presence.Settings{Store: store, Sessions: presence.Sessions{Max: 1}, Log: zap.NewNop()})
	for i := range n {
		c := new(sink)
		hub.Attach(c, "")
		hub.Receive(c, fmt.Appendf(nil, `{"action":"open","id":%d,"type":"driver","name":"User Name","phone":"+861380000000"}`, i))
	}
	return hub
}

// BenchmarkPushToOne selects and encodes; nothing is written to a network.
func BenchmarkPushToOne(b *testing.B) {
	for _, n := range []int{1000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("%d members", n), func(b *testing.B) {
			hub := benchHub(b, n)
			p := &presence.Push{To: presence.Selector{IDs: []presence.UserID{"7"}}, Data: []byte(`{"order":1}`)}
			b.ReportAllocs()
			for b.Loop() {
				if r, err := hub.Push(b.Context(), p); err != nil || r.Sent != 1 {
					b.Fatal(r, err)
				}
			}
		})
	}
}

// BenchmarkReceiveOpen decodes an open frame and registers its member.
func BenchmarkReceiveOpen(b *testing.B) {
	hub := benchHub(b, 10_000)
	c := new(sink)
	hub.Attach(c, "")
	frame := []byte(`{"action":"open","id":7,"type":"driver","name":"User Name","phone":"+861380000000","ref":1}`)
	b.ReportAllocs()
	for b.Loop() {
		hub.Receive(c, frame)
	}
}
