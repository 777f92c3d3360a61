package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

const short = 100 * time.Millisecond

func (s *suite) testLinger() {
	s.open(1, "7", "driver")
	s.close(1, "7", time.Minute)
	users := s.lookup("7")
	if len(users) != 1 || !users[0].Lingering || len(users[0].Conns) != 0 {
		s.Fatalf("after a close with linger: got %+v", users)
	}
	if m := users[0].Member; m == nil || m.Type != "driver" || string(m.JSON) != `{"id":"7","type":"driver"}` {
		s.Errorf("the lingering member is %+v", m)
	}
	if since := users[0].Since; since <= 0 {
		s.Errorf("it lingers since %d", since)
	}
	s.wantCount("", 1)
	s.wantCount("driver", 1)
	if got := s.list("driver", 10); !slices.Equal(got, []string{"7"}) {
		s.Errorf("the list has %v", got)
	}
	if res := s.open(2, "7", "rider"); res.Online || !res.Accepted {
		s.Errorf("back in time: got %+v, want it online before", res)
	}
	s.wantConns("7", 2)
	s.wantCount("driver", 0)
	s.wantCount("rider", 1)
}

func (s *suite) testLingerAgain() {
	s.open(1, "7", "driver")
	s.close(1, "7", short)
	s.eventually(func() bool { return len(s.lookup("7")) == 0 }, func() string { return "the user lingers for ever" })
	if res := s.open(2, "7", "driver"); !res.Online {
		s.Error("back too late: want it offline before")
	}
	s.close(2, "7", short)
	s.open(3, "7", "driver")
	s.open(4, "other", "driver")
	s.close(4, "other", short)
	s.wantCount("", 1) // the other has gone, this one not
	s.wantConns("7", 3)
	if got := s.list("", 10); !slices.Equal(got, []string{"7"}) {
		s.Errorf("the list has %v", got)
	}
}

func (s *suite) testLingerOfSeveral() {
	s.open(1, "7", "driver", most(2))
	s.open(2, "7", "driver", most(2))
	s.close(2, "7", time.Minute)
	s.wantConns("7", 1)
	if s.lookup("7")[0].Lingering {
		s.Error("the user lingers with a connection left")
	}
	s.close(1, "7", time.Minute)
	if u := s.lookup("7"); len(u) != 1 || !u[0].Lingering {
		s.Errorf("the last one closed: got %+v", u)
	}
}

func (s *suite) testPages() {
	var want, drivers []string
	for n := range uint64(50) {
		id, typ := fmt.Sprintf("user-%d", n), "rider"
		if n%5 == 0 {
			typ = "driver"
			drivers = append(drivers, id)
		}
		s.open(n, id, typ)
		want = append(want, id)
	}
	slices.Sort(want)
	slices.Sort(drivers)
	for _, limit := range []int{1, 2, 7, 49, 50, 51, 1000} {
		if got := s.list("", limit); !slices.Equal(sorted(got), want) {
			s.Errorf("pages of %d: got %d users %v", limit, len(got), got)
		}
		if got := s.list("driver", limit); !slices.Equal(sorted(got), drivers) {
			s.Errorf("drivers by pages of %d: got %v", limit, got)
		}
	}
	if got := s.list("nobody", 10); len(got) != 0 {
		s.Errorf("of a type that nobody has: %v", got)
	}
}

// testPagesUnderChange lists while others come and go and those who stay open
// again with another type: who stays is listed exactly once.
func (s *suite) testPagesUnderChange() {
	const stay = 40
	for n := range uint64(stay) {
		s.open(n, fmt.Sprintf("stay-%d", n), "driver")
		s.open(100+n, fmt.Sprintf("go-%d", n), "driver")
	}
	seen := make(map[presence.UserID]int)
	step := uint64(0)
	for cursor := ""; ; {
		page, err := s.store.Members(s.Context(), s.hub, presence.MemberQuery{Limit: 3, Cursor: cursor})
		if err != nil {
			s.Fatal(err)
		}
		for _, u := range page.Users {
			seen[u.ID]++
		}
		if page.Next == "" {
			break
		}
		cursor = page.Next
		n := step % stay
		s.close(100+n, fmt.Sprintf("go-%d", n), 0)
		s.open(n, fmt.Sprintf("stay-%d", n), fmt.Sprintf("type%d", step))
		s.open(200+step, fmt.Sprintf("new-%d", step), "rider")
		if step++; step > 1000 {
			s.Fatal("the listing does not end")
		}
	}
	for n := range stay {
		if id := presence.UserID(fmt.Sprintf("stay-%d", n)); seen[id] != 1 {
			s.Errorf("%s was listed %d times", id, seen[id])
		}
	}
}

