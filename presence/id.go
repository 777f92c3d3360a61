package presence

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// UserID is the canonical form of the id that an open frame names: the text of
// a JSON string, or the digits of a JSON integer. 7 and "7" are one user, "007"
// is another. Ids are compared byte by byte.
type UserID string

// MaxIDLength is how many bytes of UTF-8 a user id or a type may have.
const MaxIDLength = 128

var errBadID = errors.New("id must be a string of 1 to 128 bytes without control characters, or an integer")

// ParseUserID reads the raw JSON value of an id. Digits are taken from the text
// as it stands and never go through a float, so an id beyond 2^53 stays exact.
func ParseUserID(raw json.RawMessage) (UserID, error) {
	if len(raw) == 0 {
		return "", errors.New("id is missing")
	}
	if raw[0] == '"' {
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return "", errBadID
		}
		return CheckUserID(s)
	}
	digits := strings.TrimPrefix(string(raw), "-")
	if digits == "" || len(raw) > MaxIDLength || strings.Trim(digits, "0123456789") != "" {
		return "", errBadID
	}
	// -0 and 0 would be two texts of one number.
	if raw[0] == '-' && digits == "0" {
		return "", errBadID
	}
	return UserID(raw), nil
}

// UnmarshalJSON reads an id from a JSON string or integer, as ParseUserID does.
func (u *UserID) UnmarshalJSON(b []byte) error {
	id, err := ParseUserID(b)
	*u = id
	return err
}

// CheckUserID reports whether s can be a user id, and returns it as one.
func CheckUserID(s string) (UserID, error) {
	if s == "" || !plainText(s) {
		return "", errBadID
	}
	return UserID(s), nil
}

// plainText reports whether s is at most MaxIDLength bytes of valid UTF-8
// without control characters. Stores rely on it: their records use tab and
// newline as separators.
func plainText(s string) bool {
	if len(s) > MaxIDLength || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			return false
		}
	}
	return true
}

// NodeID names one incarnation of a node: a process that restarts, or that was
// declared dead while it was paused, takes a new one. It has only lower-case
// letters and digits.
type NodeID string

// NewNodeID returns a random NodeID.
func NewNodeID() NodeID {
	return NodeID(strings.ToLower(rand.Text()[:12]))
}

// ConnID names one connection, unique over nodes and restarts. Its text is
// "<node>.<number in base 36>".
type ConnID struct {
	Node NodeID
	Num  uint64
}

func (c ConnID) String() string {
	return string(c.Node) + "." + strconv.FormatUint(c.Num, 36)
}

// MarshalText and UnmarshalText make a ConnID a JSON string.
func (c ConnID) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (c *ConnID) UnmarshalText(text []byte) error {
	id, err := ParseConnID(string(text))
	if err != nil {
		return err
	}
	*c = id
	return nil
}

// ParseConnID reads the text of a ConnID.
func ParseConnID(s string) (ConnID, error) {
	node, num, ok := strings.Cut(s, ".")
	n, err := strconv.ParseUint(num, 36, 64)
	if !ok || err != nil || node == "" || len(s) > MaxIDLength || !plainText(node) {
		return ConnID{}, fmt.Errorf("%q is no connection id", s)
	}
	return ConnID{Node: NodeID(node), Num: n}, nil
}
