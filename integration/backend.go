package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// Request is what a backend was asked.
type Request struct {
	Method, URI, Host string
	Header            http.Header
	Body              string
}

// Backend is an HTTP server of a test, behind Caddy's reverse_proxy.
type Backend struct {
	Addr string // host:port

	t        testing.TB
	requests chan Request
}

// StartBackend starts a backend that notes each request and answers with answer;
// if that is nil, it notes nothing, and answers {"n":1}.
// Requests that Caddy cancels end within waitLimit.
func StartBackend(t testing.TB, answer http.HandlerFunc) *Backend {
	t.Helper()
	const noted = 10_000
	b := &Backend{t: t, requests: make(chan Request, noted)}
	ctx, cancel := context.WithCancel(context.Background())
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer == nil {
			_, _ = io.WriteString(w, `{"n":1}`)
			return
		}
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body)) // for the handler
		b.requests <- Request{r.Method, r.RequestURI, r.Host, r.Header, string(body)}
		answer(w, r)
	}))
	server.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	server.Start()
	b.Addr = server.Listener.Addr().String()
	t.Cleanup(func() {
		cancel() // answers that wait for the end of their request
		server.CloseClientConnections()
		server.Close()
	})
	return b
}

// Next returns the next request.
func (b *Backend) Next() Request {
	b.t.Helper()
	select {
	case r := <-b.requests:
		return r
	case <-time.After(waitLimit):
		b.t.Fatal("the backend was not asked")
	}
	return Request{}
}

// Expect wants the next request to have a body.
func (b *Backend) Expect(bodies ...string) {
	b.t.Helper()
	for _, want := range bodies {
		if got := b.Next(); got.Body != want {
			b.t.Fatalf("the backend was asked %.300s, want %.300s", got.Body, want)
		}
	}
}

// Stats is a part of what the API says of the hub's counters.
type Stats struct {
	Connections int
	Members     int
	Pings       int
	Actions     int
	ActionsNow  int `json:"actions_now"`

	EventsTold    int `json:"events_told"`
	EventsGivenUp int `json:"events_given_up"`

	Errors map[string]int `json:"errors"`
	Closed map[string]int `json:"closed"`
}

// Stats asks the API for the counters of the default hub.
func (c *Caddy) Stats() Stats {
	c.t.Helper()
	status, answer := c.Call(http.MethodGet, "/presence/stats", "")
	var s Stats
	if err := json.Unmarshal([]byte(answer), &s); err != nil || status != http.StatusOK {
		c.t.Fatalf("stats: status %d, %s", status, answer)
	}
	return s
}

// ExpectLog waits until the process has printed a text.
func (c *Caddy) ExpectLog(text string) {
	c.t.Helper()
	Eventually(c.t, func() bool { return strings.Contains(c.Log(), text) },
		func() string { return "the log has no " + text })
}
