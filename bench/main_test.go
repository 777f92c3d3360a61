package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func TestOptionsAreBounded(t *testing.T) {
	if _, names, err := parse([]string{"-pid", "1,2", "idle", "storm"}); err != nil || len(names) != 2 {
		t.Errorf("scenarios %v, %v", names, err)
	}
	if o, _, err := parse([]string{"-pid", "1", "-url", "ws://127.0.0.1:1/ws,ws://127.0.0.1:2/ws"}); err != nil || len(o.urls) != 2 || o.urls[1].Port() != "2" {
		t.Errorf("clients connect to %v, %v", o.urls, err)
	}
	for _, args := range []string{
		"", "-pid x", "-pid 1 nothing", "-pid 1 -codec other", "-pid 1 -conns 15001", "-pid 1 -conns 0",
		"-pid 1 -time 2m", "-pid 1 -size 3", "-pid 1 -url ws://192.0.2.1/ws", "-pid 1 -url ws://example.com/ws",
		"-pid 1 -push http://192.0.2.1", "-pid 1 -url ws://127.0.0.1/ws,ws://192.0.2.1/ws", "-pid 1 -url ws:///ws",
	} {
		if _, _, err := parse(strings.Fields(args)); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}

func TestCentrifugeMessages(t *testing.T) {
	var c centrifuge
	if !c.opened([]byte(`{"id":1,"connect":{"client":"x"}}`)) || c.opened([]byte(`{"id":1,"error":{"code":100}}`)) {
		t.Error("it is not told whether a user is online")
	}
	if n := c.pongs([]byte(`{"id":2,"rpc":{}}` + "\n" + `{"id":2,"rpc":{}}`)); n != 2 {
		t.Errorf("%d replies, want 2", n)
	}
	if c.answer([]byte("{}")) != "{}" || c.answer([]byte(`{"id":2}`)) != "" {
		t.Error("not the server's ping alone is answered")
	}
	for _, message := range []string{c.open(7), c.ping()} {
		if !json.Valid([]byte(message)) {
			t.Errorf("%s is no JSON", message)
		}
	}
}

// TestScenarios runs all scenarios with few clients, and wants nothing to be lost.
func TestScenarios(t *testing.T) {
	server := httptest.NewServer(new(fake))
	defer server.Close()
	address, _ := url.Parse(server.URL)
	cs := &clients{options: options{
		urls: []*url.URL{{Scheme: "ws", Host: address.Host, Path: "/ws"}}, push: server.URL, codec: presence{},
		pids: []int{os.Getpid()}, conns: 20, size: 256, rate: 200, time: 20 * time.Millisecond,
	}}
	defer cs.close()
	if _, err := connect(cs); err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(scenarios)) {
		r, err := scenarios[name](cs)
		if err != nil || r.Lost != 0 || r.Ops == 0 && name != "idle" {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

// fake is a server that speaks the protocol.
type fake struct {
	mu    sync.Mutex // guards the field below
	users map[string]*websocket.Conn
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/ws" {
		f.connect(w, r)
		return
	}
	lines := json.NewDecoder(r.Body)
	for lines.More() {
		var push struct {
			To struct {
				IDs []string
				All bool
			}
			Text string
		}
		if err := lines.Decode(&push); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		f.mu.Lock()
		for id, conn := range f.users {
			if push.To.All || slices.Contains(push.To.IDs, id) {
				_ = conn.Write(context.Background(), websocket.MessageText, []byte(push.Text))
			}
		}
		f.mu.Unlock()
	}
}

func (f *fake) connect(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer conn.CloseNow()
	for {
		_, text, err := conn.Read(r.Context())
		if err != nil {
			return
		}
		answer := "pong"
		if string(text) != "ping" {
			var open struct{ ID string }
			_ = json.Unmarshal(text, &open)
			f.mu.Lock()
			if f.users == nil {
				f.users = map[string]*websocket.Conn{}
			}
			f.users[open.ID] = conn
			f.mu.Unlock()
			answer = fmt.Sprintf(`{"action":"reply","ref":1,"ok":true,"conn":%q}`, open.ID)
		}
		_ = conn.Write(context.Background(), websocket.MessageText, []byte(answer))
	}
}