func (s *suite) testBadCursors() {
	for _, cursor := range []string{"x", "%%", "LTF8", "OTl8YQ", "fA", strings.Repeat("A", 5000)} {
		_, err := s.store.Members(s.Context(), s.hub, presence.MemberQuery{Limit: 1, Cursor: cursor})
		if !errors.Is(err, presence.ErrBadCursor) {
			s.Errorf("cursor %.20q: got error %v", cursor, err)
		}
	}
}

func (s *suite) testCount() {
	s.open(1, "a", "driver", most(3))
	s.open(2, "a", "rider", most(3))
	s.open(3, "a", "rider", most(3))
	s.open(4, "b", "rider", most(3))
	s.open(5, "c", "", most(3))
	s.wantCount("", 3)
	s.wantCount("driver", 1)
	s.wantCount("rider", 2)
	s.wantCount("r", 0)
	if got := sorted(s.list("", 1)); !slices.Equal(got, []string{"a", "b", "c"}) {
		s.Errorf("the list has %v", got)
	}
	s.close(2, "a", 0)
	s.wantCount("rider", 2)
	s.close(3, "a", 0)
	s.wantCount("rider", 1)
	s.close(5, "c", 0)
	s.wantCount("", 2)
}

func (s *suite) testHubs() {
	s.open(1, "7", "driver")
	other := *s
	other.hub = "other-hub"
	other.wantConns("7")
	other.wantCount("", 0)
	res := other.open(2, "7", "driver")
	if !res.Online {
		s.Error("opening in another hub: want the user offline before")
	}
	s.wantDisplaced(res)
	s.wantConns("7", 1)
	other.close(2, "7", 0)
	s.wantConns("7", 1)
	other.wantConns("7")
}

