package integration

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// resumePage opens a page whose client resumes, and keeps its offset over a page
// load.
func resumePage(t *testing.T, tab *Tab, url string) {
	t.Helper()
	tab.Eval(`(() => {
		window.pushed = [];
		window.p = Presence.connect(` + url + `, {
			member: { id: 'ann', type: 'driver' }, keepOffset: true,
			heartbeat: 500, timeout: 500, beat: 500, minDelay: 100, maxDelay: 500, stable: 200,
		});
		p.on('push', d => pushed.push(d));
		p.on('missed', () => pushed.push('missed'));
	})()`)
	tab.Expect("p.state", `"online"`)
}

// TestClientResume makes pushes while a page's network is cut, while it loads anew,
// and while its server is restarted: it shows them, or knows that it missed some.
func TestClientResume(t *testing.T) {
	browser := StartBrowser(t)
	c := StartText(t, clientSite, "OPTION=resume")
	proxy := StartProxy(t, strings.TrimPrefix(c.URL, "http://"))
	tab := browser.Open(t, c.URL+"/page")
	resumePage(t, tab, wsURL(proxy.Addr))
	c.ExpectState("ann", "online")
	c.Push(`{"to":{"ids":["ann"]},"data":{"n":1}}`)
	tab.Expect("pushed", `[{"n":1}]`)

	proxy.SetSilent(true) // the server does not know yet, and pushes into the dark
	c.Push(`{"to":{"ids":["ann"]},"text":"two","wait":"100ms"}`)
	tab.Expect("p.state !== 'online'", "true")
	c.ExpectState("ann", "offline")
	c.Push(`{"to":{"all":true},"text":"three"}`)
	if r := c.Push(`{"to":{"ids":["ann"]},"data":4}`); r.Queued != 1 {
		t.Errorf("the report is %+v", r)
	}
	proxy.SetSilent(false)
	tab.Expect("pushed", `[{"n":1},"two","three",4]`)
	c.Push(`{"to":{"ids":["ann"]},"text":"five"}`)
	tab.Expect("pushed", `[{"n":1},"two","three",4,"five"]`)

	tab.Do(chromedp.Navigate("about:blank"))
	Eventually(t, func() bool { return c.State("ann") != "online" }, func() string { return "ann stays online" })
	c.Push(`{"to":{"ids":["ann"]},"text":"six"}`)
	tab.Do(chromedp.Navigate(c.URL + "/page"))
	resumePage(t, tab, wsURL(proxy.Addr))
	tab.Expect("pushed", `["six"]`)
	if r := c.Push(`{"to":{"ids":["ann"]},"text":"seven","ack":true,"wait":"20s"}`); r.Acked != 1 {
		t.Errorf("the report is %+v", r)
	}
	tab.Expect("pushed", `["six","seven"]`)

	c.Kill() // and with it what it kept
	c.Restart()
	tab.Expect("pushed", `["six","seven","missed"]`)
	c.ExpectState("ann", "online")
	c.Push(`{"to":{"ids":["ann"]},"text":"eight"}`)
	tab.Expect("pushed", `["six","seven","missed","eight"]`)
}
