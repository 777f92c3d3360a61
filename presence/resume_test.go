package presence_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// newKeeper is a hub that keeps messages.
func newKeeper(t *testing.T, change ...func(*presence.Settings)) *fixture {
	return newFixture(t, append([]func(*presence.Settings){func(s *presence.Settings) {
		s.Keeping = presence.Keeping{Window: 2 * time.Minute, Messages: 10}
	}}, change...)...)
}

// resumed is a frame to a connection that resumes.
type resumed struct {
	Action, Offset, Text string
	Data                 json.RawMessage
	Ack                  bool
	Recovered            *bool
}

// openResume opens a user, and returns the connection and the reply.
func (f *fixture) openResume(id, resume string) (*conn, resumed) {
	f.Helper()
	c := f.attach()
	f.receive(c, fmt.Sprintf(`{"action":"open","id":%q,"type":"driver","resume":%s,"ref":1}`, id, resume))
	frames := c.take()
	if len(frames) == 0 {
		f.Fatalf("opening with resume %s: no reply", resume)
	}
	c.got = append(c.got, frames[1:]...)
	var r resumed
	if err := json.Unmarshal([]byte(frames[0]), &r); err != nil || r.Action != "reply" {
		f.Fatalf("opening with resume %s: %s", resume, frames[0])
	}
	return c, r
}

// messages are the pushes among the frames of a connection, and the last offset.
func (f *fixture) messages(c *conn) (string, string) {
	f.Helper()
	var texts []string
	offset := ""
	for _, frame := range c.take() {
		var r resumed
		if err := json.Unmarshal([]byte(frame), &r); err != nil {
			f.Fatalf("a frame is %s", frame)
		}
		text := r.Text + string(r.Data)
		if r.Action != "push" {
			text = r.Action
		}
		texts = append(texts, text)
		if r.Offset != "" {
			offset = r.Offset
		}
	}
	return strings.Join(texts, " "), offset
}

func quoted(s string) string { return `"` + s + `"` }

// TestResume brings what was missed, in order, then what is new.
func TestResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newKeeper(t)
		ann, r := f.openResume("ann", "true")
		if r.Offset == "" || r.Recovered != nil {
			t.Fatalf("the reply is %+v", r)
		}
		f.push(`{"to":{"ids":["ann"]},"data":{"n":1}}`)
		f.push(`{"to":{"all":true},"text":"two"}`)
		got, offset := f.messages(ann)
		if got != `{"n":1} two` {
			t.Fatalf("got %s", got)
		}
		f.hub.Detach(ann, presence.CauseLost)
		if r := f.push(`{"to":{"ids":["ann"]},"text":"a"}`); r.Queued != 1 || len(r.Offline) != 1 || r.Sent != 0 {
			t.Errorf("the report is %+v", r)
		}
		f.push(`{"to":{"all":true},"text":"b"}`)
		f.push(`{"to":{"types":["rider"]},"text":"for riders"}`)
		f.push(`{"to":{"types":["driver"]},"text":"c"}`)
		f.push(`{"to":{"all":true},"except":{"ids":["ann"]},"text":"for others"}`)
		f.push(`{"to":{"ids":["ann"]},"text":"d"}`)
		f.push(`{"to":{"all":true,"ids":["ann"]},"text":"e"}`)
		bob, r := f.openResume("ann", quoted(offset))
		if r.Recovered == nil || !*r.Recovered || r.Offset != offset {
			t.Fatalf("the reply is %+v, want offset %s", r, offset)
		}
		f.push(`{"to":{"ids":["ann"]},"text":"f"}`)
		f.push(`{"to":{"all":true},"text":"g"}`)
		got, last := f.messages(bob)
		if got != "a b c d e f g" {
			t.Fatalf("got %s", got)
		}
		f.hub.Detach(bob, presence.CauseLost)
		eve, r := f.openResume("ann", quoted(last))
		if got, _ := f.messages(eve); got != "" || !*r.Recovered {
			t.Errorf("nothing was missed: got %s, %+v", got, r)
		}
		f.hub.Detach(eve, presence.CauseLost)
		again, _ := f.openResume("ann", quoted(offset)) // from further back
		if got, _ := f.messages(again); got != "a b c d e f g" {
			t.Errorf("got %s", got)
		}
		if s := f.hub.Stats(); s.Resumed != 3 || s.NotRecovered != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestResumeRaw leaves connections alone that do not resume, on any hub, and one that
