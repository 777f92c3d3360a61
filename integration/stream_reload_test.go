package integration

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// streamSite has the API on the site too.
const streamSite = "{$SITE}\nbind 127.0.0.1\npresence_api /api\npresence /ws {\n\trate_limit 0 0\n}\n"

// openEvents opens a stream of events at an address, and returns a channel that is
// closed when it has ended.
func openEvents(t *testing.T, url string) <-chan struct{} {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("following events: %+v, %v", res, err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer res.Body.Close()
		_, _ = io.Copy(io.Discard, res.Body)
	}()
	t.Cleanup(func() { stop(); <-ended })
	return ended
}

// pushes is a stream of pushes that stays open.
type pushes struct {
	in      *io.PipeWriter
	results *bufio.Scanner
}

// openPushes opens one at an address.
func openPushes(t *testing.T, url string) *pushes {
	t.Helper()
	body, in := io.Pipe()
	ctx, stop := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-ndjson")
	res, err := http.DefaultClient.Do(r)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("pushing: %+v, %v", res, err)
	}
	t.Cleanup(func() { stop(); _ = in.Close(); _ = res.Body.Close() })
	return &pushes{in, bufio.NewScanner(res.Body)}
}

// push makes a push, and returns its result.
func (p *pushes) push(t *testing.T, line string) string {
	t.Helper()
	if _, err := fmt.Fprintln(p.in, line); err != nil {
		t.Fatal(err)
	}
	if !p.results.Scan() {
		t.Fatalf("no result: %v", p.results.Err())
	}
	return p.results.Text()
}

// within fails unless fn returns soon.
func within(t *testing.T, what string, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); fn() }()
	select {
	case <-done:
	case <-time.After(waitLimit):
		t.Fatalf("%s does not end", what)
	}
}

// TestStreamsOfGoneHub has a stream of events end when its hub does.
func TestStreamsOfGoneHub(t *testing.T) {
	for _, door := range []string{"site", "admin"} {
		t.Run(door, func(t *testing.T) {
			c := StartText(t, streamSite)
			url := c.URL + "/api/events"
			if door == "admin" {
				url = c.Admin + "/presence/events"
			}
			ended := openEvents(t, url)
			other := WriteFile(t, "Caddyfile", strings.Replace(streamSite, "presence /ws {", "presence /ws {\n\thub other", 1))
			within(t, "reload", func() { c.Reload(other) })
			within(t, "stream", func() { <-ended })
		})
	}
}

// TestStreamOfPushesReload has an open stream of pushes hold up neither a reload nor
// the stop of Caddy.
func TestStreamOfPushesReload(t *testing.T) {
	for _, door := range []string{"site", "admin"} {
		for _, how := range []string{"reload", "stop"} {
			t.Run(door+" "+how, func(t *testing.T) {
				c := StartText(t, streamSite)
				url := c.URL + "/api/push"
				if door == "admin" {
					url = c.Admin + "/presence/push"
				}
				p := openPushes(t, url)
				if result := p.push(t, `{"to":{"ids":[1]},"text":"x"}`); !strings.Contains(result, `"offline":["1"]`) {
					t.Errorf("the result is %s", result)
				}
				within(t, how, func() {
					if how == "reload" {
						c.Reload(c.file)
					} else {
						c.Stop()
					}
				})
			})
		}
	}
}
