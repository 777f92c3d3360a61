package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore/redistest"
)

const plain = "{$SITE}\npresence /ws {\n\topen_timeout 0\n}\nrespond \"the site\"\n"

// onEachStore runs a test with presence in memory and in Redis.
func onEachStore(t *testing.T, test func(t *testing.T, c *Caddy), options ...string) {
	site := "{$SITE}\npresence /ws {\n\t" + strings.Join(options, "\n\t") + "\n}\n"
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		test(t, StartText(t, site))
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		redis := redistest.Start(t)
		test(t, StartText(t, "{\n\tpresence {\n\t\tstore redis {$REDIS}\n\t}\n}\n"+site, "REDIS="+redis.URL()))
	})
}

// TestJob is the main job: open, heartbeat, who is online, push.
func TestJob(t *testing.T) {
	onEachStore(t, func(t *testing.T, c *Caddy) {
		ann, bob := c.Dial("/ws"), c.Dial("/ws")
		ann.Send("ping")
		ann.Expect("pong")
		conn := ann.Open(`"id":7,"type":"driver","name":"Ann","phone":"+1"`)
		bob.Open(`"id":"bob","type":"rider"`)
		status, answer := c.Call(http.MethodGet, "/presence/members?limit=1000", "")
		var page struct {
			Members []struct {
				ID, Type, State string
				Member          map[string]any
				Conns           []struct{ Conn string }
			}
		}
		if err := json.Unmarshal([]byte(answer), &page); err != nil || status != 200 || len(page.Members) != 2 {
			t.Fatalf("members: %d, %s", status, answer)
		}
		for _, m := range page.Members {
			if m.ID == "7" && (m.Type != "driver" || m.State != "online" || m.Member["phone"] != "+1" || m.Conns[0].Conn != conn) {
				t.Errorf("Ann is listed as %+v", m)
			}
		}
		r := c.Push(`{"to":{"ids":[7,"9"]},"data":{"order":  1}}`)
		if r.Matched != 1 || r.Sent != 1 || fmt.Sprint(r.Offline) != "[9]" {
			t.Errorf("the push: %+v", r)
		}
		ann.Expect(`{"order":  1}`)
		c.Push(`{"to":{"types":["driver"]},"text":"to drivers"}`)
		ann.Expect("to drivers")
		c.Push(`{"to":{"all":true},"except":{"ids":[7]},"text":"to others"}`)
		bob.Expect("to others")
		ann.ExpectNothing()
		if _, answer := c.Call(http.MethodGet, "/presence/count?type=rider", ""); answer != `{"count":1}` {
			t.Errorf("count: %s", answer)
		}
		ann.Close(1000)
		c.ExpectState("7", "offline")
		bob.Cut()
		c.ExpectState("bob", "lingering")
	})
}

// TestElsewhere opens a user that is online on another connection, which is then
// closed, and ends later.
func TestElsewhere(t *testing.T) {
	onEachStore(t, func(t *testing.T, c *Caddy) {
		first, second := c.Dial("/ws"), c.Dial("/ws")
		first.Open(`"id":7,"n":1`)
		second.Open(`"id":7,"n":2`)
		first.ExpectClosed(4001)
		first.Cut()
		second.ExpectNothing()
		if got := c.State("7"); got != "online" {
			t.Errorf("the user is %s", got)
		}
		if r := c.Push(`{"to":{"ids":[7]},"text":"x"}`); r.Sent != 1 {
			t.Errorf("the push: %+v", r)
		}
		second.Expect("x")
		if status, answer := c.Call(http.MethodDelete, "/presence/members/7", ""); status != 200 || answer != `{"kicked":1,"unconfirmed":0}` {
			t.Errorf("kicking: %d, %s", status, answer)
		}
		second.ExpectClosed(4003)
		if got := c.State("7"); got != "offline" {
			t.Errorf("the user is %s", got)
		}
	})
}

