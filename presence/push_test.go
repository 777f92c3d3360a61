package presence_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

func decode(t *testing.T, body string) *presence.Push {
	t.Helper()
	p, err := presence.DecodePush([]byte(body))
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return p
}

func (f *fixture) push(body string) presence.PushResult {
	f.Helper()
	r, err := f.hub.Push(f.Context(), decode(f.T, body))
	if err != nil {
		f.Fatalf("%s: %v", body, err)
	}
	return r
}

func TestPushSelects(t *testing.T) {
	f := newFixture(t, func(s *presence.Settings) { s.Sessions.Max = 2 })
	ann1 := f.open(`{"action":"open","id":1,"type":"driver"}`)
	ann2 := f.open(`{"action":"open","id":"1","type":"driver"}`)
	bob := f.open(`{"action":"open","id":"bob","type":"driver"}`)
	eve := f.open(`{"action":"open","id":3,"type":"rider"}`)
	none := f.attach()
	annID := f.hub.ConnID(ann1.Attachment()).String()
	for _, test := range []struct {
		to      string
		matched int
		offline string
		conns   []*conn
	}{
		{`"to":{"ids":[1]}`, 1, "[]", []*conn{ann1, ann2}},
		{`"to":{"ids":["1",1,"x","x","bob"]}`, 2, "[x]", []*conn{ann1, ann2, bob}},
		{`"to":{"ids":["01"]}`, 0, "[01]", nil},
		{`"to":{"types":["driver"]}`, 2, "[]", []*conn{ann1, ann2, bob}},
		{`"to":{"types":["driver","rider","x"]}`, 3, "[]", []*conn{ann1, ann2, bob, eve}},
		{`"to":{"all":true}`, 3, "[]", []*conn{ann1, ann2, bob, eve}},
		{`"to":{"conns":["` + annID + `","nobody.1"]}`, 1, "[]", []*conn{ann1}},
		{`"to":{"ids":[3,1],"types":["driver"],"conns":["` + annID + `"]}`, 3, "[]", []*conn{ann1, ann2, bob, eve}},
		{`"to":{"all":true},"except":{"ids":[1]}`, 2, "[]", []*conn{bob, eve}},
		{`"to":{"all":true},"except":{"types":["driver"]}`, 1, "[]", []*conn{eve}},
		{`"to":{"ids":[1,3]},"except":{"conns":["` + annID + `"]}`, 2, "[]", []*conn{ann2, eve}},
		{`"to":{"ids":[1]},"except":{"ids":["1"]}`, 0, "[]", nil},
	} {
		r := f.push(`{` + test.to + `,"data":{"a": 1}}`)
		if r.Matched != test.matched || r.Sent != len(test.conns) || r.Dropped != 0 || r.Unconfirmed != 0 ||
			fmt.Sprint(r.Offline) != test.offline || r.ID == "" {
			t.Errorf("%s: got %+v", test.to, r)
		}
		for _, c := range []*conn{ann1, ann2, bob, eve, none} {
			want := 0
			for _, w := range test.conns {
				if w == c {
					want = 1
				}
			}
			if got := c.take(); len(got) != want || want == 1 && got[0] != `{"a": 1}` {
				t.Errorf("%s: a connection got %q, want %d", test.to, got, want)
			}
		}
	}
}

func TestPushText(t *testing.T) {
	f := newFixture(t)
	c := f.open(`{"action":"open","id":1}`)
	long := strings.Repeat("é", presence.MaxPushSize/2)
	for body, want := range map[string]string{
		`"text":"hi \"é\" \u00e9"`:    `hi "é" é`,
		`"text":""`:                   ``,
		`"data":null`:                 `null`,
		`"data": [1.0,  2] `:          `[1.0,  2]`,
		`"text":"` + long + `"`:       long,
		`"text":"` + long[:300] + `"`: long[:300],
	} {
		f.push(`{"to":{"ids":[1]},` + body + `}`)
		f.wantFrames(c, want)
	}
}

func TestLingeringIsNotReached(t *testing.T) {
	f := newFixture(t)
	c := f.open(`{"action":"open","id":1}`)
	f.hub.Detach(c, presence.CauseLost)
	f.wantState("1", "lingering")
	if r := f.push(`{"to":{"ids":[1]},"data":1}`); r.Matched != 0 || fmt.Sprint(r.Offline) != "[1]" {
		t.Errorf("got %+v", r)
	}
}

