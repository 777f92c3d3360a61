package presence

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Frame is a client's decoded frame: a JSON object with an action.
type Frame struct {
	Action string

	// Ref is the raw "ref", or nil. A reply carries it back unchanged.
	Ref json.RawMessage

	// fields are all fields in the order of the frame, action and ref included.
	fields []field
}

type field struct {
	name  string
	value json.RawMessage // compact
}

// FrameError is what a client is told about a frame that was not carried out.
type FrameError struct {
	Code       ErrorCode
	Message    string        // one sentence for a developer
	RetryAfter time.Duration // with ErrorSessionConflict, ErrorRefused
	Status     int           // with ErrorRefused and ErrorBackendFailed: that of HTTP, or 0
	Data       []byte        // with ErrorRefused: JSON, or nil
}

func (e *FrameError) Error() string { return string(e.Code) + ": " + e.Message }

func frameErrorf(code ErrorCode, format string, args ...any) *FrameError {
	return &FrameError{Code: code, Message: fmt.Sprintf(format, args...)}
}

// DecodeFrame reads a text frame. Nothing of data is kept. The error is a
// *FrameError with ErrorBadFrame; the Frame then still has the ref, if the
// frame had a usable one, so that the client can tell which frame was refused.
func DecodeFrame(data []byte) (Frame, error) {
	var f Frame
	var compact bytes.Buffer
	compact.Grow(len(data))
	if err := json.Compact(&compact, data); err != nil {
		return f, frameErrorf(ErrorBadFrame, "a frame is the text ping or a JSON object")
	}
	fields, err := objectFields(compact.Bytes())
	if err != nil {
		return f, frameErrorf(ErrorBadFrame, "%v", err)
	}
	f.fields = fields
	ref, hasRef := f.field("ref")
	if hasRef && !usableRef(ref) {
		return f, frameErrorf(ErrorBadFrame, "ref must be a string or a number of at most %d bytes", maxRefLength)
	}
	f.Ref = ref
	for i := range fields {
		for j := range i {
			if fields[i].name == fields[j].name {
				return f, frameErrorf(ErrorBadFrame, "field %q is given twice", fields[i].name)
			}
		}
	}
	action, _ := f.field("action")
	if json.Unmarshal(action, &f.Action) != nil || f.Action == "" {
		return f, frameErrorf(ErrorBadFrame, "action must be a string")
	}
	return f, nil
}

const (
	maxRefLength = 128
	// maxFields bounds the search for fields given twice.
	maxFields = 128
)

func usableRef(ref json.RawMessage) bool {
	c := ref[0]
	return len(ref) <= maxRefLength && (c == '"' || c == '-' || c >= '0' && c <= '9')
}

// objectFields splits a compact JSON object. The values alias data.
func objectFields(data []byte) ([]field, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("a frame is the text ping or a JSON object")
	}
	var fields []field
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, err
		}
		start := dec.InputOffset() + 1 // behind the colon
		var skip json.RawMessage
		if err := dec.Decode(&skip); err != nil {
			return nil, err
		}
		name, _ := t.(string)
		fields = append(fields, field{name, data[start:dec.InputOffset()]})
		if len(fields) > maxFields {
			return nil, fmt.Errorf("a frame may have %d fields", maxFields)
		}
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("a frame is one JSON object")
	}
	return fields, nil
}

// field returns the raw value of a field, and whether the frame has it.
func (f *Frame) field(name string) (json.RawMessage, bool) {
	for i := range f.fields {
		if f.fields[i].name == name {
			return f.fields[i].value, true
		}
	}
	return nil, false
}

// plain returns the text of a field that must be a string without control
// characters. A field that is missing is the empty text.
func (f *Frame) plain(name string) (string, error) {
	raw, ok := f.field(name)
	if !ok {
		return "", nil
	}
	var s string
	if raw[0] != '"' || json.Unmarshal(raw, &s) != nil || !plainText(s) {
		return "", frameErrorf(ErrorBadOpen, "%s must be a string of at most %d bytes without control characters", name, MaxIDLength)
	}
	return s, nil
}

// ReplyFrame encodes the answer to a frame with a ref: ok, and whatever fields
// come with it, which are JSON without braces, or empty.
func replyFrame(ref json.RawMessage, fields string) []byte {
	b := make([]byte, 0, 48+len(ref)+len(fields))
	b = append(b, `{"action":"reply","ref":`...)
	b = append(b, ref...)
	b = append(b, `,"ok":true`...)
	if fields != "" {
		b = append(b, ',')
		b = append(b, fields...)
	}
	return append(b, '}')
}

// ErrorFrame encodes what a client is told about a frame; ref may be nil.
func ErrorFrame(ref json.RawMessage, e *FrameError) []byte {
	b := append(make([]byte, 0, 96+len(ref)+len(e.Message)), `{"action":"error"`...)
	if ref != nil {
		b = append(b, `,"ref":`...)
		b = append(b, ref...)
	}
	b = append(b, `,"code":"`...)
	b = append(b, e.Code...)
	b = append(b, `","message":`...)
	message, _ := json.Marshal(e.Message) // a string always can be
	b = append(b, message...)
	if e.RetryAfter > 0 {
		seconds := (e.RetryAfter + time.Second - 1) / time.Second
		b = fmt.Appendf(b, `,"retry_after":%d`, seconds)
	}
	if e.Status != 0 {
		b = fmt.Appendf(b, `,"status":%d`, e.Status)
	}
	if e.Data != nil {
		b = append(append(b, `,"data":`...), e.Data...)
	}
	return append(b, '}')
}
