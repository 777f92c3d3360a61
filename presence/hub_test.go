package presence_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/seed-57c14f3c/caddy-presence/presence"
	"github.com/seed-57c14f3c/caddy-presence/presence/memstore"
)

// conn is a connection in memory that keeps what it is sent.
type conn struct {
	attachment presence.Attachment

	mu     sync.Mutex // guards the fields below
	got    []string
	code   presence.CloseCode
	answer presence.Outcome // what Send says
	queued []*presence.Message
	bursts []int         // how many messages came together
	held   chan struct{} // if set, Send waits until it is closed
	slow   time.Duration // how long Send takes
}

func (c *conn) Attachment() *presence.Attachment { return &c.attachment }

func (c *conn) Send(m *presence.Message) presence.Outcome {
	if c.held != nil {
		<-c.held
	}
	time.Sleep(c.slow)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.code != 0 {
		return presence.Closed
	}
	switch c.answer {
	case presence.Sent:
		c.got = append(c.got, payload(m))
	case presence.Queued:
		c.queued = append(c.queued, m)
	}
	return c.answer
}

func (c *conn) SendBurst(b *presence.Burst, outcomes []presence.Outcome) {
	c.mu.Lock()
	c.bursts = append(c.bursts, len(b.Messages))
	c.mu.Unlock()
	var frames []byte
	for i, m := range b.Messages {
		outcomes[i] = c.Send(m)
		frames = append(frames, m.Frame(false)...)
	}
	if !bytes.Equal(frames, b.Frames(false)) {
		panic("a burst's frames are not those of its messages")
	}
}

// payload is the text of a message, out of its frame.
func payload(m *presence.Message) string { return string(payloadOf(m.Frame(false))) }

func payloadOf(frame []byte) []byte {
	switch frame[1] {
	case 126:
		return frame[4:]
	case 127:
		return frame[10:]
	}
	return frame[2:]
}

func (c *conn) Close(code presence.CloseCode, _ string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.code == 0 {
		c.code = code
	}
}

// flush hands over what was queued, and returns how many messages that were.
func (c *conn) flush() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.queued)
	for _, m := range c.queued {
		m.Flushed(true)
	}
	c.queued = nil
	return n
}

// take returns what was sent since the last take.
func (c *conn) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	got := c.got
	c.got = nil
	return got
}

func (c *conn) closed() presence.CloseCode {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.code
}

// fixture is a hub on a store in memory.
type fixture struct {
	*testing.T
	hub   *presence.Hub
	store presence.Store
}

func newFixture(t *testing.T, change ...func(*presence.Settings)) *fixture {
	t.Helper()
	store := memstore.New()
	t.Cleanup(func() { _ = store.Shutdown(t.Context()) })
	s := presence.Settings{
		Store: store, Sessions: presence.Sessions{Max: 1}, Grace: time.Minute, StopGrace: time.Minute, Log: zap.NewNop(),
	}
	for _, c := range change {
		c(&s)
	}
	hub := presence.NewHub("default")
	hub.Configure(s)
	return &fixture{t, hub, s.Store}
}

func (f *fixture) attach() *conn {
	c := new(conn)
	f.hub.Attach(c, "")
	return c
}

// open attaches a connection and opens it.
func (f *fixture) open(frame string) *conn {
	f.Helper()
	c := f.attach()
	f.receive(c, frame)
	if got := c.take(); len(got) != 0 {
		f.Fatalf("opening with %s: got %v", frame, got)
	}
	return c
}

func (f *fixture) receive(c *conn, frames ...string) {
	for _, frame := range frames {
		f.hub.Receive(c, []byte(frame))
	}
}

// state is online, lingering or offline.
func (f *fixture) state(id presence.UserID) string {
	f.Helper()
	users, err := f.store.Lookup(f.Context(), "default", []presence.UserID{id})
	if err != nil {
		f.Fatal(err)
	}
	switch {
	case len(users) == 0:
		return "offline"
	case users[0].Lingering:
		return "lingering"
	}
	return "online"
}

