package integration

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// tlsSite serves over TLS with a certificate of Caddy's own; Caddy's patience
// with a quiet request is short.
const tlsSite = `{
	skip_install_trust
	auto_https disable_redirects
	presence {
		drain 100ms
	}
	servers {
		timeouts {
			read_body_idle 300ms
			idle 1h
		}
	}
}
{$TLS_SITE} {
	tls internal
	bind 127.0.0.1
	log
	presence /ws {
		ping_interval 0
		max_queue 64KiB
		max_message_size 4KiB
	}
	presence_client /presence.js
	header /page Content-Type text/html
	respond /page "<!doctype html><script src=/presence.js></script>"
}
`

// startTLS starts Caddy with it, and with further options of the directive.
func startTLS(t *testing.T, options ...string) (*Caddy, string) {
	t.Helper()
	text := strings.Replace(tlsSite, "ping_interval 0\n", "ping_interval 0\n"+strings.Join(options, "\n")+"\n", 1)
	_, port, _ := strings.Cut(FreeAddr(t), ":")
	site := "https://localhost:" + port
	c := StartText(t, text, "TLS_SITE="+site, "GODEBUG=http2xconnect=1")
	c.await(func() error { // its certificate is made after its start
		conn, err := tls.Dial("tcp", "localhost:"+port, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			return err
		}
		return conn.Close()
	})
	return c, site
}

// script is a running program that is talked to by lines.
type script struct {
	t     testing.TB
	in    io.Writer
	lines chan string
}

func startScript(t *testing.T, name string, args ...string) *script {
	t.Helper()
	cmd := exec.Command("node", append([]string{filepath.Join(Root(), "integration/testdata", name)}, args...)...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	s := &script{t, in, make(chan string, 1000)}
	go func() {
		defer close(s.lines)
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			s.lines <- scanner.Text()
		}
	}()
	return s
}

func (s *script) send(line string) {
	s.t.Helper()
	if _, err := fmt.Fprintln(s.in, line); err != nil {
		s.t.Fatal(err)
	}
}

func (s *script) want(lines ...string) {
	s.t.Helper()
	for _, want := range lines {
		select {
		case got := <-s.lines:
			if !strings.HasPrefix(got, want) {
				s.t.Fatalf("got %q, want %q", got, want)
			}
		case <-time.After(waitLimit):
			s.t.Fatalf("nothing came, want %q", want)
		}
	}
}

// TestHTTP2 is the main job over HTTP/2: quiet longer than Caddy waits for a
// body, reload, limits, a reader that does not read, close codes, stop.
func TestHTTP2(t *testing.T) {
	c, site := startTLS(t)
	ann := startScript(t, "h2.mjs", site+"/ws")
	ann.want("status 200 presence.v1 -")
	ann.send("ping")
	ann.want("pong")
	ann.send(`{"action":"open","id":"ann","ref":1}`)
	ann.want(`{"action":"reply","ref":1,"ok":true`)
	time.Sleep(time.Second) // longer than read_body_idle: there is nothing to wait for
	c.Push(`{"to":{"ids":["ann"]},"text":"after a silence"}`)
	ann.want("after a silence")
	c.Reload(c.file)
	c.Push(`{"to":{"ids":["ann"]},"text":"after a reload"}`)
	ann.want("after a reload")

	ann.send("stop reading")
	dropped := 0
	for range 300 {
		r := c.Push(`{"to":{"ids":["ann"]},"text":"` + strings.Repeat("x", 60_000) + `","wait":"10ms"}`)
		if dropped += r.Dropped; dropped > 3 {
			break
		}
	}
	if dropped == 0 {
		t.Error("a client that does not read had nothing dropped")
	}
	ann.send("read")
	ann.want("bytes 60000")
	for got := range ann.lines {
		if got != "bytes 60000" {
			t.Fatalf("got %q", got)
		}
		if c.State("ann") == "online" && len(ann.lines) == 0 {
			break
		}
	}
	ann.send(strings.Repeat("x", 5000))
	for got := range ann.lines {
		if got == "closed 1009" {
			break
		}
		if got != "bytes 60000" {
			t.Fatalf("got %q", got)
		}
	}
	ann.want("ended")
	c.ExpectState("ann", "lingering")

	bob := startScript(t, "h2.mjs", site+"/ws")
	bob.want("status 200")
	bob.send(`{"action":"open","id":"bob","ref":1}`)
	bob.want(`{"action":"reply"`)
	bob.send("close 1000")
	bob.want("closed 1000", "ended")
	c.ExpectState("bob", "offline")

	eve := startScript(t, "h2.mjs", site+"/ws")
	eve.want("status 200")
	eve.send(`{"action":"open","id":"eve","ref":1}`)
	eve.want(`{"action":"reply"`)
	c.Stop()
	eve.want("closed 1012", "ended")
}

// TestHTTP2Browser has Chromium open its WebSocket over the connection that it
// has already, which the access log tells.
func TestHTTP2Browser(t *testing.T) {
	browser := StartBrowser(t, chromedp.Flag("ignore-certificate-errors", true))
	c, site := startTLS(t)
	tab := browser.Open(t, site+"/page")
	tab.Eval(`(window.pushed = [], window.p = Presence.connect('wss' + location.origin.slice(5) + '/ws', { member: { id: 'ann' } }),
		p.on('push', d => pushed.push(d)), 0)`)
	tab.Expect("p.state", `"online"`)
	c.Push(`{"to":{"ids":["ann"]},"data":{"n":1}}`)
	tab.Expect("pushed", `[{"n":1}]`)
	tab.Eval("p.close()")
	c.ExpectState("ann", "offline")
	Eventually(t, func() bool {
		for line := range strings.SplitSeq(c.Log(), "\n") {
			if strings.Contains(line, `"proto":"HTTP/2.0","method":"CONNECT"`) && strings.Contains(line, `"status":200`) {
				return true
			}
		}
		return false
	}, func() string { return "the access log has no CONNECT over HTTP/2\n" + c.Log() })
}
