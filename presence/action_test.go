package presence_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// actions are handlers of a test: what do returns ends an action.
type actions struct {
	do func(context.Context, *presence.Action) error
}

func (a actions) Takes(name string, binary bool) bool { return name != "none" }

func (a actions) Do(ctx context.Context, act *presence.Action) error { return a.do(ctx, act) }

// withActions are settings with actions.
func withActions(do func(context.Context, *presence.Action) error) func(*presence.Settings) {
	return func(s *presence.Settings) {
		s.Actions, s.ActionTimeout, s.MaxActions = actions{do}, 10*time.Second, 100
	}
}

func (f *fixture) expect(c *conn, want ...string) {
	f.Helper()
	if got := c.take(); !slices.Equal(got, want) {
		f.Fatalf("got %q, want %q", got, want)
	}
}

// TestActionAnswers checks what becomes of answers.
func TestActionAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, withActions(func(ctx context.Context, a *presence.Action) error {
			switch a.Name {
			case "line":
				return errors.Join(a.Line(ctx, []byte("1")), a.Line(ctx, []byte("2")), a.Reply(nil))
			case "binary answer":
				return a.Reply([]byte("\xff"))
			case "refused":
				return fmt.Errorf("so: %w", &presence.FrameError{Code: presence.ErrorRefused, Message: "no", Status: 403, Data: []byte(`[1]`)})
			case "failed":
				return errors.New("a secret")
			case "panics":
				panic("a secret")
			}
			return a.Reply(fmt.Appendf(nil, "%s %s %s", a.User, a.Type, a.Body))
		}))
		c := f.open(`{"action":"open","id":7,"type":"driver"}`)
		for frame, want := range map[string][]string{
			`{"action":"x"}`:                                {`7 driver {"action":"x"}`},
			`{"action":"x","ref":1}`:                        {`{"action":"reply","ref":1,"ok":true,"text":"7 driver {\"action\":\"x\",\"ref\":1}"}`},
			`{"action":"line"}`:                             {"1", "2"},
			`{"action":"line","ref":2}`:                     {"1", "2", `{"action":"reply","ref":2,"ok":true}`},
			`{"action":"binary answer"}`:                    {`{"action":"error","code":"backend_failed","message":"the action failed"}`},
			`{"action":"refused","ref":"a"}`:                {`{"action":"error","ref":"a","code":"refused","message":"no","status":403,"data":[1]}`},
			`{"action":"failed"}`:                           {`{"action":"error","code":"backend_failed","message":"the action failed"}`},
			`{"action":"panics"}`:                           {`{"action":"error","code":"backend_failed","message":"the action failed"}`},
			`{"action":"none"}`:                             {`{"action":"error","code":"unknown_action","message":"no action \"none\" here"}`},
			`{"action":"` + strings.Repeat("x", 129) + `"}`: {`{"action":"error","code":"bad_frame","message":"action must be a string of at most 128 bytes without control characters"}`},
		} {
			f.receive(c, frame)
			synctest.Wait()
			f.expect(c, want...)
		}
		if s := f.hub.Stats(); s.ActionsNow != 0 {
			t.Errorf("%d actions are under way", s.ActionsNow)
		}
	})
}

// TestActionLine checks order, the bounds, and who is cancelled when.
func TestActionLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		ended := make(chan error, 1000)
		f := newFixture(t, withActions(func(ctx context.Context, a *presence.Action) error {
			select {
			case <-release:
				return a.Reply([]byte(a.Name))
			case <-ctx.Done():
				ended <- ctx.Err()
				return ctx.Err()
			}
		}), func(s *presence.Settings) { s.MaxActions = 20 })
		ann, bob := f.attach(), f.attach()
		var want []string
		for n := range 18 {
			f.receive(ann, fmt.Sprintf(`{"action":"%d"}`, n))
			want = append(want, fmt.Sprint(n))
		}
		synctest.Wait()
		f.expect(ann, `{"action":"error","code":"too_fast","message":"16 actions of this connection are waiting; this one is not handled"}`)
		for range 4 {
			f.receive(bob, `{"action":"b"}`)
		}
		synctest.Wait() // the first runs
		f.expect(bob, `{"action":"error","code":"too_fast","message":"too many actions are under way here; this one is not handled"}`)
		synctest.Wait()
		f.hub.Detach(bob, presence.CauseLost)
		synctest.Wait()
		if err := <-ended; !errors.Is(err, context.Canceled) || len(ended) != 0 || f.hub.Stats().ActionsNow != 17 {
			t.Errorf("after the connection ended: %v, %d more, %d under way", err, len(ended), f.hub.Stats().ActionsNow)
		}
		close(release)
		synctest.Wait()
		f.expect(ann, want[:17]...)
		f.expect(bob)
	})
}

// TestActionHangs lets the next action run when one does not return in time, and
// counts it until it does.
func TestActionHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		late := make(chan error, 1)
		f := newFixture(t, withActions(func(ctx context.Context, a *presence.Action) error {
			if a.Name == "hangs" {
				<-release
				late <- a.Reply([]byte("late"))
				return nil
			}
			return a.Reply([]byte("next"))
		}))
		c := f.attach()
		f.receive(c, `{"action":"hangs"}`, `{"action":"next"}`)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		f.expect(c, `{"action":"error","code":"backend_failed","message":"the action took too long"}`, "next")
		if n := f.hub.Stats().ActionsNow; n != 1 {
			t.Errorf("%d actions are under way", n)
		}
		close(release)
		if err := <-late; err == nil {
			t.Error("the late answer was taken")
		}
		synctest.Wait()
		f.expect(c)
		if n := f.hub.Stats().ActionsNow; n != 0 {
			t.Errorf("%d actions are under way", n)
		}
	})
}

// TestActionStream waits for a slow client before it takes the next line.
func TestActionStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		lines := 0
		f := newFixture(t, withActions(func(ctx context.Context, a *presence.Action) error {
			for {
				if err := a.Line(ctx, []byte("x")); err != nil {
					return err
				}
				mu.Lock()
				lines++
				mu.Unlock()
			}
		}))
		c := f.attach()
		c.answer = presence.Queued
		f.receive(c, `{"action":"stream"}`)
		for n := range 3 {
			synctest.Wait()
			mu.Lock()
			if lines != n {
				t.Errorf("%d lines were taken, want %d", lines, n)
			}
			mu.Unlock()
			if n := c.flush(); n != 1 {
				t.Errorf("%d lines wait", n)
			}
		}
		f.hub.Detach(c, presence.CauseLost)
	})
}

// TestActionsReload lets what waits run on the newest settings.
func TestActionsReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var first presence.Settings
		f := newFixture(t, withActions(func(_ context.Context, a *presence.Action) error {
			<-release
			return a.Reply([]byte("old"))
		}), func(s *presence.Settings) { first = *s })
		c := f.attach()
		f.receive(c, `{"action":"a"}`, `{"action":"b"}`, `{"action":"c"}`)
		synctest.Wait()
		second := first
		tries := 0
		withActions(func(_ context.Context, a *presence.Action) error {
			if tries++; tries == 1 { // as if it were replaced at this moment
				third := first
				withActions(func(_ context.Context, a *presence.Action) error { return a.Reply([]byte("new")) })(&third)
				f.hub.Configure(third)
				return presence.ErrActionsRetired
			}
			return nil
		})(&second)
		f.hub.Configure(second)
		close(release)
		synctest.Wait()
		f.expect(c, "old", "new", "new")
	})
}