func (f *fixture) wantState(id presence.UserID, want string) {
	f.Helper()
	if got := f.state(id); got != want {
		f.Errorf("user %s is %s, want %s", id, got, want)
	}
}

func (f *fixture) wantFrames(c *conn, want ...string) {
	f.Helper()
	if got := c.take(); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		f.Errorf("got frames %q, want %q", got, want)
	}
}

// errorCode is the code of an error frame.
func errorCode(t *testing.T, frame string) string {
	t.Helper()
	var f struct{ Action, Code, Message string }
	if err := json.Unmarshal([]byte(frame), &f); err != nil || f.Action != "error" || f.Message == "" {
		t.Fatalf("%s is no error frame: %v", frame, err)
	}
	return f.Code
}

func TestPing(t *testing.T) {
	f := newFixture(t)
	c := f.attach()
	f.receive(c, "ping")
	f.wantFrames(c, "pong")
}

func TestReplies(t *testing.T) {
	f := newFixture(t)
	c := f.attach()
	f.receive(c, `{"action":"open","id":7,"ref":"a\"b"}`)
	f.wantFrames(c, fmt.Sprintf(`{"action":"reply","ref":"a\"b","ok":true,"conn":"%s.1"}`, f.store.Node()))
	f.receive(c, ` { "ref" : 1.50 , "action" : "close" } `)
	f.wantFrames(c, `{"action":"reply","ref":1.50,"ok":true}`)
	f.receive(c, `{"action":"open","id":7}`, `{"action":"close"}`)
	f.wantFrames(c)
	f.receive(c, `{"action":"close","ref":2}`)
	if got := c.take(); len(got) != 1 || !strings.HasPrefix(got[0], `{"action":"error","ref":2,"code":"not_open"`) {
		t.Errorf("a close that is not open: got %v", got)
	}
}

func TestBadFrames(t *testing.T) {
	long := strings.Repeat("x", presence.MaxIDLength+1)
	for frame, code := range map[string]string{
		``:                                    "bad_frame",
		`pong`:                                "bad_frame",
		`ping `:                               "bad_frame",
		`null`:                                "bad_frame",
		`7`:                                   "bad_frame",
		`"ping"`:                              "bad_frame",
		`[]`:                                  "bad_frame",
		`{`:                                   "bad_frame",
		`{}`:                                  "bad_frame",
		`{} {}`:                               "bad_frame",
		`{"action":"open","id":1}x`:           "bad_frame",
		`{"action":7}`:                        "bad_frame",
		`{"action":""}`:                       "bad_frame",
		`{"action":null}`:                     "bad_frame",
		`{"Action":"open","id":7}`:            "bad_frame",
		`{"action":"open","id":7,"id":8}`:     "bad_frame",
		`{"action":"open","action":"close"}`:  "bad_frame",
		`{"action":"open","id":7,"ref":{}}`:   "bad_frame",
		`{"action":"open","id":7,"ref":null}`: "bad_frame",
		`{"action":"open","id":7,"ref":"` + long + `"}`:           "bad_frame",
		strings.Repeat("[", 5000):                                 "bad_frame",
		`{"action":"x"` + manyFields(200) + `}`:                   "bad_frame",
		`{"action":"open"}`:                                       "bad_open",
		`{"action":"open","id":null}`:                             "bad_open",
		`{"action":"open","id":""}`:                               "bad_open",
		`{"action":"open","id":true}`:                             "bad_open",
		`{"action":"open","id":[7]}`:                              "bad_open",
		`{"action":"open","id":{"a":7}}`:                          "bad_open",
		`{"action":"open","id":7.0}`:                              "bad_open",
		`{"action":"open","id":7e0}`:                              "bad_open",
		`{"action":"open","id":-0}`:                               "bad_open",
		`{"action":"open","id":"a\nb"}`:                           "bad_open",
		`{"action":"open","id":"a\u0000b"}`:                       "bad_open",
		`{"action":"open","id":"\u0085"}`:                         "bad_open",
		`{"action":"open","id":"` + long + `"}`:                   "bad_open",
		`{"action":"open","id":` + strings.Repeat("9", 200) + `}`: "bad_open",
		`{"action":"open","id":7,"type":7}`:                       "bad_open",
		`{"action":"open","id":7,"type":"a\tb"}`:                  "bad_open",
		`{"action":"open","id":7,"type":null}`:                    "bad_open",
		`{"action":"open","id":7,"device":7}`:                     "bad_open",
		`{"action":"open","id":7,"beat":"25"}`:                    "bad_open",
		`{"action":"open","id":7,"beat":null}`:                    "bad_open",
		`{"action":"open","id":7,"beat":-1}`:                      "bad_open",
		`{"action":"open","id":7,"beat":1e9}`:                     "bad_open",
		`{"action":"open","id":7,"f":"` + strings.Repeat("x", presence.MaxMemberSize) + `"}`: "bad_open",
		`{"action":"close"}`:       "not_open",
		`{"action":"otherEvent"}`:  "unknown_action",
		`{"action":"Open","id":7}`: "unknown_action",
	} {
		f := newFixture(t)
		c := f.attach()
		f.receive(c, frame)
		got := c.take()
		if len(got) != 1 || errorCode(t, got[0]) != code {
			t.Errorf("%.80s: got %v, want one error %s", frame, got, code)
		}
		if n, _ := f.store.Count(t.Context(), "default", ""); n != 0 || c.closed() != 0 {
			t.Errorf("%.80s: %d users online, closed with %d", frame, n, c.closed())
		}
		f.receive(c, `{"action":"open","id":7}`)
		f.wantState("7", "online")
	}
}

