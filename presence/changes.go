package presence

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Change is a user that came online or went offline, as a store has written it
// down in the step that changed its state.
type Change struct {
	// Part is the part of the log that the user belongs to, and Seq the place
	// there. It grows from one change of a user to the next, as long as the
	// log's epoch is the same.
	Part int
	Seq  int64

	Kind   EventKind // EventOnline or EventOffline
	Member *Member
	Conn   ConnID // that came; of an offline user, the last one
	Cause  Cause  // of EventOffline
	At     int64  // in milliseconds of the store's clock
}

// ErrChangesLost is returned by Store.Changes if some of those behind a position
// are not there any more: the store has lost data, or the position is too old.
// Who follows has to look who is online, and goes on from Store.Position.
var ErrChangesLost = errors.New("changes are lost; list the members and go on from there")

// ErrBadPosition is returned by ParsePosition.
var ErrBadPosition = errors.New("bad position")

// Position is a place in the log of a hub's changes: behind Seqs[n] in part n.
// The zero value is no place.
type Position struct {
	Epoch string // of the store: another one if it has lost data
	Seqs  []int64
}

// String returns the text that ParsePosition reads, of which nobody else need
// know more.
func (p Position) String() string {
	var b []byte
	for _, seq := range p.Seqs {
		b = binary.AppendUvarint(b, uint64(seq))
	}
	return p.Epoch + "." + base64.RawURLEncoding.EncodeToString(b)
}

// maxParts bounds what ParsePosition reads.
const maxParts = 1024

// ParsePosition reads what String returned.
func ParsePosition(text string) (Position, error) {
	epoch, rest, ok := strings.Cut(text, ".")
	if !ok || epoch == "" || len(text) > maxParts*binary.MaxVarintLen64 {
		return Position{}, fmt.Errorf("%w %.40q", ErrBadPosition, text)
	}
	b, err := base64.RawURLEncoding.DecodeString(rest)
	p := Position{Epoch: epoch}
	for err == nil && len(b) > 0 && len(p.Seqs) < maxParts {
		seq, n := binary.Uvarint(b)
		if n <= 0 || seq > 1<<62 {
			err = ErrBadPosition
			break
		}
		p.Seqs, b = append(p.Seqs, int64(seq)), b[n:]
	}
	if err != nil || len(b) > 0 || len(p.Seqs) == 0 {
		return Position{}, fmt.Errorf("%w %.40q", ErrBadPosition, text)
	}
	return p, nil
}

// Turn says whether this process is the one that tells a hub's changes.
type Turn struct {
	Mine bool
	Told Position // if so, up to where they were told, by whomever
}
