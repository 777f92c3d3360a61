package storetest

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

func (s *suite) testOpenClose() {
	s.wantConns("7")
	res := s.open(1, "7", "driver")
	if !res.Accepted || !res.Online || res.At <= 0 || res.RetryAfter != 0 {
		s.Errorf("opening: got %+v, want it accepted, online, with a time", res)
	}
	s.wantDisplaced(res)
	users := s.lookup("8", "7", "9")
	if len(users) != 1 {
		s.Fatalf("looking up three users, one of them online: got %+v", users)
	}
	u := users[0]
	if u.ID != "7" || u.Lingering || u.Since != res.At || u.Member.Type != "driver" ||
		string(u.Member.JSON) != `{"id":"7","type":"driver"}` {
		s.Errorf("looking up: got %+v, %s", u, u.Member.JSON)
	}
	if u.Conns[0].At != res.At || string(u.Conns[0].Member.JSON) != string(u.Member.JSON) {
		s.Errorf("the connection: got %+v", u.Conns[0])
	}
	if !s.close(1, "7", 0) {
		s.Error("closing says that the connection was not there")
	}
	if s.close(1, "7", 0) {
		s.Error("closing again says that the connection was there")
	}
	s.wantConns("7")
	s.wantCount("", 0)
}

func (s *suite) testNewest() {
	s.open(1, "7", "driver")
	res := s.open(2, "7", "driver")
	s.wantDisplaced(res, 1)
	if !res.Accepted || res.Online {
		s.Errorf("got %+v, want it accepted and the user online before", res)
	}
	s.wantConns("7", 2)
	s.wantCount("", 1)
}

func (s *suite) testMany() {
	for n := range uint64(3) {
		s.wantDisplaced(s.open(n+1, "7", "driver", most(3)))
	}
	s.wantConns("7", 3, 2, 1)
	s.wantDisplaced(s.open(4, "7", "driver", most(3)), 1)
	s.wantConns("7", 4, 3, 2)
	s.wantCount("", 1)
	s.wantCount("driver", 1)
	s.close(3, "7", 0)
	s.wantConns("7", 4, 2)
	res := s.open(5, "7", "driver", most(1))
	if len(res.Displaced) != 2 {
		s.Errorf("with a lower maximum %v were displaced, want both others", res.Displaced)
	}
	s.wantConns("7", 5)
}

func (s *suite) testSeats() {
	s.open(1, "7", "driver", seat("phone"))
	s.wantDisplaced(s.open(2, "7", "driver", seat("desktop")))
	s.wantDisplaced(s.open(3, "7", "driver", seat("phone")), 1)
	s.wantConns("7", 3, 2)
	s.wantDisplaced(s.open(4, "7", "driver"))
	s.wantConns("7", 4, 3, 2)
}

func (s *suite) testMaxSeats() {
	for n := range uint64(presence.MaxSeats) {
		s.wantDisplaced(s.open(n+1, "7", "driver", seat(fmt.Sprint(n))))
	}
	s.wantDisplaced(s.open(1000, "7", "driver", seat("one more")), 1)
	if n := len(s.lookup("7")[0].Conns); n != presence.MaxSeats {
		s.Errorf("the user has %d connections, want %d", n, presence.MaxSeats)
	}
}

func (s *suite) testDevice() {
	s.open(1, "7", "driver", most(4), device("a"))
	s.open(2, "7", "driver", most(4), device("b"))
	s.wantDisplaced(s.open(3, "7", "driver", most(4), device("a")), 1)
	s.wantConns("7", 3, 2)
	s.open(4, "7", "driver", most(4))
	s.open(5, "7", "driver", most(4))
	s.wantConns("7", 5, 4, 3, 2)
}

