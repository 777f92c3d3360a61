package storetest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

var minute = presence.Keeping{Window: time.Minute, Messages: 100}

type keepOption func(*presence.KeepRequest)

func (s *suite) keepRequest(body string, options ...keepOption) presence.KeepRequest {
	req := presence.KeepRequest{Hub: s.hub, Body: []byte(body), Keeping: minute}
	for _, o := range options {
		o(&req)
	}
	return req
}

func collapse(key string) keepOption {
	return func(r *presence.KeepRequest) { r.Collapse = key }
}

func keeping(k presence.Keeping) keepOption {
	return func(r *presence.KeepRequest) { r.Keeping = k }
}

func (s *suite) keep(id, body string, options ...keepOption) []presence.KeptUser {
	s.Helper()
	users, err := s.store.Keep(s.Context(), []presence.UserID{presence.UserID(id)}, s.keepRequest(body, options...))
	if err != nil {
		s.Fatalf("keeping: %v", err)
	}
	return users
}

func (s *suite) recover(id string, since presence.Offset, k presence.Keeping) presence.Recovered {
	s.Helper()
	r, err := s.store.Recover(s.Context(), s.hub, presence.UserID(id), since, k)
	if err != nil {
		s.Fatalf("recovering: %v", err)
	}
	return r
}

func bodies(messages []presence.Kept) []string {
	texts := make([]string, len(messages))
	for i, m := range messages {
		texts[i] = string(m.Body)
	}
	return texts
}

// wantMissed fails unless a user has missed just that.
func (s *suite) wantMissed(id string, since presence.Offset, want ...string) presence.Recovered {
	s.Helper()
	r := s.recover(id, since, minute)
	if got := bodies(r.User); !r.Complete || !slices.Equal(got, want) {
		s.Errorf("recovering %q: got %q, complete %v, want %q", id, got, r.Complete, want)
	}
	return r
}

func (s *suite) testKeepInOrder() {
	s.open(1, "7", "driver")
	if u := s.keep("7", "early"); len(u) != 1 || u[0].Place.Seq != 0 || u[0].Gone || len(u[0].Conns) != 1 {
		s.Errorf("keeping for one that does not resume: got %+v", u)
	}
	first := s.recover("7", presence.Offset{}, minute).Now
	odd := []string{"", "a b\tc\n", "\x00\xff 1 2 3", strings.Repeat("x", 64<<10)}
	for i, body := range odd {
		u := s.keep("7", body, collapse([]string{"", "1 2", "k", ""}[i]))
		if len(u) != 1 || u[0].Place != (presence.Place{Epoch: first.User.Epoch, Seq: first.User.Seq + int64(i) + 1}) {
			s.Fatalf("message %d: got %+v, behind %v", i, u, first)
		}
	}
	r := s.wantMissed("7", first, odd...)
	for i, m := range r.User {
		if m.Seq != first.User.Seq+int64(i)+1 || i > 0 && m.Order <= r.User[i-1].Order {
			s.Errorf("message %d has sequence %d, order %d", i, m.Seq, m.Order)
		}
	}
	s.wantMissed("7", r.Now)
	parsed, err := presence.ParseOffset(first.String())
	if err != nil || parsed != first {
		s.Errorf("%q was read as %v, %v", first, parsed, err)
	}
	if u := s.keep("nobody", "x"); len(u) != 0 {
		s.Errorf("keeping for one that is offline: got %+v", u)
	}
}

func (s *suite) testKeepCount() {
	s.open(1, "7", "driver")
	few := presence.Keeping{Window: time.Minute, Messages: 2}
	first := s.recover("7", presence.Offset{}, few).Now
	second := first
	second.User.Seq++
	for _, body := range []string{"a", "b", "c"} {
		s.keep("7", body, keeping(few))
	}
	if r := s.recover("7", first, few); r.Complete || len(r.User) > 0 {
		s.Errorf("one message is no longer kept: got %q, complete %v", bodies(r.User), r.Complete)
	}
	s.wantMissed("7", second, "b", "c")
}