// asks where nothing is kept.
func TestResumeRaw(t *testing.T) {
	f := newKeeper(t, func(s *presence.Settings) { s.Sessions.Max = 2 })
	ann, _ := f.openResume("7", "true")
	bob := f.open(`{"action":"open","id":"7","resume":false}`)
	f.push(`{"to":{"ids":["7"]},"data":{"n": 1}}`)
	f.push(`{"to":{"all":true},"text":"all"}`)
	f.wantFrames(bob, `{"n": 1}`, "all")
	if got, _ := f.messages(ann); got != `{"n": 1} all` {
		t.Errorf("got %s", got)
	}
	f.push(fmt.Sprintf(`{"to":{"conns":[%q]},"text":"you"}`, f.hub.ConnID(ann.Attachment())))
	if got, offset := f.messages(ann); got != "you" || offset != "" {
		t.Errorf("got %s with offset %s, which is not kept", got, offset)
	}
	f.receive(bob, `{"action":"ack","offset":"x-1-x-1"}`)
	if got := bob.take(); len(got) != 1 || !strings.Contains(got[0], "unknown_action") {
		t.Errorf("got %s", got)
	}
	plain := newFixture(t)
	eve, r := plain.openResume("7", "true")
	if r.Offset != "" || r.Recovered != nil {
		t.Errorf("the reply is %+v", r)
	}
	plain.push(`{"to":{"ids":["7"]},"text":"raw"}`)
	plain.wantFrames(eve, "raw")
	if _, r := plain.openResume("7", `"x-1-x-1"`); r.Recovered == nil || *r.Recovered {
		t.Errorf("the reply is %+v", r)
	}
	if _, err := plain.hub.Push(t.Context(), &presence.Push{To: presence.Selector{All: true}, Data: []byte("1"), Ack: true}); err == nil {
		t.Error("receipts are asked for where nobody can give any")
	}
}

// TestResumeLost tells a client that something may be missing.
func TestResumeLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newKeeper(t)
		ann, r := f.openResume("7", "true")
		first := r.Offset
		f.hub.Detach(ann, presence.CauseLost)
		for n := range 11 { // one more than is kept
			f.push(fmt.Sprintf(`{"to":{"ids":["7"]},"data":%d}`, n))
		}
		lost := func(resume string) string {
			t.Helper()
			c, r := f.openResume("7", resume)
			if r.Recovered == nil || *r.Recovered || r.Offset == "" {
				t.Errorf("resume %s: %+v", resume, r)
			}
			if got, _ := f.messages(c); got != "" {
				t.Errorf("resume %s: got %s", resume, got)
			}
			f.push(`{"to":{"ids":["7"]},"text":"live"}`)
			got, offset := f.messages(c)
			if got != "live" {
				t.Errorf("resume %s: got %s", resume, got)
			}
			f.hub.Detach(c, presence.CauseLost)
			return offset
		}
		last := lost(quoted(first))
		future, _ := presence.ParseOffset(last)
		future.User.Seq += 1000
		foreign, _ := presence.ParseOffset(last)
		foreign.Hub.Epoch = "other"
		for _, resume := range []string{quoted("x"), quoted(""), quoted("a-b-c-d"), quoted(future.String()), quoted(foreign.String())} {
			last = lost(resume)
		}
		f.push(`{"to":{"ids":["7"]},"text":"x"}`)
		time.Sleep(10 * time.Minute) // gone for longer than the window
		lost(quoted(last))
		c := f.attach()
		f.receive(c, `{"action":"open","id":"7","resume":7}`, `{"action":"open","id":"7","resume":{}}`)
		if got := c.take(); len(got) != 2 || !strings.Contains(got[1], "bad_open") {
			t.Errorf("got %s", got)
		}
	})
}

