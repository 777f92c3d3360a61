package integration

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestActions gives frames to handlers, and wants their answers back.
func TestActions(t *testing.T) {
	b := StartBackend(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("Presence-Action") {
		case "empty":
			w.WriteHeader(204)
		case "text":
			fmt.Fprint(w, "say \"hello\"")
		case "refuse":
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(409)
			fmt.Fprint(w, `{"why": "taken"}`)
		case "stream":
			w.Header().Set("Content-Type", "application/x-ndjson")
			for n := range 3 {
				fmt.Fprintf(w, "{\"n\":%d}\n\n", n)
				_ = http.NewResponseController(w).Flush()
			}
			fmt.Fprint(w, `{"last":true}`)
		default:
			fmt.Fprint(w, `{"action":"order", "n": 1}`)
		}
	})
	c := StartText(t, `{$SITE}
presence /ws* {
	action otherEvent text empty refuse stream {
		reverse_proxy `+b.Addr+`
	}
	action here {
		@driver header Presence-Type driver
		respond @driver "{presence.action} {presence.id} {presence.type} {presence.conn}"
	}
	action forbidden {
		error 403
	}
	action broken {
		error 500
	}
}
`)
	ann := c.Dial("/ws/x?token=1", "Cookie: session=abc", "Authorization: Bearer x", "Presence-Id: root", "X-Other: 1")
	ann.Send(`{"action":"here"}`)
	ann.ExpectError("unknown_action")
	conn := ann.Open(`"id":7,"type":"driver"`)
	ann.Send(`{"action":"otherEvent","n": 1}`)
	ann.Expect(`{"action":"order", "n": 1}`)
	r := b.Next()
	if r.Method != "POST" || r.URI != "/ws/x?token=1" || r.Body != `{"action":"otherEvent","n": 1}` || r.Host != strings.TrimPrefix(c.URL, "http://") {
		t.Errorf("the request is %+v", r)
	}
	for name, want := range map[string]string{
		"Cookie": "session=abc", "Authorization": "Bearer x", "Presence-Action": "otherEvent",
		"Presence-Conn": conn, "Presence-Id": "7", "Presence-Type": "driver", "X-Other": "",
		"Content-Type": "application/json", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http",
		"Upgrade": "", "Sec-Websocket-Key": "",
	} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("header %s is %q, want %q", name, got, want)
		}
	}
	ann.Send(`{"action":"otherEvent","ref":"a"}`, `{"action":"empty"}`, `{"action":"empty","ref":2}`,
		`{"action":"text"}`, `{"action":"text","ref":3}`, `{"action":"here","ref":4}`)
	ann.Expect(`{"action":"reply","ref":"a","ok":true,"data":{"action":"order", "n": 1}}`, `{"action":"reply","ref":2,"ok":true}`,
		`say "hello"`, `{"action":"reply","ref":3,"ok":true,"text":"say \"hello\""}`,
		`{"action":"reply","ref":4,"ok":true,"text":"here 7 driver `+conn+`"}`)
	ann.Send(`{"action":"stream","ref":5}`, `{"action":"refuse","ref":6}`, `{"action":"forbidden"}`, `{"action":"broken","ref":7}`)
	ann.Expect(`{"n":0}`, `{"n":1}`, `{"n":2}`, `{"last":true}`, `{"action":"reply","ref":5,"ok":true}`,
		`{"action":"error","ref":6,"code":"refused","message":"Conflict","retry_after":7,"status":409,"data":{"why": "taken"}}`)
	ann.Expect(`{"action":"error","code":"refused","message":"Forbidden","status":403}`,
		`{"action":"error","ref":7,"code":"backend_failed","message":"the backend failed with status 500","status":500}`)
	ann.Send(`{"action":"none"}`, `{"action":"a\nb"}`)
	ann.ExpectError("unknown_action")
	ann.ExpectError("bad_frame")
	c.ExpectLog("action failed")
	if n := strings.Count(c.Log(), "action failed"); n != 1 {
		t.Errorf("%d lines of the log tell of failed actions", n)
	}
}

// hold is an answer that waits until its request is cancelled, or the test lets
// it go.
func hold(release <-chan struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-release:
			fmt.Fprint(w, "released")
		}
	}
}

