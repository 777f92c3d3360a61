package socket_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/seed-57c14f3c/caddy-presence/presence"
	"github.com/seed-57c14f3c/caddy-presence/presence/socket"
)

// TestResetStreams has an HTTP/2 client reset its streams while pushes wait for
// room on them: the writer of a handler that has returned must not be used.
func TestResetStreams(t *testing.T) {
	const setting = "http2xconnect=1" // which is read when a process starts
	if !strings.Contains(os.Getenv("GODEBUG"), setting) {
		again := exec.Command(os.Args[0], "-test.run=^TestResetStreams$")
		again.Env = append(os.Environ(), "GODEBUG="+setting)
		if out, err := again.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	f := inMemory(t)
	site := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = f.server.Upgrade(w, r, socket.Peer{}, f.server.Admit("x"))
	}))
	site.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 1000}
	site.EnableHTTP2 = true
	site.StartTLS()
	t.Cleanup(site.Close)
	conn, err := tls.Dial("tcp", site.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_, _ = io.WriteString(conn, http2.ClientPreface)
	framer := http2.NewFramer(conn, conn)
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000}))
	go func() { _, _ = io.Copy(io.Discard, conn) }()

	const streams, rounds = 50, 40
	long, wait := strings.Repeat("x", 5000), presence.Wait(0)
	for round := range rounds {
		first := uint32(round*streams*2 + 1)
		for i := range uint32(streams) {
			id := first + 2*i
			must(framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: connectHeaders(), EndHeaders: true}))
			must(framer.WriteData(id, false, frame(text, open(fmt.Sprint(id)))))
		}
		f.eventually("all are open", func() bool { return f.hub.Stats().Members == streams })
		_, err := f.hub.Start(t.Context(), &presence.Push{To: presence.Selector{All: true}, Text: &long, Wait: &wait})
		must(err)
		for i := range uint32(streams) {
			must(framer.WriteRSTStream(first+2*i, http2.ErrCodeCancel))
		}
		f.eventually("all are gone", func() bool { return f.hub.Connections() == 0 })
	}
}

// connectHeaders asks for a WebSocket (RFC 8441, section 5.1).
func connectHeaders() []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, h := range [][2]string{
		{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", "https"}, {":path", "/"},
		{":authority", "host"}, {"sec-websocket-version", "13"},
	} {
		_ = e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	return b.Bytes()
}