// TestResumeOrder has many push to a user at once: each message arrives once, by its
// number.
func TestResumeOrder(t *testing.T) {
	f := newKeeper(t, func(s *presence.Settings) { s.Keeping.Messages = 1000 })
	ann, r := f.openResume("7", "true")
	last, err := presence.ParseOffset(r.Offset)
	if err != nil {
		t.Fatal(err)
	}
	const pushers, each = 8, 50
	var wg sync.WaitGroup
	for n := range pushers {
		wg.Go(func() {
			for i := range each {
				to := `{"ids":["7"]}`
				if i%3 == 0 {
					to = `{"all":true}`
				}
				f.push(fmt.Sprintf(`{"to":%s,"data":[%d,%d]}`, to, n, i))
			}
		})
	}
	wg.Wait()
	frames := ann.take()
	if len(frames) != pushers*each {
		t.Fatalf("%d frames, want %d", len(frames), pushers*each)
	}
	next := make([]int, pushers)
	for _, frame := range frames {
		var m resumed
		var data [2]int
		if json.Unmarshal([]byte(frame), &m) != nil || json.Unmarshal(m.Data, &data) != nil {
			t.Fatalf("a frame is %s", frame)
		}
		o, err := presence.ParseOffset(m.Offset)
		if err != nil || o.User.Seq-last.User.Seq+o.Hub.Seq-last.Hub.Seq != 1 {
			t.Fatalf("offset %v comes behind %v, %v", o, last, err)
		}
		last = o
		if next[data[0]]++; next[data[0]] != data[1]+1 {
			t.Errorf("of pusher %d, %d comes as number %d", data[0], data[1], next[data[0]]-1)
		}
	}
}

// TestResumeSlow fetches what did not fit into a queue when it does.
func TestResumeSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newKeeper(t)
		ann, _ := f.openResume("7", "true")
		ann.answer = presence.Full
		if r := f.push(`{"to":{"ids":["7"]},"text":"a"}`); r.Dropped != 1 {
			t.Errorf("the report is %+v", r)
		}
		f.push(`{"to":{"all":true},"text":"b","wait":"10ms"}`)
		ann.answer = presence.Sent
		f.push(`{"to":{"ids":["7"]},"text":"c","wait":"10ms"}`)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		f.push(`{"to":{"ids":["7"]},"text":"d"}`)
		if got, _ := f.messages(ann); got != "a b c d" {
			t.Errorf("got %s", got)
		}
	})
}

