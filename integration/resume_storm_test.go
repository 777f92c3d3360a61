package integration

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore/redistest"
)

// TestResumeStorm restarts a node under 5,000 clients that resume, and all come back
// at once: each gets what it has missed, and the node's memory stays bounded.
func TestResumeStorm(t *testing.T) {
	const clients, missed = 5000, 5
	nodes := startResuming(t, 2, "redis "+redistest.Start(t).URL(), "")
	addr := strings.TrimPrefix(nodes[0].URL, "http://")
	offsets := make([]string, clients)
	conns := make([]net.Conn, clients)
	each := func(most int, do func(i int) error) {
		t.Helper()
		var wg sync.WaitGroup
		slots := make(chan struct{}, most)
		for i := range clients {
			wg.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				if err := do(i); err != nil {
					t.Errorf("client %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Cleanup(func() {
		for _, c := range conns {
			if c != nil {
				_ = c.Close()
			}
		}
	})
	each(100, func(i int) error {
		conn, _, reply, err := stormClient(addr, i, fmt.Sprintf(`{"action":"open","id":%d,"resume":true,"ref":1}`, i))
		var r resumeFrame
		_ = json.Unmarshal([]byte(reply), &r)
		conns[i], offsets[i] = conn, r.Offset
		return err
	})
	nodes[0].Stop()
	for _, c := range conns {
		_ = c.Close()
	}
	var pushes strings.Builder
	for n := range missed {
		for i := range clients {
			fmt.Fprintf(&pushes, `{"to":{"ids":[%d]},"data":[%d,%d]}`+"\n", i, i, n)
		}
	}
	nodes[1].pushStream(pushes.String())
	nodes[0].Restart()
	idle := nodes[0].memory()
	began := time.Now()
	each(clients, func(i int) error {
		conn, r, reply, err := stormClient(addr, i, fmt.Sprintf(`{"action":"open","id":%d,"resume":%q,"ref":1}`, i, offsets[i]))
		if conns[i] = conn; err != nil {
			return err
		}
		if !strings.Contains(reply, `"recovered":true`) {
			return fmt.Errorf("the reply is %s", reply)
		}
		for n := range missed {
			frame, err := stormFrame(r)
			if want := fmt.Sprintf(`"data":[%d,%d]}`, i, n); err != nil || !strings.HasSuffix(frame, want) {
				return fmt.Errorf("got %s, %v, want %s", frame, err, want)
			}
		}
		return nil
	})
	peak := nodes[0].memory()
	t.Logf("%d clients have what they missed after %v, %d KiB of memory a connection", clients, time.Since(began).Round(time.Millisecond), (peak-idle)>>10/clients)
	if limit := idle + clients*(60<<10); peak > limit {
		t.Errorf("%d bytes of memory, more than %d", peak, limit)
	}
}

// pushStream makes the pushes of an ndjson stream.
func (c *Caddy) pushStream(lines string) {
	c.t.Helper()
	res, err := http.Post(c.Admin+"/presence/push", "application/x-ndjson", strings.NewReader(lines))
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	dec := json.NewDecoder(res.Body)
	for n := range strings.Count(lines, "\n") {
		var r struct {
			Report
			Error string
		}
		if err := dec.Decode(&r); err != nil || r.Queued != 1 {
			c.t.Fatalf("push %d: %+v, %v", n, r, err)
		}
	}
}