// TestActionsInOrder fills a connection's line, heartbeats meanwhile, and wants
// what fits in it to be answered in order.
func TestActionsInOrder(t *testing.T) {
	release := make(chan struct{})
	b := StartBackend(t, func(w http.ResponseWriter, r *http.Request) { hold(release)(w, r) })
	c := StartText(t, "{$SITE}\npresence /ws {\n\taction slow {\n\t\treverse_proxy "+b.Addr+"\n\t}\n}\n")
	ann := c.Dial("/ws")
	for n := range 18 {
		ann.Send(fmt.Sprintf(`{"action":"slow","ref":%d}`, n))
	}
	ann.ExpectError("too_fast")
	ann.ExpectNothing()
	if s := c.Stats(); s.ActionsNow != 17 {
		t.Errorf("%d actions are under way", s.ActionsNow)
	}
	close(release)
	for n := range 17 {
		ann.Expect(fmt.Sprintf(`{"action":"reply","ref":%d,"ok":true,"text":"released"}`, n))
		b.Expect(fmt.Sprintf(`{"action":"slow","ref":%d}`, n))
	}
	c.expectNoActions()
}

// expectNoActions waits until no action is under way.
func (c *Caddy) expectNoActions() {
	c.t.Helper()
	Eventually(c.t, func() bool { return c.Stats().ActionsNow == 0 }, func() string { return "actions are under way" })
}

// TestActionsOfHub bounds the actions of all connections together.
func TestActionsOfHub(t *testing.T) {
	b := StartBackend(t, hold(nil))
	c := StartText(t, "{$SITE}\npresence /ws {\n\tmax_actions 2\n\taction * {\n\t\treverse_proxy "+b.Addr+"\n\t}\n}\n")
	var clients [3]*Client
	for i := range clients {
		clients[i] = c.Dial("/ws")
		clients[i].Send(`{"action":"any"}`)
		if i < 2 {
			b.Next()
		}
	}
	clients[2].ExpectError("too_fast")
	clients[0].Cut() // which cancels its action
	Eventually(t, func() bool { return c.Stats().ActionsNow == 1 }, func() string { return "the action goes on" })
	clients[2].Send(`{"action":"any"}`)
	b.Next()
}

// TestActionTimeout wants a slow action to be given up, and the next to run.
func TestActionTimeout(t *testing.T) {
	b := StartBackend(t, hold(nil))
	c := StartText(t, "{$SITE}\npresence /ws {\n\taction_timeout 100ms\n\taction slow {\n\t\treverse_proxy "+b.Addr+"\n\t}\n\taction fast {\n\t\trespond done\n\t}\n}\n")
	ann := c.Dial("/ws")
	ann.Send(`{"action":"slow","ref":1}`, `{"action":"fast"}`)
	ann.Expect(`{"action":"error","ref":1,"code":"backend_failed","message":"the action took too long"}`, "done")
	c.ExpectLog("action failed")
}

// TestActionsReload wants connections to use the routes of the newest
// configuration, and requests to end on those that they began on.
func TestActionsReload(t *testing.T) {
	release := make(chan struct{})
	b := StartBackend(t, func(w http.ResponseWriter, r *http.Request) { hold(release)(w, r) })
	site := func(handlers string) string {
		return WriteFile(t, "Caddyfile", "{$SITE}\npresence /ws {\n\taction "+handlers+"\n}\n")
	}
	c := Start(t, site("* {\n\t\treverse_proxy "+b.Addr+"\n\t}"))
	ann, bob := c.Dial("/ws"), c.Dial("/ws", "Cookie: who=bob")
	ann.Send(`{"action":"old"}`, `{"action":"new"}`)
	b.Next()
	c.Reload(site("new {\n\t\trespond `new {http.request.cookie.who}`\n\t}"))
	bob.Send(`{"action":"new"}`)
	bob.Expect("new bob")
	bob.Send(`{"action":"old"}`)
	bob.ExpectError("unknown_action")
	close(release)
	ann.Expect("released", "new ")
	c.Reload(site("new {\n\t\trespond newer\n\t}"))
	ann.Send(`{"action":"new"}`)
	ann.Expect("newer")
}

// TestBinaryActions gives binary messages to a handler, where there is one.
func TestBinaryActions(t *testing.T) {
	b := StartBackend(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header.Get("Content-Type")) })
	c := StartText(t, "{$SITE}\npresence /ws {\n\taction binary {\n\t\treverse_proxy "+b.Addr+"\n\t}\n}\npresence /text {\n\thub text\n}\n")
	ann, bob := c.Dial("/ws"), c.Dial("/text")
	ann.SendBinary("\x00\xff")
	ann.Expect("application/octet-stream")
	if r := b.Next(); r.Body != "\x00\xff" || r.Header.Get("Presence-Action") != "binary" {
		t.Errorf("the request is %+v", r)
	}
	ann.Send(`{"action":"binary"}`)
	ann.ExpectError("unknown_action")
	bob.SendBinary("x")
	bob.ExpectClosed(1003)
}

