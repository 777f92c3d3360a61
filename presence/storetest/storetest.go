// Package storetest is the contract of presence.Store as tests, which every
// store runs.
package storetest

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// Run tests the stores that make returns; each is new and empty, and is shut
// down by its test.
func Run(t *testing.T, make func(t *testing.T) presence.Store) {
	tests := map[string]func(*suite){
		"open, look up, close":      (*suite).testOpenClose,
		"newest":                    (*suite).testNewest,
		"many":                      (*suite).testMany,
		"seats by field":            (*suite).testSeats,
		"seats are bounded":         (*suite).testMaxSeats,
		"device":                    (*suite).testDevice,
		"second open":               (*suite).testSecondOpen,
		"takeovers are damped":      (*suite).testTakeovers,
		"what is no takeover":       (*suite).testNoTakeover,
		"stale close":               (*suite).testStaleClose,
		"opens converge":            (*suite).testConverge,
		"linger":                    (*suite).testLinger,
		"linger again":              (*suite).testLingerAgain,
		"linger of several":         (*suite).testLingerOfSeveral,
		"pages":                     (*suite).testPages,
		"pages while others change": (*suite).testPagesUnderChange,
		"bad cursors":               (*suite).testBadCursors,
		"count by type":             (*suite).testCount,
		"hubs are separate":         (*suite).testHubs,
		"odd texts":                 (*suite).testOddTexts,
		"changes":                   (*suite).testChanges,
		"changes of many":           (*suite).testChangesOfMany,
		"changes are lost":          (*suite).testChangesLost,
		"turn":                      (*suite).testTurn,
		"claims":                    (*suite).testClaims,
		"claims end":                (*suite).testClaimsEnd,
		"cancelled":                 (*suite).testCancelled,
		"concurrent":                (*suite).testConcurrent,
		"keep in order":             (*suite).testKeepInOrder,
		"keep so many":              (*suite).testKeepCount,
		"keep for the window":       (*suite).testKeepWindow,
		"keep with a time":          (*suite).testKeepTTL,
		"collapse":                  (*suite).testCollapse,
		"back in the window":        (*suite).testResumeBack,
		"back too late":             (*suite).testResumeTooLate,
		"foreign offsets":           (*suite).testForeignOffsets,
		"keep for all":              (*suite).testKeepForAll,
		"keep for many":             (*suite).testKeepForMany,
		"keep while recovering":     (*suite).testKeepWhileRecovering,
		"random calls":              (*suite).testModel,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			store := make(t)
			s := &suite{T: t, store: store, hub: "default"}
			t.Cleanup(func() {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				defer cancel()
				if err := store.Shutdown(ctx); err != nil {
					t.Errorf("shutdown: %v", err)
				}
			})
			test(s)
		})
	}
}

type suite struct {
	*testing.T
	store presence.Store
	hub   string
}

// conn is a connection of this node.
func (s *suite) conn(n uint64) presence.ConnID {
	return presence.ConnID{Node: s.store.Node(), Num: n}
}

// member makes a member; extra is JSON behind its id and type.
func member(id, typ, extra string) *presence.Member {
	idText, _ := json.Marshal(id)
	typText, _ := json.Marshal(typ)
	return &presence.Member{
		ID: presence.UserID(id), Type: typ,
		JSON: fmt.Appendf(nil, `{"id":%s,"type":%s%s}`, idText, typText, extra),
	}
}

// open opens connection n for a user, with what changes the request.
func (s *suite) open(n uint64, id, typ string, change ...func(*presence.OpenRequest)) presence.OpenResult {
	s.Helper()
	req := presence.OpenRequest{Hub: s.hub, Conn: s.conn(n), Member: member(id, typ, ""), Max: 1}
	for _, c := range change {
		c(&req)
	}
	res, err := s.store.Open(s.Context(), req)
	if err != nil {
		s.Fatalf("opening %d for %s: %v", n, id, err)
	}
	return res
}

func most(n int) func(*presence.OpenRequest) {
	return func(r *presence.OpenRequest) { r.Max = n }
}

