package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// clientSite serves a page with nothing but the script-tag build of the client.
// Beats are two a second, so that what takes a minute takes a second and a half.
const clientSite = `{
	presence {
		grace 10s
	}
}
{$SITE}
presence /ws {
	origins *
	ping_interval 500ms
	pong_timeout 500ms
	max_unopened 0
	{$OPTION:rate_limit 100 100}
}
presence_client /presence.js
presence_client /shared.js
header /page* Content-Type text/html
respond /page* "<!doctype html><title>page</title><script src=/presence.js></script>"
header /tabs* Content-Type text/html
respond /tabs* "<!doctype html><title>tabs</title><script src=/shared.js></script>"
`

// startClient opens a page and goes online there as ann. url is JavaScript.
func startClient(t *testing.T, browser *Browser, c *Caddy, url string) *Tab {
	t.Helper()
	tab := browser.Open(t, c.URL+"/page")
	tab.Eval(`(() => {
		window.states = []; window.pushed = []; window.errors = [];
		window.p = Presence.connect(` + url + `, {
			member: { id: 'ann', type: 'driver' },
			heartbeat: 500, timeout: 500, beat: 500, minDelay: 100, maxDelay: 500, stable: 200,
		});
		p.on('state', s => states.push(s));
		p.on('push', d => pushed.push(d));
		p.on('error', e => errors.push(e.code));
	})()`)
	tab.Expect("p.state", `"online"`)
	c.ExpectState("ann", "online")
	return tab
}

func wsURL(addr string) string {
	return JSString("ws://" + strings.TrimPrefix(addr, "http://") + "/ws")
}

// expectOnline wants the client and the API to agree that ann is online, on one
// connection, and reachable; it returns how long that took.
func expectOnline(t *testing.T, c *Caddy, tab *Tab) time.Duration {
	t.Helper()
	began := time.Now()
	tab.Expect("p.state", `"online"`)
	c.ExpectState("ann", "online")
	took := time.Since(began)
	Eventually(t, func() bool { return c.connections() == 1 }, func() string {
		return fmt.Sprintf("%d connections, want 1", c.connections())
	})
	text := fmt.Sprintf("push at %v", time.Now())
	if r := c.Push(`{"to":{"ids":["ann"]},"text":` + JSString(text) + `}`); r.Sent != 1 {
		t.Errorf("a push: %+v", r)
	}
	tab.Expect("pushed.filter(d => d === "+JSString(text)+").length", "1")
	return took
}

// connections is how many connections the node has.
func (c *Caddy) connections() int {
	c.t.Helper()
	return c.Stats().Connections
}

// TestClientFaults is what the client must come back from by itself.
func TestClientFaults(t *testing.T) {
	browser := StartBrowser(t)
	t.Run("server killed and restarted", func(t *testing.T) {
		c := StartText(t, clientSite)
		tab := startClient(t, browser, c, wsURL(c.URL))
		c.Kill()
		tab.Expect("p.state !== 'online'", "true")
		c.Restart()
		t.Logf("online again after %v", expectOnline(t, c, tab))
	})
	t.Run("connection cut", func(t *testing.T) {
		c := StartText(t, clientSite)
		proxy := StartProxy(t, strings.TrimPrefix(c.URL, "http://"))
		tab := startClient(t, browser, c, wsURL(proxy.Addr))
		proxy.Cut()
		tab.Expect("states.includes('waiting')", "true")
		t.Logf("online again after %v", expectOnline(t, c, tab))
		if got := tab.Eval("errors"); got != "[]" {
			t.Errorf("errors were told: %s", got)
		}
	})
	t.Run("network silent and back", func(t *testing.T) {
		c := StartText(t, clientSite)
		proxy := StartProxy(t, strings.TrimPrefix(c.URL, "http://"))
		tab := startClient(t, browser, c, wsURL(proxy.Addr))
		proxy.SetSilent(true)
		tab.Expect("p.state !== 'online'", "true")
		c.ExpectState("ann", "offline")
		proxy.SetSilent(false)
		t.Logf("online again after %v", expectOnline(t, c, tab))
	})
	t.Run("tab hidden", func(t *testing.T) {
		c := StartText(t, clientSite)
		tab := startClient(t, browser, c, wsURL(c.URL))
		other := browser.Open(t, "about:blank")
		other.Call("Page.bringToFront", map[string]any{})
		hideFrom := c.pings()
		Eventually(t, func() bool { return c.pings() > hideFrom+4 }, func() string { return "no heartbeat comes from a tab behind another" })
		expectOnline(t, c, tab)
		if got := tab.Eval("states"); strings.Contains(got, "waiting") {
			t.Errorf("its states were %s", got)
		}
	})
	t.Run("page frozen", func(t *testing.T) {
		c := StartText(t, clientSite)
		tab := startClient(t, browser, c, wsURL(c.URL))
		tab.Call("Page.setWebLifecycleState", map[string]any{"state": "frozen"})
		c.ExpectState("ann", "offline")
		tab.Call("Page.setWebLifecycleState", map[string]any{"state": "active"})
		t.Logf("online again after %v", expectOnline(t, c, tab))
	})
	t.Run("back button", func(t *testing.T) {
		c := StartText(t, clientSite)
		tab := startClient(t, browser, c, wsURL(c.URL))
		tab.Eval("addEventListener('pageshow', e => window.cached = e.persisted)")
		tab.Eval("void setTimeout(() => location.href = '/page?2')")
		tab.Expect("location.search", `"?2"`)
		c.ExpectState("ann", "lingering")
		tab.Eval("void setTimeout(() => history.back())")
		tab.Expect("window.cached", "true") // or this proves nothing
		t.Logf("online again after %v", expectOnline(t, c, tab))
	})
	t.Run("quick toggles", func(t *testing.T) {
		c := StartText(t, clientSite)
		tab := startClient(t, browser, c, wsURL(c.URL))
		for range 5 {
			for _, offline := range []bool{true, false} {
				tab.Call("Network.emulateNetworkConditions", map[string]any{
					"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1,
				})
			}
		}
		expectOnline(t, c, tab)
	})
}