func TestPushRefused(t *testing.T) {
	f := newFixture(t)
	ids := make([]string, presence.MaxPushIDs+1)
	for i := range ids {
		ids[i] = fmt.Sprint(i)
	}
	for body, want := range map[string]error{
		``:                                          presence.ErrPushInvalid,
		`x`:                                         presence.ErrPushInvalid,
		`[]`:                                        presence.ErrPushInvalid,
		`{}`:                                        presence.ErrPushInvalid,
		`{"to":{"all":true},"data":1} {}`:           presence.ErrPushInvalid,
		`{"to":{"all":true}}`:                       presence.ErrPushInvalid,
		`{"data":1}`:                                presence.ErrPushInvalid,
		`{"to":{},"data":1}`:                        presence.ErrPushInvalid,
		`{"to":{"ids":[]},"data":1}`:                presence.ErrPushInvalid,
		`{"to":{"all":"yes"},"data":1}`:             presence.ErrPushInvalid,
		`{"to":{"ids":7},"data":1}`:                 presence.ErrPushInvalid,
		`{"to":{"ids":[7.5]},"data":1}`:             presence.ErrPushInvalid,
		`{"to":{"ids":[null]},"data":1}`:            presence.ErrPushInvalid,
		`{"to":{"ids":[""]},"data":1}`:              presence.ErrPushInvalid,
		`{"to":{"types":[7]},"data":1}`:             presence.ErrPushInvalid,
		`{"to":{"conns":["x"]},"data":1}`:           presence.ErrPushInvalid,
		`{"to":{"conns":[7]},"data":1}`:             presence.ErrPushInvalid,
		`{"to":{"all":true,"x":1},"data":1}`:        presence.ErrPushInvalid,
		`{"to":{"all":true},"data":1,"x":1}`:        presence.ErrPushInvalid,
		`{"to":{"all":true},"data":1,"text":"a"}`:   presence.ErrPushInvalid,
		`{"to":{"all":true},"text":7}`:              presence.ErrPushInvalid,
		`{"to":{"all":true},"data":"\xff"}`:         presence.ErrPushInvalid,
		`{"to":{"all":true},"data":1,"wait":2}`:     presence.ErrPushInvalid,
		`{"to":{"all":true},"data":1,"wait":"2"}`:   presence.ErrPushInvalid,
		`{"to":{"all":true},"data":1,"wait":"-1s"}`: presence.ErrPushInvalid,
		`{"to":{"all":true},"data":1,"wait":"1h"}`:  presence.ErrPushInvalid,
		`{"to":{"all":true},"data":1,"id":7}`:       presence.ErrPushInvalid,
		`{"to":{"all":true},"data":1,"id":"a\nb"}`:  presence.ErrPushInvalid,
		`{"to":{"all":true},"data":1,"id":"` + strings.Repeat("x", 200) + `"}`:             presence.ErrPushInvalid,
		`{"to":{"all":true},"except":{"all":true},"data":1}`:                               presence.ErrPushInvalid,
		`{"to":{"all":true},"text":"` + strings.Repeat("x", presence.MaxPushSize+1) + `"}`: presence.ErrPushTooBig,
		`{"to":{"ids":[` + strings.Join(ids, ",") + `]},"data":1}`:                         presence.ErrPushTooBig,
	} {
		p, err := presence.DecodePush([]byte(strings.ReplaceAll(body, `\xff`, "\xff")))
		if err == nil {
			_, err = f.hub.Push(t.Context(), p)
		}
		if !errors.Is(err, want) {
			t.Errorf("%.80s: got error %v, want %v", body, err, want)
		}
	}
}

func TestPushOnce(t *testing.T) {
	f := newFixture(t)
	c := f.open(`{"action":"open","id":1}`)
	const body = `{"to":{"ids":[1,2]},"data":{"n":1},"id":"order-1"}`
	first := f.push(body)
	again := f.push(`{"id":"order-1","to":{"ids":[1,2]},"data":{"n": 1},"wait":"1s"}`)
	if fmt.Sprint(first) != fmt.Sprint(again) || first.Sent != 1 || first.ID != "order-1" || fmt.Sprint(first.Offline) != "[2]" {
		t.Errorf("first %+v, again %+v", first, again)
	}
	f.wantFrames(c, `{"n":1}`)
	if _, err := f.hub.Push(t.Context(), decode(t, `{"to":{"ids":[1]},"data":{"n":2},"id":"order-1"}`)); !errors.Is(err, presence.ErrPushConflict) {
		t.Errorf("another push with the same id: got error %v", err)
	}
	f.wantFrames(c)
}

// TestPushOnceAtOnce makes the same push many times at once: it goes out once,
// and all have the same answer.
func TestPushOnceAtOnce(t *testing.T) {
	f := newFixture(t)
	c := f.open(`{"action":"open","id":1}`)
	var wg sync.WaitGroup
	results := make([]string, 20)
	for i := range results {
		wg.Go(func() {
			r, err := f.hub.Push(t.Context(), decode(t, `{"to":{"all":true},"text":"once","id":"x"}`))
			results[i] = fmt.Sprint(r, err)
		})
	}
	wg.Wait()
	f.wantFrames(c, "once")
	for _, r := range results {
		if r != results[0] {
			t.Errorf("one answer is %s, another %s", results[0], r)
		}
	}
}

// TestPushReport follows a message that waits in a queue.
func TestPushReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		slow, full, gone, fine := f.open(`{"action":"open","id":1}`), f.open(`{"action":"open","id":2}`),
			f.open(`{"action":"open","id":3}`), f.open(`{"action":"open","id":4}`)
		slow.answer, full.answer, gone.answer = presence.Queued, presence.Full, presence.Closed
		began := time.Now()
		r := f.push(`{"to":{"all":true},"text":"a","wait":"3s"}`)
		if r.Matched != 4 || r.Sent != 1 || r.Dropped != 2 || r.Unconfirmed != 1 || time.Since(began) != 3*time.Second {
			t.Errorf("after %v: got %+v", time.Since(began), r)
		}
		f.wantFrames(fine, "a")
		slow.flush() // late, and harmless

		began = time.Now()
		go func() {
			time.Sleep(time.Second)
			slow.flush()
		}()
		r = f.push(`{"to":{"ids":[1]},"text":"b"}`)
		if r.Sent != 1 || r.Unconfirmed != 0 || time.Since(began) != time.Second {
			t.Errorf("flushed after a second: got %+v after %v", r, time.Since(began))
		}
		began = time.Now()
		if r = f.push(`{"to":{"ids":[1]},"text":"c","wait":"0s"}`); r.Matched != 1 || time.Since(began) != 0 {
			t.Errorf("without a wait: got %+v after %v", r, time.Since(began))
		}
		synctest.Wait()
		if n := slow.flush(); n != 1 {
			t.Errorf("without a wait %d messages were delivered", n)
		}
	})
}
