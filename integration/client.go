package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// Client is a WebSocket client of a test.
type Client struct {
	t      testing.TB
	ws     *websocket.Conn
	frames chan string
	ended  chan struct{} // closed when the connection has ended
	err    error         // why; set before ended is closed
}

// Dial connects to a path of the site, and fails if that does. Each header is
// "Name: value".
func (c *Caddy) Dial(path string, headers ...string) *Client {
	c.t.Helper()
	client, res, err := c.TryDial(path, headers...)
	if err != nil {
		status := 0
		if res != nil {
			status = res.StatusCode
		}
		c.t.Fatalf("connecting: status %d, %v", status, err)
	}
	return client
}

// TryDial connects, and returns the answer to the handshake.
func (c *Caddy) TryDial(path string, headers ...string) (*Client, *http.Response, error) {
	c.t.Helper()
	options := &websocket.DialOptions{HTTPHeader: make(http.Header)}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Sec-WebSocket-Protocol" {
			options.Subprotocols = strings.Split(value, ", ")
			continue
		}
		options.HTTPHeader.Set(name, value)
	}
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	ws, res, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(c.URL, "http")+path, options)
	if err != nil {
		return nil, res, err
	}
	const readLimit = 1 << 20
	ws.SetReadLimit(readLimit)
	const buffered = 100_000 // a client that does not look must not be a slow one
	client := &Client{t: c.t, ws: ws, frames: make(chan string, buffered), ended: make(chan struct{})}
	go client.read()
	c.t.Cleanup(client.Cut)
	return client, res, nil
}

func (c *Client) read() {
	defer close(c.ended)
	for {
		_, data, err := c.ws.Read(context.Background())
		if err != nil {
			c.err = err
			return
		}
		c.frames <- string(data)
	}
}

// Send sends frames.
func (c *Client) Send(frames ...string) {
	c.t.Helper()
	for _, frame := range frames {
		ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
		err := c.ws.Write(ctx, websocket.MessageText, []byte(frame))
		cancel()
		if err != nil {
			c.t.Fatalf("sending %.100s: %v", frame, err)
		}
	}
}

// SendBinary sends a binary message.
func (c *Client) SendBinary(data string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	if err := c.ws.Write(ctx, websocket.MessageBinary, []byte(data)); err != nil {
		c.t.Fatalf("sending a binary message: %v", err)
	}
}

// Next returns the next frame.
func (c *Client) Next() string {
	c.t.Helper()
	select {
	case frame := <-c.frames:
		return frame
	case <-c.ended:
		c.t.Fatalf("the connection has ended: %v", c.err)
	case <-time.After(waitLimit):
		c.t.Fatal("no frame came")
	}
	return ""
}

// Expect wants these frames next.
func (c *Client) Expect(frames ...string) {
	c.t.Helper()
	for _, want := range frames {
		if got := c.Next(); got != want {
			c.t.Fatalf("got frame %.300s, want %.300s", got, want)
		}
	}
}

// ExpectError wants an error frame with a code next.
func (c *Client) ExpectError(code string) {
	c.t.Helper()
	var f struct{ Action, Code string }
	got := c.Next()
	if err := json.Unmarshal([]byte(got), &f); err != nil || f.Action != "error" || f.Code != code {
		c.t.Fatalf("got frame %.300s, want an error %s", got, code)
	}
}

// ExpectNothing wants that no frame has come and, asked with a ping, the answer
// to be the next.
func (c *Client) ExpectNothing() {
	c.t.Helper()
	c.Send("ping")
	c.Expect("pong")
}

// Open goes online with a member, which is JSON without braces, and returns the
// connection's id.
func (c *Client) Open(member string) string {
	c.t.Helper()
	c.Send(`{"action":"open","ref":"open",` + member + `}`)
	var reply struct {
		Ok   bool
		Conn string
	}
	got := c.Next()
	if err := json.Unmarshal([]byte(got), &reply); err != nil || !reply.Ok {
		c.t.Fatalf("opening with %s: %s", member, got)
	}
	return reply.Conn
}

// ExpectClosed wants the server to close with a code, whatever comes before.
func (c *Client) ExpectClosed(code int) {
	c.t.Helper()
	select {
	case <-c.ended:
	case <-time.After(waitLimit):
		c.t.Fatalf("the connection is not closed, want %d", code)
	}
	if got := websocket.CloseStatus(c.err); int(got) != code {
		c.t.Fatalf("closed with %d (%v), want %d", got, c.err, code)
	}
}

// Close closes with a code.
func (c *Client) Close(code int) {
	_ = c.ws.Close(websocket.StatusCode(code), "")
}

// Cut ends the connection without a word.
func (c *Client) Cut() {
	_ = c.ws.CloseNow()
	<-c.ended
}

// Report is what became of a push.
type Report struct {
	ID                                  string
	Matched, Sent, Dropped, Unconfirmed int
	Acked, Queued                       int
	Offline                             []string

	Incomplete bool
	Unknown    []string
}

// Push pushes through the admin API, and fails if that does.
func (c *Caddy) Push(body string) Report {
	c.t.Helper()
	status, answer := c.Call(http.MethodPost, "/presence/push", body)
	var r Report
	if err := json.Unmarshal([]byte(answer), &r); err != nil || status != http.StatusOK {
		c.t.Fatalf("pushing %.200s: status %d, %s", body, status, answer)
	}
	return r
}

// State is what the API says of a user of the default hub: online, lingering or
// offline.
func (c *Caddy) State(id string) string {
	c.t.Helper()
	status, answer := c.Call(http.MethodGet, "/presence/members/"+url.PathEscape(id), "")
	if status == http.StatusNotFound {
		return "offline"
	}
	var user struct{ State string }
	if err := json.Unmarshal([]byte(answer), &user); err != nil || status != http.StatusOK {
		c.t.Fatalf("asking for user %s: status %d, %s", id, status, answer)
	}
	return user.State
}

// ExpectState waits until a user is in a state.
func (c *Caddy) ExpectState(id, want string) {
	c.t.Helper()
	got := ""
	Eventually(c.t, func() bool {
		got = c.State(id)
		return got == want
	}, func() string { return fmt.Sprintf("user %s is %s, want %s", id, got, want) })
}
