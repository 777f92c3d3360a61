package presence

import (
	"encoding/json"
	"strings"
	"time"
)

// MaxMemberSize is how many bytes of compact JSON a member may have.
const MaxMemberSize = 4 << 10

// Member is who a connection is, from its open frame. It is never changed once
// made, and shared by whoever needs it.
type Member struct {
	ID   UserID
	Type string

	// JSON is the compact object of all fields as the client sent them, in its
	// order, without action, ref, resume, device and beat.
	JSON json.RawMessage

	// Device is what the client calls its device, or empty.
	Device string
}

// openRequest is what an open frame asks for.
type openRequest struct {
	member *Member

	// beat is how often the client promises a data frame: negative if it said
	// nothing, 0 if it will only listen.
	beat time.Duration

	// resume asks for what was missed since an offset, which the zero value leaves
	// out. lost: an offset was given that cannot be read.
	resume bool
	since  Offset
	lost   bool
}

// MaxBeat is the longest interval that an open frame may announce as "beat".
const MaxBeat = time.Hour

// readOpen takes an open frame apart. Its errors are *FrameError with
// ErrorBadOpen, or ErrorIdentityMismatch if it does not name the identity.
func readOpen(f *Frame, identity UserID) (openRequest, error) {
	req := openRequest{beat: -1}
	id, err := readID(f, identity)
	if err != nil {
		return req, err
	}
	typ, err := f.plain("type")
	if err != nil {
		return req, err
	}
	device, err := f.plain("device")
	if err != nil {
		return req, err
	}
	if raw, ok := f.field("beat"); ok {
		var seconds float64
		if json.Unmarshal(raw, &seconds) != nil || raw[0] == 'n' || seconds < 0 || seconds > MaxBeat.Seconds() {
			return req, frameErrorf(ErrorBadOpen, "beat must be a number of seconds from 0 to %d", int(MaxBeat.Seconds()))
		}
		req.beat = time.Duration(seconds * float64(time.Second))
	}
	if raw, ok := f.field("resume"); ok {
		if err := req.readResume(raw); err != nil {
			return req, err
		}
	}
	data := memberJSON(f.fields)
	if len(data) > MaxMemberSize {
		return req, frameErrorf(ErrorBadOpen, "a member may have %d bytes of JSON, this one has %d", MaxMemberSize, len(data))
	}
	req.member = &Member{ID: id, Type: typ, JSON: data, Device: device}
	return req, nil
}

// readResume reads the field resume: true, or an offset. One that cannot be read must
// not keep the user offline.
func (req *openRequest) readResume(raw json.RawMessage) error {
	var text string
	switch {
	case string(raw) == "true":
		req.resume = true
	case string(raw) == "false", string(raw) == "null":
	case json.Unmarshal(raw, &text) == nil:
		var err error
		req.since, err = ParseOffset(text)
		req.resume, req.lost = true, err != nil
	default:
		return frameErrorf(ErrorBadOpen, "resume must be true, or the last offset")
	}
	return nil
}

// readID returns the id that an open frame names. If there is an identity, it is
// added to a frame that leaves its id out.
func readID(f *Frame, identity UserID) (UserID, error) {
	raw, given := f.field("id")
	if !given && identity != "" {
		text, _ := json.Marshal(string(identity)) // a string always can be
		f.fields = append(f.fields, field{"id", text})
		return identity, nil
	}
	id, err := ParseUserID(raw)
	switch {
	case err != nil:
		return "", frameErrorf(ErrorBadOpen, "%v", err)
	case identity != "" && id != identity:
		return "", frameErrorf(ErrorIdentityMismatch, "this connection can be open for its own identity only")
	}
	return id, nil
}

// memberJSON joins the fields that belong to the member.
func memberJSON(fields []field) json.RawMessage {
	size := 2
	for _, f := range fields {
		size += len(f.name) + len(f.value) + 4
	}
	b := append(make([]byte, 0, size), '{')
	for _, f := range fields {
		switch f.name {
		case "action", "ref", "resume", "device", "beat":
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		name, _ := json.Marshal(f.name) // a string always can be
		b = append(b, name...)
		b = append(b, ':')
		b = append(b, f.value...)
	}
	return append(b, '}')
}

// Field returns a field of the member as text: a string's content, or the raw
// JSON of any other value; empty if there is none. Control characters are left
// out, because stores separate with them.
func (m *Member) Field(name string) string {
	fields, err := objectFields(m.JSON)
	if err != nil {
		return ""
	}
	for _, f := range fields {
		if f.name != name {
			continue
		}
		text := string(f.value)
		if f.value[0] == '"' {
			_ = json.Unmarshal(f.value, &text) // valid since DecodeFrame
		}
		return strings.Map(func(r rune) rune {
			if r < 0x20 || r == 0x7f {
				return -1
			}
			return r
		}, text)
	}
	return ""
}
