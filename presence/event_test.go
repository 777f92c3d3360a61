package presence_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// events note what they are told, and answer with fail.
type events struct {
	mu   sync.Mutex // guards the fields below
	got  []string
	fail func(*presence.Event) error
}

func (*events) Wants(presence.EventKind) bool { return true }

func (*events) Emit(*presence.Event) {}

func (e *events) Tell(_ context.Context, ev *presence.Event) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.got = append(e.got, fmt.Sprintf("%s %s %s", ev.Kind, ev.Member.ID, ev.Cause))
	if e.fail != nil {
		return e.fail(ev)
	}
	return nil
}

// expect wants these events since the last call.
func (e *events) expect(t *testing.T, want ...string) {
	t.Helper()
	time.Sleep(200 * time.Millisecond) // the store is asked for changes now and then
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	if !slices.Equal(e.got, want) {
		t.Fatalf("told %q, want %q", e.got, want)
	}
	e.got = nil
}

func newEvents(t *testing.T) (*fixture, *events) {
	e := new(events)
	f := newFixture(t, func(s *presence.Settings) {
		s.Events, s.ActionTimeout, s.Grace = e, 10*time.Second, 10*time.Second
	})
	t.Cleanup(func() { f.hub.EndEvents(0) })
	return f, e
}

// TestEventsOfUser follows a user that comes and goes.
func TestEventsOfUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, e := newEvents(t)
		ann := f.open(`{"action":"open","id":7}`)
		e.expect(t, "open 7 ", "online 7 ")
		f.receive(ann, `{"action":"open","id":7,"name":"Ann"}`)
		e.expect(t, "open 7 ")
		f.receive(ann, `{"action":"close"}`)
		time.Sleep(time.Second)
		e.expect(t, "close 7 client", "offline 7 client")
		f.receive(ann, `{"action":"open","id":7}`)
		e.expect(t, "open 7 ", "online 7 ")
		f.hub.Detach(ann, presence.CauseLost)
		time.Sleep(5 * time.Second)
		bob := f.open(`{"action":"open","id":7}`)
		time.Sleep(time.Minute)
		e.expect(t, "close 7 lost", "open 7 ") // back in time
		f.hub.Detach(bob, presence.CauseLost)
		time.Sleep(11 * time.Second)
		e.expect(t, "close 7 lost", "offline 7 lost")
		eve := f.open(`{"action":"open","id":7}`)
		e.expect(t, "open 7 ", "online 7 ")
		f.receive(eve, `{"action":"close"}`, `{"action":"open","id":7}`)
		time.Sleep(time.Second)
		e.expect(t, "close 7 client", "open 7 ", "offline 7 client", "online 7 ")
		f.hub.Leave() // this node stops
		time.Sleep(5 * time.Minute)
		e.expect(t, "close 7 stop", "offline 7 stop")
	})
}

// TestEventsAgain tells again what is not taken, for some time.
func TestEventsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, e := newEvents(t)
		failures := 3
		e.fail = func(ev *presence.Event) error {
			if ev.Kind == presence.EventOpen && failures > 0 {
				failures--
				return errors.New("down")
			}
			return nil
		}
		f.open(`{"action":"open","id":7}`)
		f.open(`{"action":"open","id":8}`)
		time.Sleep(time.Second)
		synctest.Wait()
		if s := f.hub.Stats(); s.EventsTold != 4 || s.EventsGivenUp != 0 {
			t.Errorf("%+v", s)
		}
		e.fail = func(*presence.Event) error { return errors.New("down") }
		ann := f.open(`{"action":"open","id":9}`)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if s := f.hub.Stats(); s.EventsTold != 4 || s.EventsGivenUp != 2 {
			t.Errorf("%+v", s)
		}
		e.got = nil
		e.fail = func(*presence.Event) error { return &presence.FrameError{Code: presence.ErrorRefused} }
		f.receive(ann, `{"action":"open","id":9}`)
		time.Sleep(time.Minute)
		e.expect(t, "open 9 ")
	})
}

// TestEventsEnd gives up what cannot be told when the hub ends.
func TestEventsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, e := newEvents(t)
		e.fail = func(*presence.Event) error { return errors.New("down") }
		f.open(`{"action":"open","id":7}`)
		f.hub.EndEvents(3 * time.Second)
		synctest.Wait()
		f.hub.Leave()
		if s := f.hub.Stats(); s.EventsGivenUp != 3 {
			t.Errorf("%+v", s)
		}
	})
}

// TestEventsBound drops what is too much, and counts it.
func TestEventsBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, e := newEvents(t)
		e.fail = func(*presence.Event) error { return errors.New("down") }
		const users = 12_000
		for n := range users {
			f.open(fmt.Sprintf(`{"action":"open","id":%d}`, n))
		}
		if s := f.hub.Stats(); s.EventsGivenUp < users-10_100 || s.EventsGivenUp > users-10_000 {
			t.Errorf("%d events were given up", s.EventsGivenUp)
		}
		f.hub.EndEvents(0)
	})
}

// TestFields reads what a backend says of a member.
func TestFields(t *testing.T) {
	for text, ok := range map[string]bool{
		`{}`: true, `{"name":"Ann","id":7}`: true, `{"type":"driver"}`: true, ` {"a": [1, 2]} `: true,
		``: false, `[]`: false, `{`: false, `{"a":1,"a":2}`: false, `{"id":[]}`: false, `{"type":7}`: false,
		`{"action":"x"}`: false, `{"ref":1}`: false, `{"beat":1}`: false, `{"a":1} x`: false,
		`{"a":"` + string(make([]byte, 5000)) + `"}`: false,
	} {
		if _, id, err := presence.ParseFields([]byte(text)); (err == nil) != ok || ok && (id == "7") != (text == `{"name":"Ann","id":7}`) {
			t.Errorf("%.40s: %q, %v", text, id, err)
		}
	}
}