func (s *suite) testOddTexts() {
	texts := []string{
		"a b", `"`, `\`, "'", "{p1}", "a|b", "a:b", "-", ".", "*", "%", "é", "日本語", "🚕", "007", "-7",
		"18446744073709551616", "n:x", "[x", "(x", "+", "\u00a0", "\u2028", strings.Repeat("x", presence.MaxIDLength),
	}
	for i, text := range texts {
		s.open(uint64(i), text, text, seat(text), device(text), func(r *presence.OpenRequest) {
			r.Member = member(text, text, `,"big":"`+strings.Repeat("é\\n\\t", 400)+`"`)
		})
	}
	for i, text := range texts {
		s.wantConns(text, uint64(i))
		u := s.lookup(text)[0]
		if u.ID != presence.UserID(text) || u.Member.Type != text ||
			string(u.Member.JSON) != string(member(text, text, `,"big":"`+strings.Repeat("é\\n\\t", 400)+`"`).JSON) {
			s.Errorf("%q came back as %q, type %q", text, u.ID, u.Member.Type)
		}
		s.wantCount(text, 1)
	}
	if got := s.list("", 5); !slices.Equal(sorted(got), sorted(texts)) {
		s.Errorf("the list has %q", got)
	}
	for i, text := range texts {
		if !s.close(uint64(i), text, 0) {
			s.Errorf("%q was not there", text)
		}
	}
	s.wantCount("", 0)
	s.open(1, "big", "driver", func(r *presence.OpenRequest) {
		filler := strings.Repeat("x", presence.MaxMemberSize-len(member("big", "driver", `,"f":""`).JSON))
		r.Member = member("big", "driver", `,"f":"`+filler+`"`)
	})
	if n := len(s.lookup("big")[0].Member.JSON); n != presence.MaxMemberSize {
		s.Errorf("a member of %d bytes has %d now", presence.MaxMemberSize, n)
	}
}

func (s *suite) wantClaim(key, digest string, ttl time.Duration, want presence.ClaimState) presence.Claim {
	s.Helper()
	c, err := s.store.Claim(s.Context(), s.hub, key, digest, ttl)
	if err != nil {
		s.Fatalf("claiming %q: %v", key, err)
	}
	if c.State != want {
		s.Fatalf("claiming %q: got state %d, want %d", key, c.State, want)
	}
	return c
}

func (s *suite) settle(key, digest string, result []byte, ttl time.Duration) {
	s.Helper()
	if err := s.store.Settle(s.Context(), s.hub, key, digest, result, ttl); err != nil {
		s.Fatalf("settling %q: %v", key, err)
	}
}

func (s *suite) testClaims() {
	s.wantClaim("k", "digest1", time.Minute, presence.ClaimNew)
	s.wantClaim("k", "digest1", time.Minute, presence.ClaimPending)
	s.wantClaim("k", "digest2", time.Minute, presence.ClaimConflict)
	s.wantClaim("other", "digest2", time.Minute, presence.ClaimNew)
	s.settle("k", "digest2", []byte("not mine"), time.Minute)
	s.wantClaim("k", "digest1", time.Minute, presence.ClaimPending)
	s.settle("k", "digest1", []byte("{\"a\":\n1}"), time.Minute)
	if c := s.wantClaim("k", "digest1", time.Minute, presence.ClaimDone); string(c.Result) != "{\"a\":\n1}" {
		s.Errorf("the result is %q", c.Result)
	}
	s.wantClaim("k", "digest2", time.Minute, presence.ClaimConflict)
	s.settle("other", "digest2", nil, 0)
	s.wantClaim("other", "digest3", time.Minute, presence.ClaimNew)
	s.settle("never claimed", "digest", []byte("x"), time.Minute)
	s.wantClaim("never claimed", "digest", time.Minute, presence.ClaimNew)
	hub := s.hub
	s.hub = "elsewhere"
	s.wantClaim("k", "digest2", time.Minute, presence.ClaimNew)
	s.hub = hub
}

func (s *suite) testClaimsEnd() {
	s.wantClaim("k", "digest1", short, presence.ClaimNew)
	s.eventually(func() bool {
		c, err := s.store.Claim(s.Context(), s.hub, "k", "digest2", time.Minute)
		return err == nil && c.State == presence.ClaimNew
	}, func() string { return "a claim does not end" })
	s.settle("k", "digest2", []byte("x"), short)
	s.eventually(func() bool {
		c, err := s.store.Claim(s.Context(), s.hub, "k", "digest3", time.Minute)
		return err == nil && c.State == presence.ClaimNew
	}, func() string { return "a result does not end" })
}

func (s *suite) testCancelled() {
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	req := presence.OpenRequest{Hub: s.hub, Conn: s.conn(1), Member: member("7", "", ""), Max: 1}
	_, openErr := s.store.Open(ctx, req)
	_, closeErr := s.store.Close(ctx, s.hub, []presence.Departure{{User: "7", Conn: s.conn(1)}})
	_, lookupErr := s.store.Lookup(ctx, s.hub, []presence.UserID{"7"})
	_, pageErr := s.store.Members(ctx, s.hub, presence.MemberQuery{Limit: 1})
	_, countErr := s.store.Count(ctx, s.hub, "")
	_, claimErr := s.store.Claim(ctx, s.hub, "k", "d", time.Minute)
	for what, err := range map[string]error{
		"open": openErr, "close": closeErr, "lookup": lookupErr, "members": pageErr, "count": countErr, "claim": claimErr,
	} {
		if !errors.Is(err, context.Canceled) {
			s.Errorf("%s with a cancelled context: got error %v", what, err)
		}
	}
}

// testConcurrent lets workers open and close connections of the same users, and
// then checks that look-up, list and counts agree with what was accepted last.
func (s *suite) testConcurrent() {
	const workers, rounds, users = 8, 60, 10
	var wg sync.WaitGroup
	for w := range uint64(workers) {
		wg.Go(func() {
			for r := range uint64(rounds) {
				n := w*rounds + r
				id, typ := fmt.Sprint(n%users), fmt.Sprint(r%3)
				req := presence.OpenRequest{Hub: s.hub, Conn: s.conn(n), Member: member(id, typ, ""), Max: 3}
				if _, err := s.store.Open(s.Context(), req); err != nil {
					s.Error(err)
				}
				if r%2 == 0 {
					gone := []presence.Departure{{User: presence.UserID(id), Conn: s.conn(n), Linger: time.Duration(r%4) * time.Minute}}
					if _, err := s.store.Close(s.Context(), s.hub, gone); err != nil {
						s.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	s.checkAgreement()
}

// checkAgreement fails if lists, look-ups and counts differ.
func (s *suite) checkAgreement() {
	s.Helper()
	all := s.list("", 3)
	byType := make(map[string]int)
	for _, id := range all {
		users := s.lookup(id)
		if len(users) != 1 {
			s.Fatalf("user %s is listed, but not found", id)
		}
		types := map[string]bool{users[0].Member.Type: true}
		for _, c := range users[0].Conns {
			types[c.Member.Type] = true
		}
		for typ := range types {
			byType[typ]++
		}
	}
	s.wantCount("", len(all))
	for typ, n := range byType {
		s.wantCount(typ, n)
		if got := s.list(typ, 2); len(got) != n {
			s.Errorf("type %q: %d are listed, want %d", typ, len(got), n)
		}
	}
}

func sorted(texts []string) []string {
	texts = slices.Clone(texts)
	slices.Sort(texts)
	return texts
}