func (s *suite) testKeepWindow() {
	s.open(1, "7", "driver")
	brief := presence.Keeping{Window: short, Messages: 100}
	first := s.recover("7", presence.Offset{}, brief).Now
	s.keep("7", "a", keeping(brief))
	s.eventually(func() bool { return !s.recover("7", first, brief).Complete }, func() string { return "the window does not end" })
	now := s.recover("7", presence.Offset{}, brief).Now
	s.wantMissed("7", now)
	s.keep("7", "b")
	s.wantMissed("7", now, "b")
	if r := s.recover("7", first, minute); r.Complete {
		s.Errorf("a lost message came back as %q", bodies(r.User))
	}
}

func (s *suite) testKeepTTL() {
	s.open(1, "7", "driver")
	first := s.recover("7", presence.Offset{}, minute).Now
	s.keep("7", "brief", func(r *presence.KeepRequest) { r.TTL = short })
	s.keep("7", "long", func(r *presence.KeepRequest) { r.TTL = time.Minute })
	var got []string
	s.eventually(func() bool {
		r := s.recover("7", first, minute)
		got = bodies(r.User)
		return r.Complete && slices.Equal(got, []string{"long"})
	}, func() string { return fmt.Sprintf("past the time of one: %q", got) })
}

func (s *suite) testCollapse() {
	s.open(1, "7", "driver")
	first := s.recover("7", presence.Offset{}, minute).Now
	s.keep("7", "at 1", collapse("position"))
	s.wantMissed("7", first, "at 1")
	s.keep("7", "at 2", collapse("position"))
	s.wantMissed("7", first, "at 2")
	s.keep("7", "news")
	s.keep("7", "other", collapse("positio"))
	s.keep("7", "at 3", collapse("position"))
	s.wantMissed("7", first, "news", "other", "at 3")
}

func (s *suite) testResumeBack() {
	s.open(1, "7", "driver")
	first := s.recover("7", presence.Offset{}, minute).Now
	s.close(1, "7", 0)
	u := s.keep("7", "a")
	if len(u) != 1 || !u[0].Gone || u[0].ID != "7" || u[0].Member != nil || u[0].Place.Seq == 0 {
		s.Fatalf("keeping for one that is gone: got %+v", u)
	}
	s.wantCount("", 0)
	s.open(2, "7", "driver")
	s.wantMissed("7", first, "a")
	if u := s.keep("7", "b"); len(u) != 1 || u[0].Gone || len(u[0].Conns) != 1 {
		s.Errorf("keeping for one that is back: got %+v", u)
	}
}

func (s *suite) testResumeTooLate() {
	s.open(1, "7", "driver")
	s.open(2, "8", "driver")
	brief := presence.Keeping{Window: short, Messages: 100}
	first := s.recover("7", presence.Offset{}, brief).Now
	stays := s.recover("8", presence.Offset{}, brief).Now
	s.recover("never", presence.Offset{}, brief) // it does not open
	s.close(1, "7", 0)
	s.close(2, "8", 0)
	s.open(3, "8", "driver")
	for _, id := range []string{"7", "never"} {
		s.eventually(func() bool { return len(s.keep(id, "a", keeping(brief))) == 0 },
			func() string { return id + " is kept for after the window" })
	}
	s.open(1, "7", "driver")
	s.eventually(func() bool { return !s.recover("7", first, brief).Complete }, func() string { return "back too late, it is complete" })
	if u := s.keep("8", "b"); len(u) != 1 || u[0].Place.Seq != stays.User.Seq+1 {
		s.Errorf("one that came back: got %+v, was at %v", u, stays)
	}
}