func (s *suite) testSecondOpen() {
	s.open(1, "7", "driver")
	res := s.open(1, "7", "rider", func(r *presence.OpenRequest) { r.Member = member("7", "rider", `,"name":"Ann"`) })
	s.wantDisplaced(res)
	if !res.Accepted || res.Online {
		s.Errorf("got %+v, want it accepted and the user online before", res)
	}
	s.wantConns("7", 1)
	if m := s.lookup("7")[0].Member; m.Type != "rider" || string(m.JSON) != `{"id":"7","type":"rider","name":"Ann"}` {
		s.Errorf("the member is %s of type %s", m.JSON, m.Type)
	}
	s.wantCount("driver", 0)
	s.wantCount("rider", 1)
	s.wantCount("", 1)
	if got := s.list("driver", 10); len(got) != 0 {
		s.Errorf("drivers: %v", got)
	}
}

func (s *suite) testTakeovers() {
	s.open(0, "7", "driver")
	last := uint64(0)
	refused := presence.OpenResult{}
	for n := range uint64(presence.MaxTakeovers + 1) {
		res := s.open(n+1, "7", "driver")
		if res.RetryAfter > 0 {
			refused = res
			break
		}
		last = n + 1
	}
	if last != presence.MaxTakeovers {
		s.Fatalf("takeover %d was refused, want %d of them allowed", last+1, presence.MaxTakeovers)
	}
	if refused.Accepted || refused.RetryAfter < time.Second || refused.RetryAfter > presence.TakeoverWindow {
		s.Errorf("one takeover too many: got %+v", refused)
	}
	s.wantDisplaced(refused)
	s.wantConns("7", last)
	// The one who has the seat may open again, and leave, and then it is free.
	if res := s.open(last, "7", "driver"); !res.Accepted {
		s.Errorf("who has the seat opens again: got %+v", res)
	}
	s.close(last, "7", 0)
	if res := s.open(100, "7", "driver"); !res.Accepted {
		s.Errorf("the seat is free: got %+v", res)
	}
}

func (s *suite) testNoTakeover() {
	for n := range uint64(3 * presence.MaxTakeovers) {
		if res := s.open(n, "device", "driver", device("a")); !res.Accepted {
			s.Fatalf("the same device, time %d: got %+v", n, res)
		}
		if res := s.open(n, "closed", "driver"); !res.Accepted {
			s.Fatalf("after a close, time %d: got %+v", n, res)
		}
		s.close(n, "closed", time.Minute)
		if res := s.open(n, "many", "driver", most(2)); !res.Accepted {
			s.Fatalf("many, time %d: got %+v", n, res)
		}
		if res := s.open(1, "same", "driver"); !res.Accepted {
			s.Fatalf("the same connection, time %d: got %+v", n, res)
		}
	}
}

func (s *suite) testStaleClose() {
	s.open(1, "7", "driver")
	s.open(2, "7", "driver")
	if s.close(1, "7", time.Minute) {
		s.Error("closing a displaced connection says that it was there")
	}
	s.wantConns("7", 2)
	if s.lookup("7")[0].Lingering {
		s.Error("the user lingers after a stale close")
	}
	if s.close(2, "8", 0) {
		s.Error("closing for another user says that it was there")
	}
	s.wantConns("7", 2)
	found, err := s.store.Close(s.Context(), s.hub, []presence.Departure{
		{User: "nobody", Conn: s.conn(1)}, {User: "7", Conn: s.conn(2)}, {User: "7", Conn: s.conn(2)},
	})
	if err != nil || fmt.Sprint(found) != "[false true false]" {
		s.Errorf("closing three: got %v, %v", found, err)
	}
	s.wantConns("7")
}

// testConverge opens the same connections with given times in random orders,
// some of them twice: the outcome is the same.
func (s *suite) testConverge() {
	base := s.open(99, "clock", "driver").At
	for round := range 20 {
		id := fmt.Sprintf("user%d", round)
		order := []uint64{1, 2, 3, 4, 2, 3}
		rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, n := range order {
			// 3 and 4 have the same time: the id decides.
			s.open(n, id, "driver", at(base+int64(min(n, 3))), most(2))
		}
		s.Log(order)
		s.wantConns(id, 4, 3)
	}
	s.open(5, "late", "driver", at(base+10))
	if res := s.open(4, "late", "driver", at(base)); res.Accepted || len(res.Displaced) != 0 {
		s.Errorf("an older open that came late: got %+v", res)
	}
	s.wantConns("late", 5)
}