func manyFields(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"f%d":1`, i)
	}
	return b.String()
}

// TestRefOfRefused sees that a refused frame's ref comes back, so that the
// client knows which one it was.
func TestRefOfRefused(t *testing.T) {
	f := newFixture(t)
	c := f.attach()
	f.receive(c, `{"ref":5}`, `{"ref":6,"action":"open"}`)
	got := strings.Join(c.take(), "")
	if !strings.Contains(got, `"ref":5,"code":"bad_frame"`) || !strings.Contains(got, `"ref":6,"code":"bad_open"`) {
		t.Errorf("got %s", got)
	}
}

func TestIDs(t *testing.T) {
	for raw, want := range map[string]presence.UserID{
		`7`: "7", `"7"`: "7", `"007"`: "007", `-7`: "-7", `0`: "0",
		`9007199254740993`: "9007199254740993", `18446744073709551617`: "18446744073709551617",
		`"caf\u00e9"`: "café", `"é"`: "é", `" a "`: " a ",
		`"` + strings.Repeat("x", presence.MaxIDLength) + `"`: presence.UserID(strings.Repeat("x", presence.MaxIDLength)),
	} {
		f := newFixture(t)
		f.open(`{"action":"open","id":` + raw + `}`)
		f.wantState(want, "online")
	}
}

func TestMemberIsKeptAsItCame(t *testing.T) {
	f := newFixture(t)
	f.open(`{"phone":"1", "action":"open", "type":"driver","id":9007199254740993,"resume":true,"device":"d",
		"beat":25, "nested":{"b":[1.50, 2e3],"a":"<é>","id":8} , "a\"b":null}`)
	users, _ := f.store.Lookup(t.Context(), "default", []presence.UserID{"9007199254740993"})
	want := `{"phone":"1","type":"driver","id":9007199254740993,"nested":{"b":[1.50,2e3],"a":"<é>","id":8},"a\"b":null}`
	if len(users) != 1 || string(users[0].Member.JSON) != want {
		t.Fatalf("got %s, want %s", users[0].Member.JSON, want)
	}
	for field, want := range map[string]string{"phone": "1", "id": "9007199254740993", "none": "", "a\"b": "null"} {
		if got := users[0].Member.Field(field); got != want {
			t.Errorf("field %s is %q, want %q", field, got, want)
		}
	}
}

func TestSecondOpen(t *testing.T) {
	f := newFixture(t)
	c := f.open(`{"action":"open","id":7,"type":"driver"}`)
	f.receive(c, `{"action":"open","id":"7","type":"rider","name":"Ann"}`)
	f.wantFrames(c)
	users, _ := f.store.Lookup(t.Context(), "default", []presence.UserID{"7"})
	if len(users) != 1 || string(users[0].Member.JSON) != `{"id":"7","type":"rider","name":"Ann"}` {
		t.Errorf("after the second open: %+v", users)
	}
	f.receive(c, `{"action":"open","id":8}`)
	if got := c.take(); len(got) != 1 || errorCode(t, got[0]) != "already_open" {
		t.Errorf("another id: got %v", got)
	}
	f.wantState("7", "online")
	f.wantState("8", "offline")
	f.receive(c, `{"action":"close"}`, `{"action":"open","id":8}`)
	f.wantFrames(c)
	f.wantState("7", "offline")
	f.wantState("8", "online")
	if s := f.hub.Stats(); s.Members != 1 || s.Connections != 1 {
		t.Errorf("stats: %+v", s)
	}
}

func TestNewest(t *testing.T) {
	f := newFixture(t)
	first, bystander := f.open(`{"action":"open","id":7}`), f.open(`{"action":"open","id":8}`)
	second := f.open(`{"action":"open","id":7}`)
	if first.closed() != presence.CloseReplaced || second.closed() != 0 || bystander.closed() != 0 {
		t.Errorf("closed with %d, %d and %d", first.closed(), second.closed(), bystander.closed())
	}
	f.hub.Detach(first, presence.CauseLost)
	f.wantState("7", "online")
	f.wantState("8", "online")
	// A replaced connection may be slow to end, and say something yet.
	f.receive(first, `{"action":"open","id":7}`)
	if second.closed() != 0 {
		t.Error("a connection that was replaced took its seat back")
	}
	if n := f.hub.Stats().Members; n != 2 {
		t.Errorf("%d members, want 2", n)
	}
}

func TestMany(t *testing.T) {
	f := newFixture(t, func(s *presence.Settings) { s.Sessions.Max = 2 })
	a, b, c := f.open(`{"action":"open","id":7}`), f.open(`{"action":"open","id":7}`), f.open(`{"action":"open","id":7}`)
	if a.closed() != presence.CloseReplaced || b.closed() != 0 || c.closed() != 0 {
		t.Errorf("closed with %d, %d and %d", a.closed(), b.closed(), c.closed())
	}
	f.hub.Detach(b, presence.CauseClient)
	f.wantState("7", "online")
	f.hub.Detach(c, presence.CauseClient)
	f.wantState("7", "offline")
}

func TestNewestByField(t *testing.T) {
	f := newFixture(t, func(s *presence.Settings) { s.Sessions.By = "kind" })
	phone := f.open(`{"action":"open","id":7,"kind":"phone"}`)
	desk := f.open(`{"action":"open","id":7,"kind":"desktop"}`)
	f.open(`{"action":"open","id":7,"kind":"phone"}`)
	if phone.closed() != presence.CloseReplaced || desk.closed() != 0 {
		t.Errorf("closed with %d and %d", phone.closed(), desk.closed())
	}
}

func TestTakeoversAreDamped(t *testing.T) {
	f := newFixture(t)
	last := f.open(`{"action":"open","id":7}`)
	for range presence.MaxTakeovers {
		last = f.open(`{"action":"open","id":7}`)
	}
	c := f.attach()
	f.receive(c, `{"action":"open","id":7,"ref":1}`)
	got := c.take()
	if len(got) != 1 || errorCode(t, got[0]) != "session_conflict" || !strings.Contains(got[0], `"retry_after":`) {
		t.Errorf("one takeover too many: got %v", got)
	}
	if last.closed() != 0 || c.closed() != 0 {
		t.Errorf("closed with %d and %d", last.closed(), c.closed())
	}
}

func TestCauses(t *testing.T) {
	for cause, want := range map[presence.Cause]string{
		presence.CauseClient: "offline", presence.CauseTimeout: "offline", presence.CauseKicked: "offline",
		presence.CauseLost: "lingering", presence.CauseStop: "lingering", presence.CauseExpired: "lingering",
	} {
		f := newFixture(t)
		c := f.open(`{"action":"open","id":7}`)
		f.hub.Detach(c, cause)
		f.hub.Detach(c, presence.CauseClient) // does nothing any more
		if got := f.state("7"); got != want {
			t.Errorf("ended by %s: the user is %s, want %s", cause, got, want)
		}
		if s := f.hub.Stats(); s.Members != 0 || s.Connections != 0 {
			t.Errorf("ended by %s: %+v", cause, s)
		}
	}
}

func TestKick(t *testing.T) {
	f := newFixture(t, func(s *presence.Settings) { s.Sessions.Max = 3 })
	a, b := f.open(`{"action":"open","id":7}`), f.open(`{"action":"open","id":7}`)
	other := f.open(`{"action":"open","id":8}`)
	ended, unconfirmed, err := f.hub.Kick(t.Context(), "7")
	if ended != 2 || unconfirmed != 0 || err != nil {
		t.Errorf("kicking: got %d, %d, %v", ended, unconfirmed, err)
	}
	if a.closed() != presence.CloseKicked || b.closed() != presence.CloseKicked || other.closed() != 0 {
		t.Errorf("closed with %d, %d and %d", a.closed(), b.closed(), other.closed())
	}
	f.wantState("7", "offline")
	f.receive(a, `{"action":"open","id":7}`)
	f.wantState("7", "offline")
	if found, _, _ := f.hub.Kick(t.Context(), "7"); found != 0 {
		t.Errorf("kicking again: got %d", found)
	}
	if !f.hub.KickConn(f.hub.ConnID(other.Attachment())) || other.closed() != presence.CloseKicked {
		t.Error("a connection was not kicked by its id")
	}
	if f.hub.KickConn(presence.ConnID{Node: f.store.Node(), Num: 99}) || f.hub.KickConn(presence.ConnID{Node: "x", Num: 1}) {
		t.Error("a connection that is not there was kicked")
	}
}

func TestLeave(t *testing.T) {
	f := newFixture(t)
	a, b := f.open(`{"action":"open","id":7}`), f.attach()
	f.hub.Leave()
	f.wantState("7", "lingering")
	f.receive(b, `{"action":"open","id":8}`)
	f.wantState("8", "offline")
	f.hub.Detach(a, presence.CauseStop)
	f.wantState("7", "lingering")
	if n := f.hub.Connections(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

func TestConfigureMovesMembers(t *testing.T) {
	f := newFixture(t)
	f.open(`{"action":"open","id":7,"name":"Ann"}`)
	f.attach()
	other := memstore.New()
	defer func() { _ = other.Shutdown(t.Context()) }()
	f.hub.Configure(presence.Settings{Store: other, Sessions: presence.Sessions{Max: 1}, Log: zap.NewNop()})
	f.wantState("7", "offline") // in the old store
	f.store = other
	f.wantState("7", "online")
	if r, err := f.hub.Push(t.Context(), decode(t, `{"to":{"ids":[7]},"data":1}`)); err != nil || r.Sent != 1 {
		t.Errorf("a push to who was moved: got %+v, %v", r, err)
	}
}
