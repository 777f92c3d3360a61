package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore/redistest"
)

// TestConnect lets a backend decide about handshakes.
func TestConnect(t *testing.T) {
	b := StartBackend(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("X-Who") {
		case "ann":
			w.Header().Set("Presence-Id", "7")
			w.Header().Set("Presence-Type", "driver")
			w.Header().Set("Presence-Member", `{"name":"Ann","type":"rider","no":null}`)
		case "bob":
			w.Header().Set("Presence-Member", `{"id":8}`)
			w.Header().Set("Presence-Expires", "1700000000")
		case "bad":
			w.Header().Set("Presence-Member", `{"name":`)
		case "down":
			http.Error(w, "in detail", http.StatusServiceUnavailable)
		case "fast":
			w.WriteHeader(429)
		case "big":
			_, _ = io.CopyN(w, zeros{}, 10<<20)
		default:
			w.Header().Set("X-Why", "unknown")
			w.Header().Set("Presence-Id", "7")
			w.WriteHeader(403)
			fmt.Fprint(w, "who are you?")
		}
	})
	c := StartText(t, "{$SITE}\npresence /ws {\n\tmax_unopened 2\n\ton connect {\n\t\treverse_proxy "+b.Addr+"\n\t}\n}\n")
	ann := c.Dial("/ws", "X-Who: ann", "Presence-Id: root", "Sec-WebSocket-Protocol: presence.v1")
	r := b.Next()
	if r.Body != `{"event":"connect"}` || r.Method != "POST" || r.URI != "/ws" || r.Header.Get("Presence-Event") != "connect" || r.Header.Get("Presence-Id") != "" {
		t.Errorf("the request is %+v", r)
	}
	for _, name := range []string{"Upgrade", "Sec-Websocket-Key", "Sec-Websocket-Protocol", "Sec-Websocket-Version"} {
		if r.Header.Get(name) != "" {
			t.Errorf("header %s came through", name)
		}
	}
	ann.Send(`{"action":"open","id":9}`)
	ann.ExpectError("identity_mismatch")
	ann.Open(`"name":"Eve","type":"admin","phone":"+1","no":1`)
	_, answer := c.Call(http.MethodGet, "/presence/members/7", "")
	if want := `"member":{"phone":"+1","name":"Ann","type":"driver","no":null,"id":"7"}`; !strings.Contains(answer, want) {
		t.Errorf("the member is %s, want %s", answer, want)
	}
	c.Dial("/ws", "X-Who: bob").ExpectClosed(4202)
	for _, test := range []struct {
		who          string
		status, code int
		body         string
	}{
		{"eve", 403, 4009, "who are you?"}, {"bad", 502, 1011, ""}, {"down", 503, 1011, "in detail\n"},
		{"fast", 429, 4102, ""}, {"big", 502, 1011, ""},
	} {
		_, res, err := c.TryDial("/ws", "X-Who: "+test.who)
		if err == nil || res.StatusCode != test.status {
			t.Fatalf("%s: %v, %v", test.who, res, err)
		}
		if body, _ := io.ReadAll(res.Body); string(body) != test.body || res.Header.Get("Presence-Id") != "" {
			t.Errorf("%s: got %q, want %q", test.who, body, test.body)
		}
		if test.who == "eve" && res.Header.Get("X-Why") != "unknown" {
			t.Error("the refusal's headers are lost")
		}
		c.Dial("/ws", "X-Who: "+test.who, "Sec-WebSocket-Protocol: presence.v1").ExpectClosed(test.code)
	}
}

// zeros is a stream without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// told is an event as a backend is told it.
type told struct {
	Event, ID, Type, Conn, Reason string
	Member                        map[string]any
}

func (b *Backend) nextEvent() (told, Request) {
	b.t.Helper()
	var e told
	r := b.Next()
	if err := json.Unmarshal([]byte(r.Body), &e); err != nil {
		b.t.Fatalf("the backend was told %s", r.Body)
	}
	return e, r
}

// TestEvents tells a backend who comes and goes.
func TestEvents(t *testing.T) {
	t.Run("memory", func(t *testing.T) { testEvents(t, "memory") })
	t.Run("redis", func(t *testing.T) { testEvents(t, "redis "+redistest.Start(t).URL()) })
}