func seat(name string) func(*presence.OpenRequest) {
	return func(r *presence.OpenRequest) { r.Seat = name }
}

func device(name string) func(*presence.OpenRequest) {
	return func(r *presence.OpenRequest) { r.Device = name }
}

func at(ms int64) func(*presence.OpenRequest) {
	return func(r *presence.OpenRequest) { r.At = ms }
}

// close closes connection n of a user, and returns whether it was there.
func (s *suite) close(n uint64, id string, linger time.Duration) bool {
	s.Helper()
	found, err := s.store.Close(s.Context(), s.hub, []presence.Departure{
		{User: presence.UserID(id), Conn: s.conn(n), Linger: linger, Cause: presence.CauseLost},
	})
	if err != nil {
		s.Fatalf("closing %d of %s: %v", n, id, err)
	}
	return found[0]
}

func (s *suite) lookup(ids ...string) []presence.User {
	s.Helper()
	var list []presence.UserID
	for _, id := range ids {
		list = append(list, presence.UserID(id))
	}
	users, err := s.store.Lookup(s.Context(), s.hub, list)
	if err != nil {
		s.Fatalf("looking up %v: %v", ids, err)
	}
	return users
}

// wantConns checks which connections a user has, newest first.
func (s *suite) wantConns(id string, nums ...uint64) {
	s.Helper()
	users := s.lookup(id)
	if len(nums) == 0 {
		if len(users) != 0 {
			s.Fatalf("user %s: got %+v, want it offline", id, users[0])
		}
		return
	}
	if len(users) != 1 {
		s.Fatalf("user %s is offline, want connections %v", id, nums)
	}
	var got []uint64
	for _, c := range users[0].Conns {
		if c.ID.Node != s.store.Node() {
			s.Errorf("user %s: connection %v is of another node", id, c.ID)
		}
		got = append(got, c.ID.Num)
	}
	if fmt.Sprint(got) != fmt.Sprint(nums) {
		s.Fatalf("user %s: got connections %v, want %v", id, got, nums)
	}
}

func (s *suite) wantDisplaced(res presence.OpenResult, nums ...uint64) {
	s.Helper()
	var got []uint64
	for _, c := range res.Displaced {
		got = append(got, c.Num)
	}
	if fmt.Sprint(got) != fmt.Sprint(nums) {
		s.Fatalf("displaced %v, want %v", got, nums)
	}
}

// wantCount waits until so many users are counted: a store may count one that
// lingered for a moment longer.
func (s *suite) wantCount(typ string, want int) {
	s.Helper()
	got := -1
	s.eventually(func() bool {
		var err error
		if got, err = s.store.Count(s.Context(), s.hub, typ); err != nil {
			s.Fatalf("counting: %v", err)
		}
		return got == want
	}, func() string { return fmt.Sprintf("count of type %q is %d, want %d", typ, got, want) })
}

// list reads all pages, and fails on a user that is there twice.
func (s *suite) list(typ string, limit int) []string {
	s.Helper()
	var ids []string
	seen := make(map[presence.UserID]bool)
	for cursor := ""; ; {
		page, err := s.store.Members(s.Context(), s.hub, presence.MemberQuery{Type: typ, Limit: limit, Cursor: cursor})
		if err != nil {
			s.Fatalf("listing: %v", err)
		}
		if len(page.Users) > limit {
			s.Fatalf("a page has %d users, want at most %d", len(page.Users), limit)
		}
		for _, u := range page.Users {
			if seen[u.ID] {
				s.Errorf("user %s is listed twice", u.ID)
			}
			seen[u.ID] = true
			ids = append(ids, string(u.ID))
		}
		if page.Next == "" {
			return ids
		}
		cursor = page.Next
	}
}

// eventually waits for a condition.
func (s *suite) eventually(ok func() bool, what func() string) {
	s.Helper()
	const limit = 10 * time.Second
	for until := time.Now().Add(limit); !ok(); {
		if time.Now().After(until) {
			s.Fatal(what())
		}
		time.Sleep(5 * time.Millisecond) // between two looks at the condition
	}
}
