package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// load is users who stay online, and numbered pushes to each of them. It knows what
// came to each user and what the reports said, and compares the two.
type load struct {
	t       *testing.T
	http    *http.Client
	users   []*loadUser
	ctx     context.Context // ends the users
	leave   func()
	clients sync.WaitGroup
	pushing sync.WaitGroup
	ended   chan struct{} // closed when no more pushes are to begin
	end     func()
	made    atomic.Int64 // pushes that have a report
	again   atomic.Int64 // calls that were made again, because the store was away
	plain   atomic.Bool  // pushes have no id: they go on while the store is away
}

// loadUser is a user of a load.
type loadUser struct {
	id   int
	urls []string // where it connects, in turns
	most int      // after so many pushes it leaves a connection; 0: it stays

	mu     sync.Mutex // guards the fields below
	live   int        // sockets that are open
	opens  int
	got    map[int]int // number of a push → how often it came
	wrong  []string    // what must not happen
	result map[int]outcome
}

// outcome is what the caller of a push knows of it.
type outcome struct {
	report Report
	err    error // there is no report: its node did not answer
}

// startLoad has users come online; urls says where each of them connects.
func startLoad(t *testing.T, users int, urls func(id int) []string) *load {
	t.Helper()
	return startRestless(t, users, 0, urls)
}

// startRestless is startLoad with users who leave each connection after so many
// pushes.
func startRestless(t *testing.T, users, most int, urls func(id int) []string) *load {
	t.Helper()
	l := &load{t: t, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}, ended: make(chan struct{})}
	l.end = sync.OnceFunc(func() { close(l.ended) })
	l.ctx, l.leave = context.WithCancel(context.Background())
	for id := range users {
		u := &loadUser{id: id, urls: urls(id), most: most, got: make(map[int]int), result: make(map[int]outcome)}
		l.users = append(l.users, u)
		l.clients.Go(func() { u.stay(l.ctx, &l.clients) })
	}
	t.Cleanup(func() {
		l.end()
		l.leave()
		l.pushing.Wait()
		l.clients.Wait()
		l.http.CloseIdleConnections()
	})
	return l
}

// stay keeps the user online, as the client does.
func (u *loadUser) stay(ctx context.Context, visits *sync.WaitGroup) {
	for n := 0; ctx.Err() == nil; n++ {
		left := make(chan struct{})
		visits.Go(func() { u.visit(ctx, u.urls[n%len(u.urls)], sync.OnceFunc(func() { close(left) })) })
		<-left
		select {
		case <-ctx.Done():
		case <-time.After(rand.N(100 * time.Millisecond)): // as clients do, lest all come at once
		}
	}
}

// visit connects, opens, and reads until the connection ends. It calls left when the
// user is no longer open there.
func (u *loadUser) visit(ctx context.Context, url string, left func()) {
	defer left()
	ws, _, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		return
	}
	defer ws.CloseNow()
	send := func(frame string) { _ = ws.Write(ctx, websocket.MessageText, []byte(frame)) } // the read fails too
	send(fmt.Sprintf(`{"action":"open","id":%d,"device":"d","ref":1}`, u.id))
	gone := func() {}
	last, pushes := -1, 0
	for {
		_, data, err := ws.Read(ctx)
		if err != nil {
			if websocket.CloseStatus(err) == 4001 {
				u.note("its only connection was closed: %v", err)
			}
			gone()
			return
		}
		text := string(data)
		number, isPush := strings.CutPrefix(text, "push ")
		switch {
		case isPush:
			last = u.take(number, last)
			if pushes++; pushes == u.most {
				send(`{"action":"close","ref":"bye"}`)
			}
		case strings.Contains(text, `"ref":"bye"`):
			gone()
			left() // a push that was under way may still come
		case strings.Contains(text, `"ok":true`):
			u.change(1)
			gone = sync.OnceFunc(func() { u.change(-1) })
		default:
			return // it was refused
		}
	}
}

// take notes a push that came, behind another one on the same connection.
func (u *loadUser) take(number string, last int) int {
	n, err := strconv.Atoi(number)
	u.mu.Lock()
	u.got[n]++
	twice := u.got[n] > 1
	u.mu.Unlock()
	if err != nil || twice || n < last {
		u.note("push %s came behind %d, %d times", number, last, u.got[n])
	}
	return n
}

func (u *loadUser) change(live int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.live += live
	u.opens += max(live, 0)
}

func (u *loadUser) note(format string, args ...any) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.wrong = append(u.wrong, fmt.Sprintf(format, args...))
}

// push pushes to the users, in turns, through each of some nodes, until endPushes.
// Each push has an id, and is made again while the store is away.
func (l *load) push(nodes ...*Caddy) {
	const workers = 8 // a node
	for i, node := range nodes {
		for w := range workers {
			l.pushing.Go(func() { l.work(node, workers*len(nodes), workers*i+w) })
		}
	}
}

// work pushes to every step-th user: only one worker pushes to each.
func (l *load) work(node *Caddy, step, first int) {
	const pace = time.Millisecond
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for n := 0; ; n++ {
		for id := first; id < len(l.users); id += step {
			select {
			case <-l.ended:
				return
			case <-tick.C:
			}
			if l.pushOne(node, l.users[id], n); node.ended() {
				return
			}
		}
	}
}