func (s *suite) testForeignOffsets() {
	s.open(1, "7", "driver")
	now := s.recover("7", presence.Offset{}, minute).Now
	s.keep("7", "a")
	change := func(fn func(*presence.Offset)) presence.Offset {
		o := now
		fn(&o)
		return o
	}
	for what, since := range map[string]presence.Offset{
		"nothing":       {},
		"future":        change(func(o *presence.Offset) { o.User.Seq += 2 }),
		"far future":    change(func(o *presence.Offset) { o.User.Seq = 1<<63 - 1 }),
		"past":          change(func(o *presence.Offset) { o.User.Seq-- }),
		"negative":      change(func(o *presence.Offset) { o.User.Seq = -1 << 63 }),
		"epoch":         change(func(o *presence.Offset) { o.User.Epoch = "other" }),
		"epoch of hub":  change(func(o *presence.Offset) { o.Hub.Epoch = "" }),
		"future of hub": change(func(o *presence.Offset) { o.Hub.Seq++ }),
	} {
		if r := s.recover("7", since, minute); r.Complete || r.User != nil || r.Hub != nil || r.Now.User.Seq != now.User.Seq+1 {
			s.Errorf("%s: got %+v", what, r)
		}
	}
	for _, text := range []string{"", "-", "a-1-b", "-0--0", "a-1-b-x", "a-01-b-1", "a-1-b-1-", "a--1-b-1", "a\n-1-b-1",
		"a-1-b-99999999999999999999", strings.Repeat("a", 200) + "-1-b-1"} {
		if o, err := presence.ParseOffset(text); err == nil {
			s.Errorf("%q was read as %v", text, o)
		}
	}
}

func (s *suite) testKeepForAll() {
	s.open(1, "7", "driver")
	first := s.recover("7", presence.Offset{}, minute).Now
	for i, body := range []string{"a", "b"} {
		place, err := s.store.KeepForAll(s.Context(), s.keepRequest(body))
		if want := (presence.Place{Epoch: first.Hub.Epoch, Seq: first.Hub.Seq + int64(i) + 1}); err != nil || place != want {
			s.Errorf("keeping for all: got %v, %v, want %v", place, err, want)
		}
		s.keep("7", "own "+body)
	}
	r := s.wantMissed("7", first, "own a", "own b")
	if got := bodies(r.Hub); !slices.Equal(got, []string{"a", "b"}) {
		s.Fatalf("the hub has kept %q", got)
	}
	if r.Hub[0].Order >= r.User[0].Order || r.User[0].Order >= r.Hub[1].Order {
		s.Errorf("the orders are %+v and %+v", r.Hub, r.User)
	}
	if r := s.recover("7", r.Now, minute); !r.Complete || len(r.Hub) != 0 {
		s.Errorf("up to date: got %+v", r)
	}
}

func (s *suite) testKeepForMany() {
	var ids []presence.UserID
	for n := range uint64(500) {
		id := fmt.Sprint(n)
		ids = append(ids, presence.UserID(id))
		if n%5 > 0 {
			s.open(n, id, "driver")
		}
		if n%5 > 1 {
			s.recover(id, presence.Offset{}, minute)
		}
	}
	users, err := s.store.Keep(s.Context(), ids, s.keepRequest("x"))
	if err != nil || len(users) != 400 {
		s.Fatalf("got %d users, %v", len(users), err)
	}
	for i, u := range users {
		n := i/4*5 + i%4 + 1
		if u.ID != ids[n] || u.Gone || (u.Place.Seq > 0) != (n%5 > 1) {
			s.Fatalf("user %d is %+v", n, u)
		}
	}
}

// testKeepWhileRecovering recovers again and again while messages are kept: each
// is seen once.
func (s *suite) testKeepWhileRecovering() {
	const workers, each = 4, 100
	s.open(1, "7", "driver")
	many := presence.Keeping{Window: time.Minute, Messages: 2 * workers * each}
	at := s.recover("7", presence.Offset{}, many).Now
	last := at.User.Seq + workers*each
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				if _, err := s.store.Keep(s.Context(), []presence.UserID{"7"}, s.keepRequest("x", keeping(many))); err != nil {
					s.Error(err)
				}
			}
		})
	}
	defer wg.Wait()
	s.eventually(func() bool {
		r := s.recover("7", at, many)
		for i, m := range r.User {
			if m.Seq != at.User.Seq+int64(i)+1 || !bytes.Equal(m.Body, []byte("x")) {
				s.Fatalf("behind %d came %d", at.User.Seq+int64(i), m.Seq)
			}
		}
		if !r.Complete || r.Now.User.Seq != at.User.Seq+int64(len(r.User)) {
			s.Fatalf("%d messages from %v to %v, complete %v", len(r.User), at, r.Now, r.Complete)
		}
		at = r.Now
		return at.User.Seq == last
	}, func() string { return fmt.Sprintf("at %d, want %d", at.User.Seq, last) })
}