// pings is how many heartbeats the node has answered.
func (c *Caddy) pings() int {
	c.t.Helper()
	return c.Stats().Pings
}

// TestClientReplaced opens the same user in a second tab: the first stays away
// until its person wants it back.
func TestClientReplaced(t *testing.T) {
	browser := StartBrowser(t)
	c := StartText(t, clientSite)
	first := startClient(t, browser, c, wsURL(c.URL))
	second := startClient(t, browser, c, wsURL(c.URL))
	first.Expect("p.state", `"replaced"`)
	expectOnline(t, c, second)
	first.Eval("p.takeOver()")
	second.Expect("p.state", `"replaced"`)
	expectOnline(t, c, first)
	if status, _ := c.Call(http.MethodDelete, "/presence/members/ann", ""); status != 200 {
		t.Errorf("kicking: status %d", status)
	}
	first.Expect("p.state", `"kicked"`)
	c.ExpectState("ann", "offline")
}

// TestClientToken has a token that expires: the client asks for a new one, and
// is never offline; when it is given none, it says so and stays away.
func TestClientToken(t *testing.T) {
	browser := StartBrowser(t)
	site := strings.Replace(clientSite, "max_unopened 0",
		"identity {http.request.uri.query.user}\n\texpires {http.request.uri.query.exp}", 1)
	c := StartText(t, site)
	url := "window.fresh ??= (window.asked = 0, () => { asked++; return " + wsURL(c.URL) +
		" + '?user=ann&exp=' + (window.frozen ??= 0, frozen || Date.now() / 1000 + 0.8) })"
	tab := startClient(t, browser, c, url)
	for tab.Eval("asked >= 4") != "true" {
		if got := c.State("ann"); got == "offline" {
			t.Fatal("the user went offline when a token expired")
		}
	}
	expectOnline(t, c, tab)
	tab.Eval("frozen = 1")
	tab.Expect("p.state", `"unauthorized"`)
	if got := tab.Eval("errors"); got != `["unauthorized"]` {
		t.Errorf("errors: %s", got)
	}
	tab.Eval("(frozen = 0, p.open())")
	expectOnline(t, c, tab)
}

// TestClientRefusedInFront has a handler in front that refuses the handshake,
// which a browser does not tell from a dead network.
func TestClientRefusedInFront(t *testing.T) {
	browser := StartBrowser(t)
	site := strings.Replace(clientSite, "presence /ws {",
		"@refused {\n\tpath /ws\n\tnot query token=right\n}\nroute {\n\trespond @refused 401\n\tpresence /ws {", 1)
	c := StartText(t, strings.Replace(site, "}\npresence_client", "}\n}\npresence_client", 1))
	tab := browser.Open(t, c.URL+"/page")
	tab.Eval(`(window.token = '', window.errors = [], window.p = Presence.connect(() => ` + wsURL(c.URL) + ` + '?token=' + token,
		{ member: { id: 'ann' }, minDelay: 50, maxDelay: 200 }), p.on('error', e => errors.push(e.code)), 0)`)
	tab.Expect("errors", `["connect_failed"]`)
	if c.connections() != 0 {
		t.Errorf("%d connections", c.connections())
	}
	tab.Eval("token = 'right'")
	tab.Expect("p.state", `"online"`)
	c.ExpectState("ann", "online")
}

