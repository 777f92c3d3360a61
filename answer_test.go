package caddypresence

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// TestAnswerLines splits a stream, however it is cut into writes.
func TestAnswerLines(t *testing.T) {
	const stream = "1\n\n 2 \r\n3\n" + `{"last":true}`
	for size := 1; size <= len(stream); size++ {
		var got []string
		a := &answer{
			header: http.Header{"Content-Type": {"application/x-ndjson; charset=utf-8"}}, cancel: func() {},
			line: func(line []byte) error { got = append(got, string(line)); return nil },
		}
		for rest := stream; rest != ""; {
			n := min(size, len(rest))
			if _, err := a.Write([]byte(rest[:n])); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := a.finish(nil); err != nil || !slices.Equal(got, []string{"1", "2", "3", `{"last":true}`}) {
			t.Errorf("in writes of %d bytes: %q, %v", size, got, err)
		}
	}
}

// TestAnswerLimit cancels a request whose answer is too long.
func TestAnswerLimit(t *testing.T) {
	for _, lines := range []func([]byte) error{nil, func([]byte) error { return nil }} {
		cancelled := false
		a := &answer{header: make(http.Header), cancel: func() { cancelled = true }, line: lines}
		a.header.Set("Content-Type", "application/x-ndjson")
		full := []byte(strings.Repeat("x", presence.MaxAnswer))
		if _, err := a.Write(full); err != nil || cancelled {
			t.Fatalf("as much as there may be: %v", err)
		}
		if _, err := a.Write([]byte("x")); !errors.Is(err, errAnswerTooBig) || !cancelled {
			t.Fatalf("one byte more: %v, cancelled %t", err, cancelled)
		}
		if err := a.finish(nil); !errors.Is(err, errAnswerTooBig) {
			t.Errorf("in the end: %v", err)
		}
	}
}

// TestAnswerErrors checks what answers and errors mean.
func TestAnswerErrors(t *testing.T) {
	for _, test := range []struct {
		status int
		body   string
		err    error
		want   string // of the FrameError: code, status, message, data
	}{
		{200, "x", nil, ""},
		{0, "", nil, ""},
		{404, `{"a":1}`, nil, `refused 404 Not Found {"a":1}`},
		{302, "<p>", nil, "refused 302 Found "},
		{500, "secret", nil, "backend_failed 500 the backend failed with status 500 "},
		{101, "", nil, "backend_failed 101 the backend failed with status 101 "},
		{0, "", caddyhttp.Error(403, errors.New("secret")), "refused 403 Forbidden "},
		{0, "", caddyhttp.Error(502, errors.New("secret")), "backend_failed 502 the backend failed with status 502 "},
		{0, "", errNoRoute, "unknown_action 0 no handler of this action takes the frame "},
		{0, "", caddyhttp.Error(404, errNoRoute), "unknown_action 0 no handler of this action takes the frame "},
	} {
		a := &answer{header: make(http.Header), cancel: func() {}}
		if test.status != 0 {
			a.WriteHeader(100)
			a.WriteHeader(test.status)
			a.WriteHeader(599)
			_, _ = a.Write([]byte(test.body))
		}
		err, got := a.finish(test.err), ""
		var fe *presence.FrameError
		if errors.As(err, &fe) {
			got = fmt.Sprintf("%s %d %s %s", fe.Code, fe.Status, fe.Message, fe.Data)
		}
		if got != test.want || (err == nil) != (test.want == "") {
			t.Errorf("%d %s, %v: got %q, %v; want %q", test.status, test.body, test.err, got, err, test.want)
		}
	}
}
