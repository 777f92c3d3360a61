package integration

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore/redistest"
)

// phpPage is the page around the client. It keeps all sockets and the frames
// that came, to be looked at.
const phpPage = `<!doctype html><div id="app"></div><script src="vue.js"></script><script>
	const sockets = [], frames = [], pushed = [], sent = [];
	const Real = WebSocket;
	window.WebSocket = class extends Real {
		constructor(url) { super(url); sockets.push(this); this.addEventListener('message', e => frames.push(e.data)); }
		send(data) { sent.push(data); super.send(data); }
	};
</script><script src="client.js"></script>`

// phpClient serves the page with the client, changed by replacements, and starts
// Caddy with the hash that its backend reads.
func phpClient(t *testing.T, replace ...string) (*Caddy, *redistest.Server, string) {
	t.Helper()
	dir := filepath.Join(Root(), "integration/testdata/php-client")
	source, err := os.ReadFile(filepath.Join(dir, "client.js"))
	if err != nil {
		t.Fatal(err)
	}
	redis := redistest.Start(t)
	web := httptest.NewUnstartedServer(nil)
	c := StartText(t, "{\n\tpresence {\n\t\tstore redis {$REDIS} {\n\t\t\tmirror members\n\t\t}\n\t}\n}\n"+
		"{$SITE}\npresence {\n\torigins {$PAGE}\n}\n", "REDIS="+redis.URL()+"/5", "PAGE=http://"+web.Listener.Addr().String())
	client := replaceAll(t, string(source), append([]string{
		"ws://127.0.0.1:9502", strings.Replace(c.URL, "http", "ws", 1),
		"timeout: 60000", "timeout: 300",
		"}, 4000)", "}, 200)",
		"//根据msg.data处理具体业务\n                    ...", "pushed.push(msg.data);",
	}, replace...)...)
	web.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/client.js":
			_, _ = w.Write([]byte(client))
		case "/vue.js":
			http.ServeFile(w, r, filepath.Join(dir, "node_modules/vue/dist/vue.min.js"))
		default:
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write([]byte(phpPage))
		}
	})
	if _, err := os.Stat(filepath.Join(dir, "node_modules/vue")); err != nil {
		t.Fatal("vue is missing: run make deps")
	}
	web.Start()
	t.Cleanup(web.Close)
	return c, redis, web.URL
}

func replaceAll(t *testing.T, text string, replace ...string) string {
	t.Helper()
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(text, replace[i]) {
			t.Fatalf("the client has no %q", replace[i])
		}
		text = strings.ReplaceAll(text, replace[i], replace[i+1])
	}
	return text
}

// TestPHPClientMended runs the client with its three slips mended: it starts on
// load, parses the profile, and sends open at each connect.
func TestPHPClientMended(t *testing.T) {
	browser := StartBrowser(t)
	c, redis, page := phpClient(t,
		"window.onLoad=", "window.onload=",
		"vm.userInfo = localStorage.getItem('userInfo');", "vm.userInfo = JSON.parse(localStorage.getItem('userInfo'));",
		"vm.socket.onopen=function(){", "vm.socket.onopen=function(){ vm.wsopen();",
	)
	tab := browser.Open(t, page+"/blank")
	tab.Eval(`localStorage.setItem('userInfo', JSON.stringify({id: 7, type: 'driver', name: '王', phone: '13800000000'}))`)
	tab.Eval("location.reload()")
	members := func() []string { return redis.DB(5).HVals(t.Context(), "members").Val() }
	Eventually(t, func() bool { return len(members()) == 1 }, func() string { return "the hash members is empty" })
	var m map[string]any
	if err := json.Unmarshal([]byte(members()[0]), &m); err != nil || m["id"] != 7.0 || m["type"] != "driver" || m["name"] != "王" || m["phone"] != "13800000000" {
		t.Errorf("the hash members has %v", members())
	}
	tab.Expect("frames.filter(f => f === 'pong').length >= 3", "true")
	c.Push(`{"to":{"types":["driver"]},"data":{"order":1}}`)
	tab.Expect("pushed", `["{\"order\":1}"]`)

	// A lost connection comes back, open again.
	tab.Eval("sockets[0].close()")
	tab.Expect("sockets.length > 1 && frames.filter(f => f === 'pong').length >= 6", "true")
	Eventually(t, func() bool { return len(members()) == 1 }, func() string { return "the user is not back" })
	c.Push(`{"to":{"ids":[7]},"text":"again"}`)
	// All that the business code ever saw are pushes.
	tab.Expect("pushed", `["{\"order\":1}","again"]`)
	tab.Close()
	Eventually(t, func() bool { return len(members()) == 0 }, func() string { return "the user stays in the hash" })
}

// TestPHPClientAsItStands starts the client by hand, which sends open without an
// id because the profile is never parsed.
func TestPHPClientAsItStands(t *testing.T) {
	browser := StartBrowser(t)
	c, _, page := phpClient(t)
	other := c.Dial("/")
	other.Open(`"id":"null"`)
	tab := browser.Open(t, page+"/")
	tab.Eval(`localStorage.setItem('userInfo', JSON.stringify({id: 7, type: 'driver'}))`)
	if got := tab.Eval("sockets.length"); got != "0" {
		t.Errorf("it started by itself: %s sockets", got)
	}
	tab.Eval("vm.wsopen()")
	tab.Expect("pushed.length", "1")
	tab.Expect("frames.filter(f => f === 'pong').length >= 6", "true")
	if got := tab.Eval(`sent.filter(f => f !== 'ping')`); got != `["{\"action\":\"open\"}"]` {
		t.Errorf("it sent %s", got)
	}
	if got := tab.Eval("pushed.map(f => JSON.parse(f).code)"); got != `["bad_open"]` {
		t.Errorf("its business code got %s", got)
	}
	if got := tab.Eval("sockets.map(s => s.readyState)"); got != "[1]" {
		t.Errorf("its sockets are in states %s", got)
	}
	if got := c.State("null"); got != "online" {
		t.Errorf("another user is %s", got)
	}
	other.ExpectNothing()
	if _, answer := c.Call(http.MethodGet, "/presence/count", ""); answer != `{"count":1}` {
		t.Errorf("count: %s", answer)
	}
}