// TestReceipts waits for receipts, and tells of users that give none.
func TestReceipts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := new(events)
		f := newKeeper(t, func(s *presence.Settings) { s.Events = e })
		t.Cleanup(func() { f.hub.EndEvents(0) })
		ann, _ := f.openResume("ann", "true")
		bob, _ := f.openResume("bob", "true")
		f.open(`{"action":"open","id":"eve"}`)
		time.Sleep(time.Second)
		synctest.Wait()
		e.got = nil
		result := make(chan presence.PushResult)
		go func() { result <- f.push(`{"to":{"ids":["ann","bob","eve","dan"]},"text":"x","ack":true,"wait":"5s"}`) }()
		synctest.Wait()
		got, offset := f.messages(ann)
		if got != "x" {
			t.Fatalf("got %s", got)
		}
		f.receive(ann, fmt.Sprintf(`{"action":"ack","offset":%q,"ref":2}`, offset))
		f.wantFrames(ann, `{"action":"reply","ref":2,"ok":true}`)
		r := <-result
		if r.Acked != 1 || r.Sent != 3 || r.Matched != 3 {
			t.Errorf("the report is %+v", r)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		e.mu.Lock()
		if text := fmt.Sprint(slices.Sorted(slices.Values(e.got))); text != "[undelivered bob  undelivered dan  undelivered eve ]" {
			t.Errorf("told %s", text)
		}
		e.mu.Unlock()
		// All have confirmed: nobody waits.
		f.messages(bob)
		go func() { result <- f.push(`{"to":{"types":["driver"]},"text":"y","ack":true,"wait":"30s"}`) }()
		synctest.Wait()
		for _, c := range []*conn{ann, bob} {
			_, offset := f.messages(c)
			f.receive(c, fmt.Sprintf(`{"action":"ack","offset":%q}`, offset))
		}
		synctest.Wait()
		select {
		case r := <-result:
			if r.Acked != 2 {
				t.Errorf("the report is %+v", r)
			}
		default:
			t.Error("the push waits for nobody")
		}
		for _, bad := range []string{`7`, `null`, `"x"`, `"` + strings.Repeat("x", 200) + `"`} {
			f.receive(ann, `{"action":"ack","offset":`+bad+`}`)
			if got := ann.take(); len(got) != 1 || !strings.Contains(got[0], "bad_frame") {
				t.Errorf("offset %s: got %s", bad, got)
			}
		}
		future, _ := presence.ParseOffset(offset)
		future.User.Seq += 1000
		f.receive(ann, fmt.Sprintf(`{"action":"ack","offset":%q}`, future))
		if got := ann.take(); len(got) != 1 || !strings.Contains(got[0], "bad_frame") {
			t.Errorf("from the future: got %s", got)
		}
		// One who closes is not waited for.
		go func() { result <- f.push(`{"to":{"ids":["bob"]},"text":"z","ack":true,"wait":"30s"}`) }()
		synctest.Wait()
		f.receive(bob, `{"action":"close"}`)
		synctest.Wait()
		select {
		case r := <-result:
			if r.Acked != 0 || r.Sent != 1 {
				t.Errorf("the report is %+v", r)
			}
		default:
			t.Error("the push waits for one who has gone")
		}
	})
}

// away is a store that cannot be reached for a while.
type away struct {
	presence.Store
	gone atomic.Bool
}

func (a *away) Recover(ctx context.Context, hub string, user presence.UserID, since presence.Offset, k presence.Keeping) (presence.Recovered, error) {
	if a.gone.Load() {
		return presence.Recovered{}, presence.ErrStoreUnavailable
	}
	return a.Store.Recover(ctx, hub, user, since, k)
}

// TestResumeAway has clients come back while the store cannot say what they have
// missed: they get it later.
func TestResumeAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store *away
		f := newKeeper(t, func(s *presence.Settings) {
			store = &away{Store: s.Store}
			s.Store = store
		})
		ann, _ := f.openResume("7", "true")
		f.push(`{"to":{"ids":["7"]},"text":"a"}`)
		_, offset := f.messages(ann)
		f.hub.Detach(ann, presence.CauseLost)
		f.push(`{"to":{"ids":["7"]},"text":"b"}`)
		store.gone.Store(true)
		bob, r := f.openResume("7", quoted(offset))
		if r.Offset != offset || !*r.Recovered {
			t.Errorf("the reply is %+v", r)
		}
		eve, r := f.openResume("8", "true")
		if r.Offset == "" || r.Recovered != nil {
			t.Errorf("the reply is %+v", r)
		}
		f.push(`{"to":{"ids":["7","8"]},"text":"c","wait":"10ms"}`)
		f.push(fmt.Sprintf(`{"to":{"conns":[%q]},"text":"d"}`, f.hub.ConnID(bob.Attachment())))
		if got, _ := f.messages(bob); got != "d" { // which is not kept, and so does not wait
			t.Errorf("got %s", got)
		}
		time.Sleep(5 * time.Second)
		store.gone.Store(false)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got, _ := f.messages(bob); got != "b c" {
			t.Errorf("got %s", got)
		}
		f.push(`{"to":{"ids":["7","8"]},"text":"e"}`)
		if got, _ := f.messages(bob); got != "e" {
			t.Errorf("got %s", got)
		}
		if got, _ := f.messages(eve); got != "c e" {
			t.Errorf("the other got %s", got)
		}
	})
}
