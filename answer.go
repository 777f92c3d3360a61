package caddypresence

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// answer is the http.ResponseWriter of a request that is not on the network. It
// takes the status and up to presence.MaxAnswer bytes, or a stream of lines. It
// cannot be hijacked. It is owned by the handlers' goroutine.
type answer struct {
	header http.Header
	status int // 0 until it is known
	body   bytes.Buffer

	cancel context.CancelFunc // ends a request whose answer is of no use
	failed error              // why; nothing more is taken

	// line is given each line of a stream of application/x-ndjson; nil: such an
	// answer is one like any other.
	line      func([]byte) error
	streaming bool

	// frank is set if a client is told what a failed backend said.
	frank bool

	// began is called once with a status of 2xx; may be nil.
	began func(http.Header)
}

var errAnswerTooBig = fmt.Errorf("the answer has more than %d bytes", presence.MaxAnswer)

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if a.status != 0 || status < 200 && status != http.StatusSwitchingProtocols {
		return
	}
	a.status = status
	if !a.ok() {
		return
	}
	mt, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	a.streaming = a.line != nil && mt == "application/x-ndjson"
	if a.began != nil {
		a.began(a.header)
	}
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	if a.failed != nil {
		return 0, a.failed
	}
	if a.status >= http.StatusInternalServerError && !a.frank {
		return len(p), nil
	}
	rest := p
	for a.streaming {
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			break
		}
		a.body.Write(rest[:end])
		rest = rest[end+1:]
		if err := a.endLine(); err != nil {
			return 0, a.fail(err)
		}
	}
	if a.body.Len()+len(rest) > presence.MaxAnswer {
		return 0, a.fail(errAnswerTooBig)
	}
	a.body.Write(rest)
	return len(p), nil
}

// endLine hands on the line that the body holds.
func (a *answer) endLine() error {
	defer a.body.Reset()
	line := bytes.TrimSpace(a.body.Bytes())
	switch {
	case len(line) == 0:
		return nil
	case len(line) > presence.MaxAnswer:
		return errAnswerTooBig
	}
	return a.line(line)
}

func (a *answer) fail(err error) error {
	a.failed = err
	a.cancel()
	return err
}

// Flush, and the methods below, are there for handlers that want them.
func (a *answer) Flush() { a.WriteHeader(http.StatusOK) }

// SetReadDeadline does nothing: the request's context has the deadline.
func (a *answer) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing either.
func (a *answer) SetWriteDeadline(time.Time) error { return nil }

// EnableFullDuplex does nothing: reading and writing are independent here.
func (a *answer) EnableFullDuplex() error { return nil }

func (a *answer) ok() bool { return a.status/100 == 2 }

// finish ends the answer, after the handlers have returned with an error or nil.
// It returns what is wrong with it.
func (a *answer) finish(err error) error {
	if a.failed != nil {
		return a.failed
	}
	if err != nil {
		return handlerError(err)
	}
	a.WriteHeader(http.StatusOK)
	switch {
	case a.ok():
		if a.streaming {
			return a.endLine()
		}
		return nil
	case a.status < 300 || a.status >= 500:
		return backendFailed(a.status)
	}
	return refused(a.status, a.header, bytes.TrimSpace(a.body.Bytes()))
}

// handlerError is what an error of a handler means.
func handlerError(err error) error {
	var fe *presence.FrameError
	var he caddyhttp.HandlerError
	switch {
	case errors.As(err, &fe) || !errors.As(err, &he) || he.StatusCode < 300:
		return err
	case he.StatusCode < 500:
		return refused(he.StatusCode, nil, nil)
	}
	return fmt.Errorf("%w: %w", backendFailed(he.StatusCode), err)
}

func backendFailed(status int) *presence.FrameError {
	return &presence.FrameError{
		Code: presence.ErrorBackendFailed, Status: status,
		Message: fmt.Sprintf("the backend failed with status %d", status),
	}
}

// refused is what a client is told of an answer with a status of 3xx or 4xx:
// unlike that of a failed backend, it is meant for the client.
func refused(status int, header http.Header, body []byte) error {
	const maxMessage = 1 << 10
	e := &presence.FrameError{Code: presence.ErrorRefused, Status: status, Message: http.StatusText(status)}
	if seconds, err := strconv.Atoi(header.Get("Retry-After")); err == nil && seconds > 0 {
		e.RetryAfter = time.Duration(seconds) * time.Second
	}
	mt, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	switch {
	case json.Valid(body):
		e.Data = body
	case mt == "text/plain" && len(body) > 0 && len(body) <= maxMessage && utf8.Valid(body):
		e.Message = string(body)
	}
	return e
}

// expiry reads the header by which an answer renews the identity.
func expiry(header http.Header, log *zap.Logger) (time.Time, bool) {
	text := header.Get("Presence-Expires")
	if text == "" {
		return time.Time{}, false
	}
	at, err := parseTime(text)
	if err != nil {
		log.Error("a Presence-Expires header cannot be read", zap.Error(err))
		return time.Time{}, false
	}
	return at, true
}
