package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore/redistest"
)

// soak is users who resume, behind networks that cut, stall, and move them between
// two nodes, and numbered pushes to each of them.
type soak struct {
	t       *testing.T
	nodes   []*Caddy
	proxies []*Proxy // each before one of the nodes
	redis   *redistest.Server
	users   []*soakUser
	http    *http.Client

	ctx  context.Context // ends the users
	busy sync.WaitGroup

	again atomic.Int64 // calls that were made again
}

type soakUser struct {
	Resumer
	n int // number of its last push; owned by its pusher

	maybe []int // numbers of pushes that were not promised; owned by its pusher
}

// soakSize is how much a soak is: as much as is tested each time, or with SOAK=5m
// as long as that.
func soakSize(t *testing.T) (users, pushes int, d time.Duration) {
	text := os.Getenv("SOAK")
	if text == "" {
		return 100, 8_000, 15 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return 500, int(200_000 * d / (5 * time.Minute)), d
}

// TestSoak pushes to users for some time while clients are cut off, stalled and
// moved, nodes are restarted and killed, and connections to Redis cut: what came to
// each user is complete and in order, or the user was told that it is not.
func TestSoak(t *testing.T) {
	users, pushes, d := soakSize(t)
	s := &soak{t: t, redis: redistest.Start(t), http: &http.Client{Timeout: 10 * time.Second}}
	s.nodes = startResuming(t, 2, "redis "+s.redis.URL()+" {\n\t\t\tlease 2s\n\t\t}", "")
	for i := range 8 {
		s.proxies = append(s.proxies, StartProxy(t, strings.TrimPrefix(s.nodes[i%2].URL, "http://")))
	}
	ctx, leave := context.WithCancel(context.Background())
	s.ctx = ctx
	t.Cleanup(func() { leave(); s.busy.Wait(); s.http.CloseIdleConnections() })
	for i := range users {
		u := &soakUser{Resumer: Resumer{ID: fmt.Sprint("u", i), beat: 500 * time.Millisecond}}
		s.users = append(s.users, u)
		s.busy.Go(func() { s.roam(u) })
	}
	Eventually(t, func() bool { return !slices.ContainsFunc(s.users, func(u *soakUser) bool { return u.Opens() == 0 }) },
		func() string { return "not all users come online" })

	stop := make(chan struct{})
	var chaos sync.WaitGroup
	chaos.Go(func() { s.disturb(stop) })
	chaos.Go(func() { s.restart(stop) })
	s.pushAll(pushes, d)
	close(stop)
	chaos.Wait()
	s.finish()
}

// roam keeps a user online, on one network after the other.
func (s *soak) roam(u *soakUser) {
	for s.ctx.Err() == nil {
		p := s.proxies[rand.N(len(s.proxies))]
		_ = u.Visit(s.ctx, "ws://"+p.Addr+"/ws")
		away := rand.N(200 * time.Millisecond)
		if rand.N(10) == 0 {
			away = rand.N(4 * time.Second) // longer than users linger
		}
		select {
		case <-s.ctx.Done():
		case <-time.After(away):
		}
	}
}

// disturb cuts and stalls networks, single clients, and connections to Redis.
func (s *soak) disturb(stop chan struct{}) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	var stalled *Proxy
	for n := 1; ; n++ {
		select {
		case <-stop:
			if stalled != nil {
				stalled.SetSilent(false)
			}
			return
		case <-tick.C:
		}
		for range 1 + len(s.users)/100 {
			s.users[rand.N(len(s.users))].Cut()
		}
		switch n % 15 {
		case 3, 9:
			s.proxies[rand.N(len(s.proxies))].Cut()
		case 5:
			stalled = s.proxies[rand.N(len(s.proxies))]
			stalled.SetSilent(true)
		case 13:
			stalled.SetSilent(false)
			stalled = nil
		case 7:
			s.redis.Client().Do(s.ctx, "CLIENT", "KILL", "TYPE", "normal")
		}
	}
}