// pushOne makes one push, and keeps what is known of it.
func (l *load) pushOne(node *Caddy, u *loadUser, n int) outcome {
	id := fmt.Sprintf("%d-%d", u.id, n)
	if l.plain.Load() {
		id = ""
	}
	body := fmt.Sprintf(`{"to":{"ids":[%d]},"text":"push %d","id":%q,"wait":"1s"}`, u.id, n, id)
	var out outcome
	for until := time.Now().Add(waitLimit); ; l.again.Add(1) {
		var again bool
		out.report, again, out.err = l.post(node, body)
		if !again {
			break
		}
		if time.Now().After(until) {
			u.note("push %d is still refused: %v", n, out.err)
			break
		}
		time.Sleep(10 * time.Millisecond) // a caller's pause before it tries again
	}
	u.mu.Lock()
	u.result[n] = out
	u.mu.Unlock()
	l.made.Add(1)
	return out
}

// post makes one call. It says whether the push was not made, and may be made
// again.
func (l *load) post(node *Caddy, body string) (r Report, again bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, node.Admin+"/presence/push", strings.NewReader(body))
	if err != nil {
		return r, false, err
	}
	res, err := l.http.Do(req)
	if err != nil {
		return r, false, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		return r, false, err
	case res.StatusCode == http.StatusServiceUnavailable, res.StatusCode == http.StatusConflict:
		return r, true, errors.New(string(answer))
	case res.StatusCode != http.StatusOK:
		return r, false, errors.New(string(answer))
	}
	return r, false, json.Unmarshal(answer, &r)
}

// awaitPushes waits until so many more pushes have a report.
func (l *load) awaitPushes(n int) {
	l.t.Helper()
	from := l.made.Load()
	Eventually(l.t, func() bool { return l.made.Load() >= from+int64(n) },
		func() string { return fmt.Sprintf("%d pushes, want %d", l.made.Load()-from, n) })
}

// awaitOnline waits until so many users have a socket that is open.
func (l *load) awaitOnline(want int) {
	l.t.Helper()
	n := 0
	Eventually(l.t, func() bool { n = len(l.live()); return n == want },
		func() string { return fmt.Sprintf("%d users are online, want %d", n, want) })
}

// live returns the users that have a socket that is open, and how many.
func (l *load) live() map[string]int {
	live := make(map[string]int)
	for _, u := range l.users {
		u.mu.Lock()
		if u.live > 0 {
			live[strconv.Itoa(u.id)] = u.live
		}
		u.mu.Unlock()
	}
	return live
}

// awaitAnswers waits until each node hears the others, and is heard.
func (l *load) awaitAnswers(nodes ...*Caddy) {
	l.t.Helper()
	for _, node := range nodes {
		var r Report
		Eventually(l.t, func() bool {
			r = node.Push(`{"to":{"types":["nobody"]},"text":"x"}`)
			return r.Unconfirmed == 0 && !r.Incomplete
		}, func() string { return fmt.Sprintf("the others do not answer: %+v", r) })
	}
}

// endPushes waits for the pushes under way, makes one more to each user that is
// online, which must arrive, and checks all of them.
func (l *load) endPushes(nodes ...*Caddy) {
	l.t.Helper()
	l.awaitAnswers(nodes...)
	l.end()
	l.pushing.Wait()
	const last = 1 << 30
	live := l.live()
	for i, u := range l.users {
		if live[strconv.Itoa(u.id)] == 0 {
			continue
		}
		if out := l.pushOne(nodes[i%len(nodes)], u, last); out.report.Sent != 1 {
			l.t.Errorf("user %d is online, but a push was %+v, %v", u.id, out.report, out.err)
		}
	}
	l.check()
}

// check compares what the reports said with what came.
func (l *load) check() {
	l.t.Helper()
	missing := ""
	Eventually(l.t, func() bool { missing = l.missing(); return missing == "" },
		func() string { return "sent, but never came: " + missing })
	var total Report
	noAnswer, offline, unknown := 0, 0, 0
	for _, u := range l.users {
		u.mu.Lock()
		for _, wrong := range u.wrong {
			l.t.Errorf("user %d: %s", u.id, wrong)
		}
		for n, out := range u.result {
			r := out.report
			total.Sent += r.Sent
			total.Dropped += r.Dropped
			total.Unconfirmed += r.Unconfirmed
			offline += len(r.Offline)
			unknown += len(r.Unknown)
			switch {
			case out.err != nil:
				noAnswer++
			case r.Sent+r.Dropped+r.Unconfirmed+len(r.Offline)+len(r.Unknown) != 1:
				l.t.Errorf("user %d: push %d is reported as %+v", u.id, n, r)
			case u.got[n] > 0 && len(r.Offline)+len(r.Unknown) > 0:
				l.t.Errorf("user %d: push %d came, and is reported as %+v", u.id, n, r)
			}
		}
		u.mu.Unlock()
	}
	l.t.Logf("%d pushes: %d sent, %d dropped, %d unconfirmed, %d offline, %d unknown, %d without an answer; %d calls made again",
		l.made.Load(), total.Sent, total.Dropped, total.Unconfirmed, offline, unknown, noAnswer, l.again.Load())
}

// missing names pushes that are reported as sent, and have not come.
func (l *load) missing() string {
	var list []string
	for _, u := range l.users {
		u.mu.Lock()
		for n, out := range u.result {
			if out.report.Sent > 0 && u.got[n] == 0 {
				list = append(list, fmt.Sprintf("%d to user %d", n, u.id))
			}
		}
		u.mu.Unlock()
	}
	return strings.Join(list, ", ")
}
