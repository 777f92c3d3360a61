package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// startBad starts Caddy with handlers that misbehave.
func startBad(t *testing.T, caddyfile string) *Caddy {
	t.Helper()
	return start(t, buildProgram(t, "integration/testdata/bad"), WriteFile(t, "Caddyfile", caddyfile), nil)
}

// badSite has a bad backend for each action. Its limits are short: a connection
// that is held up times out.
const badSite = `{$SITE}
presence /ws {
	ping_interval 1s
	pong_timeout  4s
	idle_timeout  5s
	open_timeout  0
	max_unopened  0
	action_timeout 2s
	action panics {
		bad panics
	}
	action aborts {
		bad aborts
	}
	action hijacks {
		bad hijacks
	}
	action hijacks_blindly {
		bad hijacks_blindly
	}
	action hangs {
		bad hangs
	}
	action streams {
		bad streams
	}
	action left {
		bad answers_late
	}
	action down {
		reverse_proxy 127.0.0.1:1
	}
	action slow big error {
		reverse_proxy BACKEND
	}
	on connect {
		reverse_proxy BACKEND
	}
	on open online {
		bad panics
	}
	on close offline {
		bad hangs
	}
}
`

// TestBadBackends uses all bad backends at once, beside 1,000 connections that
// heartbeat: those who ask are told, the others notice nothing.
func TestBadBackends(t *testing.T) {
	b := StartBackend(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("Presence-Action") {
		case "slow":
			hold(nil)(w, r)
		case "big":
			_, _ = io.CopyN(w, zeros{}, 10<<20)
		case "error":
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, "secret")
		case "": // a handshake
			w.Header().Set("Presence-Member", r.Header.Get("X-Member"))
		}
	})
	c := startBad(t, strings.ReplaceAll(badSite, "BACKEND", b.Addr))
	quiet := make([]*Client, 1000)
	for i := range quiet {
		quiet[i] = c.Dial("/ws")
	}
	stop := heartbeat(quiet)
	actions := []string{
		"panics", "aborts", "hijacks", "hijacks_blindly", "hangs", "streams", "down", "slow", "big", "error",
	}
	var asking sync.WaitGroup
	for _, action := range actions {
		for n := range 3 {
			client := c.Dial("/ws")
			client.Open(fmt.Sprintf(`"id":"%s %d"`, action, n))
			asking.Go(func() { askBad(t, client, action) })
		}
	}
	for range 3 { // who leave before the answer
		client := c.Dial("/ws")
		client.Send(`{"action":"left"}`, `{"action":"left"}`)
		Eventually(t, func() bool { return c.Stats().ActionsNow > 0 }, func() string { return "no action" })
		client.Cut()
	}
	if _, res, err := c.TryDial("/ws", "X-Member: nonsense"); err == nil || res.StatusCode != http.StatusBadGateway {
		t.Errorf("a bad member: %v, %v", res, err)
	}
	asking.Wait()
	close(stop)
	for _, client := range quiet {
		client.ExpectNothing()
	}
	if s := c.Stats(); s.Closed["4201"] != 0 || s.ActionsNow > 3 || s.Errors["backend_failed"] < len(actions) {
		t.Errorf("in the end: %+v", s)
	}
	for _, text := range []string{
		"the handler panicked: told to", "feature not supported", "interface conversion", "deadline exceeded",
		"connection refused", "the answer has more than", "status 500", "reading Presence-Member",
	} {
		c.ExpectLog(text)
	}
	if strings.Contains(c.Log(), "please report") {
		t.Error("a reader panicked")
	}
}

// heartbeat lets connections beat until the channel that it returns is closed,
// and takes the answers.
func heartbeat(clients []*Client) chan struct{} {
	stop := make(chan struct{})
	for _, client := range clients {
		go func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Second): // the client's own beat
				}
				client.Send("ping")
				client.Expect("pong")
			}
		}()
	}
	return stop
}

// askBad asks a bad backend, and wants an error and the connection to go on.
func askBad(t *testing.T, client *Client, action string) {
	client.Send(fmt.Sprintf(`{"action":%q,"ref":1}`, action))
	for {
		got := client.Next()
		if got == `"again"` {
			continue
		}
		var f struct{ Action, Code string }
		if err := json.Unmarshal([]byte(got), &f); err != nil || f.Code != "backend_failed" || strings.Contains(got, "secret") {
			t.Errorf("%s is answered %s", action, got)
		}
		break
	}
	client.Send("ping")
	client.Expect("pong")
}

// TestEventsApp gives Caddy's events app what happens.
func TestEventsApp(t *testing.T) {
	c := startBad(t, "{\n\tevents {\n\t\ton presence.online print\n\t\ton presence.offline print\n\t}\n}\n{$SITE}\npresence /ws\n")
	ann := c.Dial("/ws")
	ann.Open(`"id":7,"type":"driver"`)
	c.ExpectLog("event presence.online 7 driver \n")
	ann.Close(1000)
	c.ExpectLog("event presence.offline 7 driver client\n")
}