// restart stops and kills the nodes by turns.
func (s *soak) restart(stop chan struct{}) {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		node := s.nodes[n%2]
		if n/2%2 == 0 {
			node.Stop()
		} else {
			node.Kill()
		}
		node.Restart()
	}
}

// pushAll makes so many pushes, evenly over a time.
func (s *soak) pushAll(pushes int, d time.Duration) {
	const pushers = 16
	began := time.Now()
	var wg sync.WaitGroup
	for w := range pushers {
		wg.Go(func() {
			var mine []*soakUser
			for i := w; i < len(s.users); i += pushers {
				mine = append(mine, s.users[i])
			}
			for i := 0; i < pushes/pushers; i++ {
				if wait := time.Until(began.Add(d * time.Duration(i) / time.Duration(pushes/pushers))); wait > 0 {
					time.Sleep(wait)
				}
				s.push(mine[i%len(mine)])
			}
		})
	}
	wg.Wait()
	s.t.Logf("%d pushes in %v, %d calls made again", pushes, time.Since(began).Round(time.Second), s.again.Load())
}

// push makes the next push to a user, again until it has a report.
func (s *soak) push(u *soakUser) {
	u.n++
	body := fmt.Sprintf(`{"to":{"ids":[%q]},"data":%d,"id":"%s-%d"}`, u.ID, u.n, u.ID, u.n)
	const limit = 30 * time.Second
	for until := time.Now().Add(limit); ; s.again.Add(1) {
		r, ok := s.call(body)
		if ok {
			if r.Incomplete || r.Queued == 0 && r.Matched == 0 {
				u.maybe = append(u.maybe, u.n)
			}
			return
		}
		if time.Now().After(until) {
			s.t.Errorf("push %d to %s: no report for %v", u.n, u.ID, limit)
			return
		}
		time.Sleep(20 * time.Millisecond) // a node restarts
	}
}

// soakReport is what the caller looks at.
type soakReport struct {
	Report
	Incomplete bool
}

func (s *soak) call(body string) (r soakReport, ok bool) {
	res, err := s.http.Post(s.nodes[rand.N(len(s.nodes))].Admin+"/presence/push", "application/json", strings.NewReader(body))
	if err != nil {
		return r, false
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	return r, err == nil && res.StatusCode == http.StatusOK && json.Unmarshal(answer, &r) == nil
}

// finish waits until each user has its last push, and judges what it got.
func (s *soak) finish() {
	for _, u := range s.users {
		s.push(u)
	}
	var missing []string
	Eventually(s.t, func() bool {
		missing = nil
		for _, u := range s.users {
			if got := u.Got(); len(got) == 0 || got[len(got)-1] != strconv.Itoa(u.n) {
				missing = append(missing, fmt.Sprintf("%s got %q last, not %d", u.ID, got[max(0, len(got)-3):], u.n))
			}
		}
		return len(missing) == 0
	}, func() string { return strings.Join(missing, "; ") })
	lost, maybe, doubles, opens := 0, 0, 0, 0
	for _, u := range s.users {
		lost += u.judge(s.t)
		maybe += len(u.maybe)
		doubles += u.Doubles()
		opens += u.Opens()
	}
	s.t.Logf("%d users came online %d times; %d were told that something is lost; %d pushes were not promised; %d doubles dropped",
		len(s.users), opens, lost, maybe, doubles)
}

// judge fails if something is missing that the user was not told of, or comes out of
// order or twice. It returns how often the user was told.
func (u *soakUser) judge(t *testing.T) (lost int) {
	last, told := 0, false
	for _, text := range u.Got() {
		if text == "lost" {
			told = true
			lost++
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil || n <= last {
			t.Errorf("%s: got %s behind %d", u.ID, text, last)
			continue
		}
		for missing := last + 1; missing < n && !told; missing++ {
			if !slices.Contains(u.maybe, missing) {
				t.Errorf("%s: %d is missing, and it was not told", u.ID, missing)
			}
		}
		last, told = n, false
	}
	return lost
}
