package presence

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
	"unicode/utf8"
)

// Actions carries out the frames of clients that are not the hub's own. Its
// methods may be called concurrently.
type Actions interface {
	// Takes reports whether there is a handler for an action; for binary
	// messages, which have no name, the name is empty.
	Takes(name string, binary bool) bool

	// Do carries out an action on the caller's goroutine, and answers it with
	// Reply or Line. When ctx ends, because the client is gone or the time is
	// over, it should return. A *FrameError in the chain of the error is told to
	// the client; any other error is told as ErrorBackendFailed, without
	// details. ErrActionsRetired means that nothing was done.
	Do(ctx context.Context, a *Action) error
}

// ErrActionsRetired is returned by Actions.Do when its configuration has ended:
// the hub's settings have others.
var ErrActionsRetired = errors.New("these actions have been replaced")

// errActionOver is returned to a handler that still answers when the time is
// over.
var errActionOver = errors.New("the action is over")

// MaxAnswer is how many bytes an answer may have, and one line of a stream: no
// more than always fits in a connection's queue.
const MaxAnswer = MaxPushSize

// Action is a client's frame on its way through a handler.
type Action struct {
	// Static: what the client sent, and who it was then.
	Name   string
	Binary bool
	Ref    json.RawMessage // nil: success is silent
	Body   []byte          // the whole message
	User   UserID          // of the member or, before it is open, the identity; may be empty
	Type   string
	Conn   ConnID
	Origin *Origin // of the connection; may be nil

	conn Conn

	mu   sync.Mutex // guards the field below; held during Conn.Send
	over bool       // nothing is sent any more
}

// Origin is what a connection keeps of the handshake that it came by. It is
// never changed once the connection is attached.
type Origin struct {
	// Request is for whoever implements Actions.
	Request any

	// Fixed are the member's fields that the client may not set itself.
	Fixed Fields
}

// finish ends the action; only the first call returns true.
func (a *Action) finish() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	first := !a.over
	a.over = true
	return first
}

// send sends a message unless the action is over.
func (a *Action) send(m *Message) (Outcome, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over {
		return Closed, errActionOver
	}
	return a.conn.Send(m), nil
}

// Reply answers the action with a whole body: without a ref the body itself,
// if it is not empty; with one, a reply that has it as "data" or, if it is no
// JSON, as "text". It is an error if the body is no text.
func (a *Action) Reply(body []byte) error {
	if !utf8.Valid(body) {
		return errors.New("the answer is not UTF-8")
	}
	switch {
	case a.Ref != nil:
		body = replyFrame(a.Ref, replyFields(body))
	case len(body) == 0:
		return nil
	}
	_, err := a.send(NewMessage(body))
	return err
}

// replyFields are the fields of a reply that carry a body.
func replyFields(body []byte) string {
	body = bytes.TrimSpace(body)
	switch {
	case len(body) == 0:
		return ""
	case json.Valid(body):
		return `"data":` + string(body)
	}
	text, _ := json.Marshal(string(body)) // a string always can be
	return `"text":` + string(text)
}

// Line sends one line of a stream as a frame, and waits until the network has
// taken it: a handler may be faster than the client.
func (a *Action) Line(ctx context.Context, line []byte) error {
	if !utf8.Valid(line) {
		return errors.New("a line of the answer is not UTF-8")
	}
	m := NewMessage(line)
	m.report = newReport(0, nil) // its own share is released when it is flushed
	out, err := a.send(m)
	switch {
	case err != nil:
		return err
	case out == Full:
		return errors.New("the client's queue is full")
	case out == Closed:
		return errors.New("the connection is closed")
	case out == Sent:
		return nil
	}
	select {
	case <-m.report.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Renew says that the identity of the connection expires at another time.
func (a *Action) Renew(expires time.Time) {
	if c, ok := a.conn.(interface{ Renew(time.Time) }); ok {
		c.Renew(expires)
	}
}

// dispatch hands a message to the actions of this hub, which answer it later.
func (h *Hub) dispatch(c Conn, act *Action, data []byte) error {
	if !plainText(act.Name) {
		return frameErrorf(ErrorBadFrame, "action must be a string of at most %d bytes without control characters", MaxIDLength)
	}
	s := h.settings.Load()
	if s.Actions == nil || !s.Actions.Takes(act.Name, act.Binary) {
		return frameErrorf(ErrorUnknownAction, "no action %.64q here", act.Name)
	}
	a := c.Attachment()
	act.conn, act.Conn, act.Origin = c, h.ConnID(a), a.origin
	act.Body = bytes.Clone(data)
	act.User = a.identity
	if m := a.Member(); m != nil {
		act.User, act.Type = m.ID, m.Type
	}
	first, err := h.lines.enter(a.num, act, s.MaxActions)
	if err != nil {
		return err
	}
	h.stats.actions.Add(1)
	if first {
		go h.runLine(a.num, act)
	}
	return nil
}

// TakesBinary reports whether binary messages are handled here.
func (h *Hub) TakesBinary() bool {
	actions := h.settings.Load().Actions
	return actions != nil && actions.Takes("", true)
}

// ReceiveBinary carries out one binary message of a client, as Receive does a
// text message.
func (h *Hub) ReceiveBinary(c Conn, data []byte) {
	h.stats.frames.Add(1)
	if err := h.dispatch(c, &Action{Binary: true}, data); err != nil {
		h.Refuse(c, nil, err)
	}
}

// actionError is what a client is told of an error of a handler.
func actionError(ctx context.Context, err error) *FrameError {
	var fe *FrameError
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return frameErrorf(ErrorBackendFailed, "the action took too long")
	case errors.As(err, &fe):
		return fe
	}
	return frameErrorf(ErrorBackendFailed, "the action failed")
}

// panicked is the error of a handler that panicked.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("the handler panicked: %v", p.value) }