// TestPassesOn sees that what is no handshake goes to the next handler, and that
// a foreign page may not connect.
func TestPassesOn(t *testing.T) {
	c := StartText(t, plain)
	for _, path := range []string{"/", "/ws"} {
		res, err := http.Get(c.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != 200 {
			t.Errorf("%s: status %d", path, res.StatusCode)
		}
	}
	if _, res, err := c.TryDial("/elsewhere"); err == nil || res.StatusCode != 200 {
		t.Errorf("a handshake on another route: %v, %v", res, err)
	}
	for origin, status := range map[string]int{
		"http://evil.example": 403, "null": 403, strings.Replace(c.URL, "127", "128", 1): 403,
		c.URL + "0": 403, strings.TrimPrefix(c.URL, "http:"): 403, "": 101, c.URL: 101,
		strings.Replace(c.URL, "http:", "https:", 1): 101, // TLS may end in front
	} {
		headers := []string{"Origin: " + origin, "Sec-WebSocket-Protocol: presence.v1"}
		if origin == "" {
			headers = headers[1:]
		}
		_, res, err := c.TryDial("/ws", headers...)
		if res == nil || res.StatusCode != status {
			t.Errorf("origin %q: got %v, %v; want status %d", origin, res, err, status)
		}
	}
}

func TestOrigins(t *testing.T) {
	c := StartText(t, "{$SITE}\npresence /ws {\n\torigins app.example.com *.example.org https://x.example:8443\n}\n"+
		"presence /any {\n\thub any\n\torigins *\n}\n")
	for origin, status := range map[string]int{
		"https://app.example.com": 101, "http://app.example.com": 101, "https://APP.example.com": 101,
		"https://a.example.org": 101, "https://a.b.example.org": 101, "https://x.example:8443": 101,
		"https://example.org": 403, "https://evilexample.org": 403, "https://x.app.example.com": 403,
		"https://app.example.com:444": 403, "https://app.example.com.evil": 403,
		"http://x.example:8443": 403, "https://x.example": 403, "null": 403, c.URL: 403,
	} {
		_, res, _ := c.TryDial("/ws", "Origin: "+origin)
		if res == nil || res.StatusCode != status {
			t.Errorf("origin %q: got %v, want status %d", origin, res, status)
		}
	}
	c.Dial("/any", "Origin: null")
}

// TestStream pushes a stream, and wants the results and the messages in order.
func TestStream(t *testing.T) {
	onEachStore(t, func(t *testing.T, c *Caddy) {
		ann := c.Dial("/ws")
		ann.Open(`"id":7`)
		const pushes = 2000
		var body strings.Builder
		for n := range pushes {
			fmt.Fprintf(&body, `{"to":{"ids":[7]},"data":%d,"id":"push-%d"}`+"\n", n, n)
		}
		body.WriteString("\n{\"to\":{}}\nnonsense")
		status, answer := c.Call(http.MethodPost, "/presence/push", body.String(), "Content-Type: application/x-ndjson")
		lines := strings.Split(answer, "\n")
		if status != 200 || len(lines) != pushes+2 {
			t.Fatalf("status %d, %d lines, the last %s", status, len(lines), lines[len(lines)-1])
		}
		for n := range pushes {
			if want := fmt.Sprintf(`{"id":"push-%d","matched":1,"sent":1,"dropped":0,"unconfirmed":0,"offline":[]}`, n); lines[n] != want {
				t.Fatalf("line %d is %s", n, lines[n])
			}
			ann.Expect(fmt.Sprint(n))
		}
		for n, want := range []string{`"line":2001}`, `"line":2002}`} {
			if !strings.HasSuffix(lines[pushes+n], want) || !strings.Contains(lines[pushes+n], `"status":400`) {
				t.Errorf("a bad line is answered %s", lines[pushes+n])
			}
		}
	})
}

// TestBadRequests gives the API what it must refuse.
func TestBadRequests(t *testing.T) {
	c := StartText(t, plain)
	const (
		get    = http.MethodGet
		post   = http.MethodPost
		remove = http.MethodDelete
	)
	for _, test := range []struct {
		method, path, body string
		status             int
	}{
		{post, "/presence/push", `{`, 400},
		{post, "/presence/push", `{"to":{"all":true},"data":1,"x":1}`, 400},
		{post, "/presence/push", `{"to":{"all":true},"text":"` + strings.Repeat("x", 65<<10) + `"}`, 413},
		{post, "/presence/push", `{"to":{"all":true},"data":"` + strings.Repeat("x", 2<<20) + `"}`, 413},
		{get, "/presence/push", "", 405},
		{get, "/presence/members?limit=0", "", 400},
		{get, "/presence/members?limit=x", "", 400},
		{get, "/presence/members?limit=1001", "", 400},
		{get, "/presence/members?cursor=x", "", 400},
		{get, "/presence/members?typ=x", "", 400},
		{get, "/presence/members?id=", "", 400},
		{get, "/presence/members/" + strings.Repeat("x", 200), "", 404},
		{get, "/presence/members/nobody", "", 404},
		{remove, "/presence/members/nobody", "", 404},
		{remove, "/presence/conns/x", "", 400},
		{remove, "/presence/conns/abc.1", "", 404},
		{get, "/presence/hubs/none/count", "", 404},
		{get, "/presence/hubs/default/count", "", 200},
		{get, "/presence/nothing", "", 404},
		{get, "/presence/", "", 404},
		{get, "/presence/stats", "", 200},
	} {
		status, answer := c.Call(test.method, test.path, test.body)
		if status != test.status && !(status == 400 && test.status == 404 && strings.Contains(test.path, "xxx")) {
			t.Errorf("%s %.60s: status %d, %s; want %d", test.method, test.path, status, answer, test.status)
		}
		var e struct{ Error string }
		if err := json.Unmarshal([]byte(answer), &e); err != nil || status >= 400 && e.Error == "" {
			t.Errorf("%s %.60s: answered %s", test.method, test.path, answer)
		}
	}
	if status, _ := c.Call(post, "/presence/push", `{}`, "Sec-Fetch-Site: cross-site"); status != 403 {
		t.Errorf("a push from a foreign page: status %d", status)
	}
	if status, answer := c.Call(post, "/presence/push", `{"to":{"ids":["x"]},"data":1,"wait":"0s"}`); status != 202 || !strings.HasSuffix(answer, `"matched":0}`) {
		t.Errorf("a push without a wait: %d, %s", status, answer)
	}
}
