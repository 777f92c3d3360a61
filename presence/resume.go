package presence

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Keeping is how much a hub keeps for users that resume. Both are positive.
type Keeping struct {
	Window   time.Duration // how long a message is kept, and a user that is gone; whole milliseconds
	Messages int           // how many a user has at most, and the hub has of those to many
}

// Kept is a message that is kept.
type Kept struct {
	// Seq is its place among those of its user, or of the hub: one more than
	// that of the one before.
	Seq int64

	// Order orders messages of a user with those of the hub: milliseconds of the
	// store's clock, increasing for each node.
	Order int64

	Body []byte // as it was given; not to be changed
}

// KeepRequest is a message to be kept.
type KeepRequest struct {
	Hub  string
	Body []byte // not to be changed any more

	// TTL is how long it is worth getting, in whole milliseconds. 0: as long as
	// the window.
	TTL time.Duration

	// Collapse, if not empty, makes it replace an earlier one of the same key
	// and the same user, or of the hub.
	Collapse string

	Keeping
}

// Place is a place in a series of messages. The numbers of a series say nothing
// once its epoch is another.
type Place struct {
	Epoch string
	Seq   int64
}

// Offset is up to where a user has got what was kept: its own messages, and
// those of the hub.
type Offset struct{ User, Hub Place }

// maxEpochLength is how many bytes an epoch may have.
const maxEpochLength = 64

// String is "<epoch>-<seq>-<epoch>-<seq>", the user's place first.
func (o Offset) String() string {
	return fmt.Sprintf("%s-%d-%s-%d", o.User.Epoch, o.User.Seq, o.Hub.Epoch, o.Hub.Seq)
}

// ParseOffset reads the text of an Offset. The zero Offset has none.
func ParseOffset(text string) (Offset, error) {
	const most = 2 * (maxEpochLength + len("-9223372036854775807-"))
	if len(text) > most {
		return Offset{}, fmt.Errorf("an offset of %d bytes is too long", len(text))
	}
	f := strings.Split(text, "-")
	if len(f) != 4 {
		return Offset{}, fmt.Errorf("%q is no offset", text)
	}
	user, ok := parsePlace(f[0], f[1])
	hub, hubOK := parsePlace(f[2], f[3])
	if !ok || !hubOK {
		return Offset{}, fmt.Errorf("%q is no offset", text)
	}
	return Offset{User: user, Hub: hub}, nil
}

func parsePlace(epoch, seq string) (Place, bool) {
	if epoch == "" || len(epoch) > maxEpochLength || !plainText(epoch) {
		return Place{}, false
	}
	n, err := strconv.ParseInt(seq, 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != seq {
		return Place{}, false // one text for each number
	}
	return Place{Epoch: epoch, Seq: n}, true
}

// KeptUser is a user that a push names.
type KeptUser struct {
	// User is as Lookup gives it. Of one that is gone only ID is set.
	User

	// Gone says that the user is neither online nor lingering, but was within
	// the window.
	Gone bool

	// Place is where the message is kept for it. Seq 0: it is not, because no
	// connection of the user has asked to resume.
	Place Place
}

// Recovered is what a user has missed.
type Recovered struct {
	// Now is up to where the user is with User and Hub.
	Now Offset

	// Complete says that nothing between the offset and Now is missing, but for
	// what was replaced or whose time is over.
	Complete bool

	User, Hub []Kept // in their order; nothing if not Complete
}
