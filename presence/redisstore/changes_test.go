package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/seed-57c14f3c/caddy-presence/presence"
	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore"
	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore/redistest"
)

// member is a connection that takes everything.
type member struct{ attachment presence.Attachment }

func (*member) Send(*presence.Message) presence.Outcome { return presence.Sent }

func (*member) SendBurst(b *presence.Burst, outcomes []presence.Outcome) {
	for i := range b.Messages {
		outcomes[i] = presence.Sent
	}
}

func (*member) Close(presence.CloseCode, string) {}

func (m *member) Attachment() *presence.Attachment { return &m.attachment }

// told notes who came online and went offline.
type told struct {
	mu  sync.Mutex // guards the field below
	got []string
}

func (*told) Wants(kind presence.EventKind) bool {
	return kind == presence.EventOnline || kind == presence.EventOffline
}

func (*told) Emit(*presence.Event) {}

func (e *told) Tell(_ context.Context, ev *presence.Event) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.got = append(e.got, strings.TrimSpace(fmt.Sprintf("%s %s %s", ev.Kind, ev.Member.ID, ev.Cause)))
	return nil
}

func (e *told) all() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.got)
}

// following is a hub of a store whose events are told.
func following(t *testing.T, s *redisstore.Store) (*presence.Hub, *told) {
	t.Helper()
	hub, events := presence.NewHub("default"), new(told)
	hub.Configure(presence.Settings{
		Store: s, Sessions: presence.Sessions{Max: 1}, Events: events, ActionTimeout: time.Second, Log: zap.NewNop(),
	})
	t.Cleanup(func() { hub.EndEvents(0) })
	return hub, events
}

func come(t *testing.T, hub *presence.Hub, id string) *member {
	t.Helper()
	m := new(member)
	hub.Attach(m, "")
	hub.Receive(m, fmt.Appendf(nil, `{"action":"open","id":%q}`, id))
	if m.attachment.Member() == nil {
		t.Fatalf("%s is not open", id)
	}
	return m
}

// eventually waits for a condition.
func eventually(t *testing.T, is func() bool, not func() string) {
	t.Helper()
	for until := time.Now().Add(10 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal(not())
		}
	}
}

// TestTurnLost has Redis lose who has the turn, and up to where it is told: a process
// that never had it takes it, and tells what comes.
func TestTurnLost(t *testing.T) {
	server := redistest.Start(t)
	cfg := redisstore.Config{URLs: []string{server.URL()}, Prefix: "turn", Lease: time.Second}
	a, b := open(t, cfg), open(t, cfg)
	t.Cleanup(func() { _, _ = a.Shutdown(context.Background()), b.Shutdown(context.Background()) })
	at, err := a.Position(t.Context(), "default")
	if err != nil {
		t.Fatal(err)
	}
	client, keys := server.Client(), []string{"turn:{g}:turn:default", "turn:{g}:told:default"}
	client.Set(t.Context(), keys[0], "another", 0) // has the turn, and keeps it
	client.Set(t.Context(), keys[1], at.String(), 0)
	hub, events := following(t, b)
	come(t, hub, "ann") // the follower has begun
	client.Del(t.Context(), keys...)
	eventually(t, func() bool { return client.Get(t.Context(), keys[0]).Val() != "" }, func() string { return "nobody takes the turn" })
	come(t, hub, "bob")
	eventually(t, func() bool { return slices.Contains(events.all(), "online bob") },
		func() string { return fmt.Sprintf("told %q, want also that bob is online", events.all()) })
}

// changesOf returns what the changes behind a position are.
func changesOf(t *testing.T, s *redisstore.Store, at presence.Position) ([]string, error) {
	t.Helper()
	var texts []string
	for {
		changes, next, err := s.Changes(t.Context(), "default", at)
		if err != nil || len(changes) == 0 {
			return texts, err
		}
		for _, ch := range changes {
			texts = append(texts, fmt.Sprintf("%s %s", ch.Kind, ch.Member.ID))
		}
		at = next
	}
}

func openConn(t *testing.T, s *redisstore.Store, num uint64, id string, quiet bool) {
	t.Helper()
	req := presence.OpenRequest{
		Hub: "default", Conn: presence.ConnID{Node: s.Node(), Num: num}, Max: 1, Quiet: quiet,
		Member: &presence.Member{ID: presence.UserID(id), JSON: []byte(`{}`)},
	}
	if res, err := s.Open(t.Context(), req); err != nil || !res.Accepted {
		t.Fatalf("opening %s: %+v, %v", id, res, err)
	}
}

func closeConn(t *testing.T, s *redisstore.Store, num uint64, id string, linger time.Duration) {
	t.Helper()
	gone := presence.Departure{User: presence.UserID(id), Conn: presence.ConnID{Node: s.Node(), Num: num}, Linger: linger, Cause: presence.CauseLost}
	if _, err := s.Close(t.Context(), "default", []presence.Departure{gone}); err != nil {
		t.Fatal(err)
	}
}

// TestPositionOfEarlierLife follows from a position that was given before Redis was
// emptied, when as much has changed since as had before.
func TestPositionOfEarlierLife(t *testing.T) {
	server := redistest.Start(t)
	s := open(t, redisstore.Config{URLs: []string{server.URL()}, Prefix: "life"})
	t.Cleanup(func() { _ = s.Shutdown(context.Background()) })
	if _, err := s.Position(t.Context(), "default"); err != nil {
		t.Fatal(err)
	}
	openConn(t, s, 1, "ann", false)
	at, err := s.Position(t.Context(), "default")
	if err != nil {
		t.Fatal(err)
	}
	server.Flush()
	if _, err := s.Position(t.Context(), "default"); err != nil { // somebody else listens
		t.Fatal(err)
	}
	for n := range uint64(3) {
		openConn(t, s, 2+n, "ann", false)
		closeConn(t, s, 2+n, "ann", 0)
	}
	if texts, err := changesOf(t, s, at); !errors.Is(err, presence.ErrChangesLost) {
		t.Errorf("changes %q, %v; want that some are lost", texts, err)
	}
}

// TestChangesNotWritten follows from a position behind which some changes were not
// written down, because nobody listened, between others that were.
func TestChangesNotWritten(t *testing.T) {
	server := redistest.Start(t)
	s := open(t, redisstore.Config{URLs: []string{server.URL()}, Prefix: "gap"})
	t.Cleanup(func() { _ = s.Shutdown(context.Background()) })
	at, err := s.Position(t.Context(), "default")
	if err != nil {
		t.Fatal(err)
	}
	openConn(t, s, 1, "ann", false)
	for p := range 64 {
		server.Client().HSet(t.Context(), fmt.Sprintf("gap:{p%d}:m", p), "w", 1) // time is over
	}
	closeConn(t, s, 1, "ann", 0)
	openConn(t, s, 2, "ann", false)
	if _, err := s.Position(t.Context(), "default"); err != nil { // somebody listens again
		t.Fatal(err)
	}
	closeConn(t, s, 2, "ann", 0)
	if texts, err := changesOf(t, s, at); !errors.Is(err, presence.ErrChangesLost) {
		t.Errorf("changes %q, %v; want that some are lost", texts, err)
	}
}