// TestClientStorm has 500 clients in one process, which lose their server in the
// same moment: they all come back, not all at once.
func TestClientStorm(t *testing.T) {
	c := StartText(t, clientSite)
	const clients = 500
	cmd := exec.Command("node", filepath.Join(Root(), "integration/testdata/storm.mjs"), "ws"+strings.TrimPrefix(c.URL, "http")+"/ws", fmt.Sprint(clients))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	expectCount := func() {
		t.Helper()
		want := fmt.Sprintf(`{"count":%d}`, clients)
		Eventually(t, func() bool {
			_, answer := c.Call(http.MethodGet, "/presence/count", "")
			return answer == want
		}, func() string { return "they are not all online" })
	}
	expectCount()
	c.Kill()
	c.Restart()
	expectCount()
	if n := c.connections(); n != clients {
		t.Errorf("%d connections", n)
	}
	_ = stdin.Close() // tells the program to print its result and end
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	var attempts []float64 // milliseconds from the loss to each attempt
	if err := json.Unmarshal([]byte(out.String()), &attempts); err != nil {
		t.Fatal(err)
	}
	const bucket = 100
	buckets := make(map[int]int)
	fullest := 0
	for _, ms := range attempts {
		buckets[int(ms)/bucket]++
		fullest = max(fullest, buckets[int(ms)/bucket])
	}
	t.Logf("%d attempts in %d tenths of a second, at most %d in one", len(attempts), len(buckets), fullest)
	if fullest > clients/2 {
		t.Errorf("%d of %d attempts came within %d ms", fullest, len(attempts), bucket)
	}
}

func TestClientIsServed(t *testing.T) {
	c := StartText(t, clientSite+"presence_client /js/*\n")
	for _, path := range []string{"/presence.js", "/js/presence.mjs", "/js/shared.js", "/js/shared.mjs"} {
		res, err := http.Get(c.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		etag := res.Header.Get("ETag")
		if res.StatusCode != 200 || !strings.HasPrefix(etag, `"`) || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/javascript") {
			t.Errorf("%s: status %d, %v", path, res.StatusCode, res.Header)
		}
		req, _ := http.NewRequest(http.MethodGet, c.URL+path, nil)
		req.Header.Set("If-None-Match", etag)
		res, err = http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusNotModified {
			t.Errorf("%s again: status %d", path, res.StatusCode)
		}
	}
}

// TestClientShared has three tabs share a connection. When the tab that has it is
// closed, another takes over within the grace time.
func TestClientShared(t *testing.T) {
	browser := StartBrowser(t)
	c := StartText(t, clientSite)
	var tabs []*Tab
	for range 3 {
		tab := browser.Open(t, c.URL+"/tabs")
		tab.Eval(`(() => {
			window.pushed = [];
			window.p = Presence.connect(` + wsURL(c.URL) + `, {
				member: { id: 'ann' }, heartbeat: 500, timeout: 500, beat: 500, minDelay: 100, maxDelay: 500,
			});
			p.on('push', d => pushed.push(d));
		})()`)
		tab.Expect("p.state", `"online"`)
		tabs = append(tabs, tab)
	}
	c.ExpectState("ann", "online")
	if n := c.connections(); n != 1 {
		t.Errorf("three tabs have %d connections", n)
	}
	if r := c.Push(`{"to":{"ids":["ann"]},"text":"to all tabs"}`); r.Sent != 1 {
		t.Errorf("a push: %+v", r)
	}
	for i, tab := range tabs {
		tab.Expect("pushed", `["to all tabs"]`)
		if got, want := tab.Eval("p.leads"), fmt.Sprint(i == 0); got != want {
			t.Errorf("tab %d leads: %s, want %s", i, got, want)
		}
	}
	tabs[0].Close()
	tabs = tabs[1:]
	Eventually(t, func() bool { return tabs[0].Eval("p.leads")+tabs[1].Eval("p.leads") != "falsefalse" },
		func() string { return "no tab took the place of the first" })
	for _, tab := range tabs {
		tab.Expect("p.state", `"online"`)
	}
	c.ExpectState("ann", "online")
	if r := c.Push(`{"to":{"ids":["ann"]},"text":"to those left"}`); r.Sent != 1 {
		t.Errorf("a push: %+v", r)
	}
	for _, tab := range tabs {
		tab.Expect("pushed[1]", `"to those left"`)
	}
	tabs[0].Eval("p.close(true)")
	tabs[1].Expect("p.state", `"closed"`)
	c.ExpectState("ann", "offline")
}