// TestActionExpires lets an answer say when the identity expires.
func TestActionExpires(t *testing.T) {
	c := StartText(t, "{$SITE}\npresence /ws {\n\taction renew {\n\t\theader Presence-Expires {http.request.header.Cookie}\n\t\trespond ok\n\t}\n}\n")
	bob := c.Dial("/ws", "Cookie: soon")
	bob.Send(`{"action":"renew"}`)
	bob.Expect("ok")
	bob.ExpectNothing()
	c.ExpectLog("a Presence-Expires header cannot be read")
	ann := c.Dial("/ws", "Cookie: 1700000000")
	ann.Send(`{"action":"renew"}`)
	ann.ExpectClosed(4202)
}

// TestActionsBehindProxy gives handlers the client's address, not the proxy's.
func TestActionsBehindProxy(t *testing.T) {
	b := StartBackend(t, func(http.ResponseWriter, *http.Request) {})
	site := `
presence /ws {
	action here {
		respond "{client_ip}"
	}
	action there {
		reverse_proxy ` + b.Addr + `
	}
}
`
	headers := []string{"X-Forwarded-For: 9.9.9.9", "X-Forwarded-Proto: https", "Cf-Connecting-Ip: 8.8.8.8"}
	for trust, want := range map[string][3]string{
		"trusted_proxies static 127.0.0.1":                                         {"9.9.9.9", "9.9.9.9, 127.0.0.1", "https"},
		"trusted_proxies static 127.0.0.1\n\t\tclient_ip_headers Cf-Connecting-Ip": {"8.8.8.8", "9.9.9.9, 127.0.0.1", "https"},
		"trusted_proxies static 10.0.0.0/8":                                        {"127.0.0.1", "127.0.0.1", "http"},
	} {
		c := StartText(t, "{\n\tservers {\n\t\t"+trust+"\n\t}\n}\n{$SITE}"+site)
		ann := c.Dial("/ws", headers...)
		ann.Send(`{"action":"here"}`, `{"action":"there","ref":1}`)
		ann.Expect(want[0], `{"action":"reply","ref":1,"ok":true}`)
		r := b.Next()
		if got := r.Header.Get("X-Forwarded-For"); got != want[1] || r.Header.Get("X-Forwarded-Proto") != want[2] {
			t.Errorf("%s: the backend is told %s, %s", trust, got, r.Header.Get("X-Forwarded-Proto"))
		}
	}
}

// TestActionIDs sees that two users stay two, though receivers trim headers.
func TestActionIDs(t *testing.T) {
	b := StartBackend(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header.Get("Presence-Id")) })
	c := StartText(t, "{$SITE}\npresence /ws {\n\taction id {\n\t\treverse_proxy "+b.Addr+"\n\t}\n}\n")
	for id, want := range map[string]string{`"7"`: "7", `"7 "`: "7%20", `"Zoë"`: "Zoë", `"a b"`: "a b"} {
		ann := c.Dial("/ws")
		ann.Open(`"id":` + id)
		ann.Send(`{"action":"id"}`)
		ann.Expect(want)
	}
}

// TestActionsOnTwoRoutes has one hub with the same handlers on two sites.
func TestActionsOnTwoRoutes(t *testing.T) {
	c := StartText(t, `(chat) {
	presence /ws {
		action x {
			handle /ws {
				respond one
			}
			handle {
				respond two
			}
		}
	}
}
{$SITE} {
	import chat
}
{$OTHER} {
	import chat
}
`, "OTHER=http://"+FreeAddr(t))
	ann := c.Dial("/ws")
	ann.Send(`{"action":"x"}`)
	ann.Expect("one")
}

// TestActionsHTTP2 has an action and a decision about a handshake over HTTP/2:
// handlers are told of a request like any other, over TLS.
func TestActionsHTTP2(t *testing.T) {
	_, site := startTLS(t, `
		action where {
			respond "{http.request.method} {http.request.scheme}://{http.request.hostport}{http.request.uri} of {presence.id}"
		}
		on connect {
			header Presence-Id {http.request.method}
			respond "{http.request.header.upgrade}{http.request.header.:protocol}" 200
		}`)
	ann := startScript(t, "h2.mjs", site+"/ws")
	ann.want("status 200 presence.v1 -")
	ann.send(`{"action":"open","ref":1}`)
	ann.want(`{"action":"reply","ref":1,"ok":true`)
	ann.send(`{"action":"where"}`)
	ann.want("POST " + site + "/ws of POST")
	ann.send("ping")
	ann.want("pong")
}