func testEvents(t *testing.T, store string) {
	b := StartBackend(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) })
	c := StartText(t, "{\n\tpresence {\n\t\tstore "+store+"\n\t\tgrace 1s\n\t}\n}\n{$SITE}\npresence /ws {\n"+
		"\ton open close online offline {\n\t\treverse_proxy "+b.Addr+"\n\t}\n}\n")
	expect := func(id string, events ...string) {
		t.Helper()
		for _, want := range events {
			e, _ := b.nextEvent()
			if got := strings.TrimSpace(e.Event + " " + e.Reason); got != want || e.ID != id {
				t.Fatalf("the backend was told %q of %s, want %q of %s", got, e.ID, want, id)
			}
		}
	}
	ann := c.Dial("/ws", "Cookie: a=b")
	conn := ann.Open(`"id":7,"type":"driver","name":"Ann"`)
	e, r := b.nextEvent()
	if e.Event != "open" || e.ID != "7" || e.Type != "driver" || e.Conn != conn || e.Member["name"] != "Ann" ||
		r.URI != "/ws" || r.Header.Get("Cookie") != "a=b" || r.Header.Get("Presence-Event") != "open" || r.Header.Get("Presence-Id") != "7" {
		t.Errorf("the backend was told %+v by %+v", e, r)
	}
	expect("7", "online")
	ann.Send(`{"action":"close"}`)
	expect("7", "close client", "offline client")
	ann.Open(`"id":7`)
	expect("7", "open", "online")
	bob := c.Dial("/ws")
	bob.Open(`"id":7`)
	expect("7", "open", "close replaced")
	bob.Cut()
	expect("7", "close lost")
	eve := c.Dial("/ws")
	eve.Open(`"id":7`)
	expect("7", "open")
	eve.Cut()
	expect("7", "close lost", "offline lost")
	dan := c.Dial("/ws")
	dan.Open(`"id":8`)
	expect("8", "open", "online")
	c.Call(http.MethodDelete, "/presence/members/8", "")
	expect("8", "close kicked", "offline kicked")
}

// TestEventsAgain tells events again, in order, while the backend is down, and
// gives up what it refuses.
func TestEventsAgain(t *testing.T) {
	var failures atomic.Int32
	b := StartBackend(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Presence-Id") == "eve":
			w.WriteHeader(400)
		case failures.Add(1) <= 2:
			w.WriteHeader(500)
		}
	})
	c := StartText(t, "{$SITE}\npresence /ws {\n\ton online offline {\n\t\treverse_proxy "+b.Addr+"\n\t}\n}\n")
	eve := c.Dial("/ws")
	eve.Open(`"id":"eve"`)
	if e, _ := b.nextEvent(); e.ID != "eve" {
		t.Errorf("told of %s", e.ID)
	}
	ann := c.Dial("/ws")
	ann.Open(`"id":7`)
	ann.Send(`{"action":"close"}`)
	for _, want := range []string{"online", "online", "online", "offline"} {
		if e, _ := b.nextEvent(); e.Event != want {
			t.Fatalf("told %s, want %s", e.Event, want)
		}
	}
	Eventually(t, func() bool { s := c.Stats(); return s.EventsTold == 2 && s.EventsGivenUp == 1 },
		func() string { return fmt.Sprintf("%+v", c.Stats()) })
	c.ExpectLog("event given up")
}

// TestConnectSlow refuses handshakes that are not decided about in time.
func TestConnectSlow(t *testing.T) {
	b := StartBackend(t, hold(nil))
	c := StartText(t, "{$SITE}\npresence /ws {\n\taction_timeout 50ms\n\ton connect {\n\t\treverse_proxy "+b.Addr+"\n\t}\n}\n")
	if _, res, err := c.TryDial("/ws"); err == nil || res.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("got %v, %v", res, err)
	}
}

// TestEventsAtStop tells, when Caddy stops, whose connection ends, and of nobody
// that it is offline: they come back elsewhere.
func TestEventsAtStop(t *testing.T) {
	b := StartBackend(t, func(w http.ResponseWriter, r *http.Request) {})
	c := StartText(t, "{$SITE}\npresence /ws {\n\ton close offline {\n\t\treverse_proxy "+b.Addr+"\n\t}\n}\n")
	const users = 100
	for n := range users {
		c.Dial("/ws").Open(fmt.Sprintf(`"id":%d`, n))
	}
	c.Stop()
	for range users {
		if e, _ := b.nextEvent(); e.Event != "close" || e.Reason != "stop" {
			t.Fatalf("told %+v", e)
		}
	}
	if len(b.requests) != 0 {
		t.Errorf("told %+v too", b.Next())
	}
}
