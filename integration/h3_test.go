package integration

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// h3Client is a WebSocket over HTTP/3 (RFC 9220).
type h3Client struct {
	t      *testing.T
	conn   *quic.Conn
	stream *http3.RequestStream
	r      *bufio.Reader

	closing bool // a close frame was sent
}

func dialH3(t *testing.T, site string) *h3Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	addr := strings.Replace(site, "https://localhost", "127.0.0.1", 1)
	conn, err := quic.DialAddr(ctx, addr, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost", NextProtos: []string{http3.NextProtoH3}},
		&quic.Config{InitialStreamReceiveWindow: 16 << 10, MaxStreamReceiveWindow: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	client := new(http3.Transport).NewClientConn(conn)
	select {
	case <-client.ReceivedSettings():
	case <-ctx.Done():
		t.Fatal(ctx.Err())
	}
	if !client.Settings().EnableExtendedConnect {
		t.Fatal("the server does not offer extended CONNECT")
	}
	stream, err := client.OpenRequestStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	req, _ := http.NewRequest(http.MethodConnect, site+"/ws", nil)
	req.Proto = "websocket"
	req.Header = http.Header{"Sec-Websocket-Version": {"13"}, "Origin": {site}}
	if err := stream.SendRequestHeader(req); err != nil {
		t.Fatal(err)
	}
	res, err := stream.ReadResponse()
	if err != nil || res.StatusCode != http.StatusOK || res.Header.Get("Sec-WebSocket-Accept") != "" {
		t.Fatalf("the handshake was answered %+v, %v", res, err)
	}
	c := &h3Client{t: t, conn: conn, stream: stream, r: bufio.NewReader(stream)}
	t.Cleanup(c.leave)
	return c
}

// leave closes the QUIC connection.
func (c *h3Client) leave() { _ = c.conn.CloseWithError(0, "") }

// send writes a frame, masked with zeros.
func (c *h3Client) send(first byte, payload string) {
	c.t.Helper()
	c.closing = c.closing || first == 0x88
	b := []byte{first, 0x80 | byte(len(payload))}
	if len(payload) > 125 {
		b = binary.BigEndian.AppendUint16([]byte{first, 0x80 | 126}, uint16(len(payload)))
	}
	if _, err := c.stream.Write(append(append(b, 0, 0, 0, 0), payload...)); err != nil {
		c.t.Fatal(err)
	}
}

// next returns a frame's opcode and payload, or 0 and why there is none.
func (c *h3Client) next() (byte, string) {
	_ = c.stream.SetReadDeadline(time.Now().Add(waitLimit))
	var head [2]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return 0, err.Error()
	}
	n := int(head[1])
	if n == 126 {
		var size [2]byte
		if _, err := io.ReadFull(c.r, size[:]); err != nil {
			return 0, err.Error()
		}
		n = int(binary.BigEndian.Uint16(size[:]))
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(c.r, payload); err != nil {
		return 0, err.Error()
	}
	if op := head[0] & 0xf; op != 8 {
		return op, string(payload)
	}
	if !c.closing {
		c.send(0x88, string(payload[:2]))
	}
	return 8, fmt.Sprint(binary.BigEndian.Uint16(payload))
}

func (c *h3Client) want(op byte, prefix string) {
	c.t.Helper()
	if gotOp, got := c.next(); gotOp != op || !strings.HasPrefix(got, prefix) {
		c.t.Fatalf("got opcode %d, %.80q, want %d, %q", gotOp, got, op, prefix)
	}
}

// TestHTTP3 is the main job over HTTP/3: quiet longer than Caddy waits for a body,
// reload, a reader that does not read, close codes, stop.
func TestHTTP3(t *testing.T) {
	c, site := startTLS(t)
	ann := dialH3(t, site)
	ann.send(0x81, "ping")
	ann.want(1, "pong")
	ann.send(0x81, `{"action":"open","id":"ann","ref":1}`)
	ann.want(1, `{"action":"reply","ref":1,"ok":true`)
	time.Sleep(time.Second) // longer than read_body_idle: there is nothing to wait for
	c.Push(`{"to":{"ids":["ann"]},"text":"after a silence"}`)
	ann.want(1, "after a silence")
	c.Reload(c.file)
	c.Push(`{"to":{"ids":["ann"]},"text":"after a reload"}`)
	ann.want(1, "after a reload")

	sent, dropped := 0, 0
	for range 300 {
		r := c.Push(`{"to":{"ids":["ann"]},"text":"` + strings.Repeat("x", 60_000) + `","wait":"10ms"}`)
		sent += r.Sent + r.Unconfirmed
		if dropped += r.Dropped; dropped > 3 {
			break
		}
	}
	if dropped == 0 {
		t.Error("a client that does not read had nothing dropped")
	}
	for range sent {
		ann.want(1, "xxx")
	}
	ann.send(0x81, strings.Repeat("x", 5000))
	ann.want(8, "1009")
	ann.want(0, "EOF")
	c.ExpectState("ann", "lingering")

	bob := dialH3(t, site)
	bob.send(0x81, `{"action":"open","id":"bob","ref":1}`)
	bob.want(1, `{"action":"reply"`)
	bob.send(0x88, "\x03\xe8")
	bob.want(8, "1000")
	c.ExpectState("bob", "offline")

	eve := dialH3(t, site)
	eve.send(0x81, `{"action":"open","id":"eve","ref":1}`)
	eve.want(1, `{"action":"reply"`)
	// Caddy waits until clients have left, unless grace_period is set.
	ann.leave()
	bob.leave()
	go func() {
		defer eve.leave()
		if op, code := eve.next(); op != 8 || code != "1012" {
			t.Errorf("at the stop: opcode %d, %q", op, code)
		}
	}()
	c.Stop()
}
