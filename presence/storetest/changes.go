package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

func (s *suite) position() presence.Position {
	s.Helper()
	pos, err := s.store.Position(s.Context(), s.hub)
	if err != nil {
		s.Fatalf("asking for the position: %v", err)
	}
	return pos
}

// follow reads changes behind a position until there are so many, and returns them
// as texts, sorted by part, and the position behind them.
func (s *suite) follow(at presence.Position, n int) ([]string, presence.Position) {
	s.Helper()
	var all []presence.Change
	s.eventually(func() bool {
		changes, next, err := s.store.Changes(s.Context(), s.hub, at)
		if err != nil {
			s.Fatalf("reading changes: %v", err)
		}
		at = next
		all = append(all, changes...)
		return len(all) >= n
	}, func() string { return fmt.Sprintf("%d changes, want %d", len(all), n) })
	slices.SortStableFunc(all, func(x, y presence.Change) int { return x.Part - y.Part })
	var texts []string
	for i, ch := range all {
		if i > 0 && all[i-1].Part == ch.Part && all[i-1].Seq >= ch.Seq {
			s.Errorf("change %d of part %d comes behind %d", ch.Seq, ch.Part, all[i-1].Seq)
		}
		if ch.Conn.Node != s.store.Node() || ch.At <= 0 {
			s.Errorf("a change is %+v", ch)
		}
		text := fmt.Sprintf("%s %s %s %d %s", ch.Kind, ch.Member.ID, ch.Member.Type, ch.Conn.Num, ch.Cause)
		texts = append(texts, strings.TrimSpace(text))
	}
	return texts, at
}

func (s *suite) wantChanges(at presence.Position, want ...string) presence.Position {
	s.Helper()
	got, next := s.follow(at, len(want))
	if !slices.Equal(got, want) {
		s.Fatalf("changes %q, want %q", got, want)
	}
	return next
}

func (s *suite) testChanges() {
	s.open(1, "7", "driver") // nobody listens yet
	at := s.position()
	if again, err := presence.ParsePosition(at.String()); err != nil || again.String() != at.String() {
		s.Errorf("position %v is read as %v, %v", at, again, err)
	}
	s.open(2, "7", "rider", most(2))
	s.close(1, "7", 0)
	at = s.wantChanges(at)
	s.close(2, "7", 0)
	at = s.wantChanges(at, "offline 7 rider 2 lost")
	begin := at
	s.open(3, "7", "driver")
	s.open(4, "7", "driver") // replaces the other
	s.close(3, "7", 0)
	s.close(4, "7", time.Minute)
	s.open(5, "7", "driver") // back in time
	at = s.wantChanges(at, "online 7 driver 3")
	s.close(5, "7", short)
	at = s.wantChanges(at, "offline 7 driver 5 lost")
	s.open(6, "7", "driver", func(r *presence.OpenRequest) { r.Quiet = true })
	at = s.wantChanges(at)
	s.close(6, "7", 0)
	s.wantChanges(at, "offline 7 driver 6 lost")
	s.wantChanges(begin, "online 7 driver 3", "offline 7 driver 5 lost", "offline 7 driver 6 lost")
}

func (s *suite) testChangesOfMany() {
	at := s.position()
	const users = 300
	for n := range uint64(users) {
		id := fmt.Sprint(n)
		s.open(n, id, "driver")
		s.close(n, id, time.Duration(n%3)*short)
	}
	got, next := s.follow(at, 2*users)
	state := make(map[string]string)
	for _, text := range got {
		f := strings.Fields(text)
		if state[f[1]] == f[0] || state[f[1]] == "" && f[0] == "offline" {
			s.Errorf("user %s is %s twice", f[1], f[0])
		}
		state[f[1]] = f[0]
	}
	if len(got) != 2*users {
		s.Errorf("%d changes, want %d", len(got), 2*users)
	}
	s.wantChanges(next)
}

func (s *suite) testChangesLost() {
	at := s.position()
	s.open(1, "7", "driver")
	wrong := at
	wrong.Epoch = "another"
	future := presence.Position{Epoch: at.Epoch}
	for _, seq := range at.Seqs {
		future.Seqs = append(future.Seqs, seq+100)
	}
	for _, pos := range []presence.Position{wrong, future, {}, {Epoch: at.Epoch}, {Epoch: at.Epoch, Seqs: make([]int64, 3)}} {
		if _, _, err := s.store.Changes(s.Context(), s.hub, pos); !errors.Is(err, presence.ErrChangesLost) {
			s.Errorf("behind %v: %v", pos, err)
		}
	}
	s.wantChanges(at, "online 7 driver 1")
	for _, text := range []string{"", "x", "x.", ".AA", "x.!", "x." + strings.Repeat("_", 12), "x." + strings.Repeat("A", 5000)} {
		if pos, err := presence.ParsePosition(text); !errors.Is(err, presence.ErrBadPosition) {
			s.Errorf("%.20q is read as %v, %v", text, pos, err)
		}
	}
}

func (s *suite) testTurn() {
	at := s.position()
	turn, err := s.store.TakeTurn(s.Context(), s.hub, at, true)
	if err != nil || !turn.Mine || turn.Told.String() != at.String() {
		s.Fatalf("taking the turn: %+v, %v", turn, err)
	}
	s.open(1, "7", "driver")
	next := s.wantChanges(at, "online 7 driver 1")
	turn, err = s.store.TakeTurn(s.Context(), s.hub, next, false)
	if err != nil || !turn.Mine || turn.Told.String() != next.String() {
		s.Fatalf("keeping the turn: %+v, %v", turn, err)
	}
	if err := s.store.LeaveTurn(s.Context(), s.hub); err != nil {
		s.Error(err)
	}
	if s.store.TurnTime() <= 0 {
		s.Error("a turn takes no time")
	}
}
