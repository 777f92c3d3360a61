package presence

import (
	"context"
	"errors"
	"time"
)

// ErrStoreUnavailable is what a Store's methods wrap when the store cannot be
// reached, or answered too late. Whether the call took effect is then unknown.
var ErrStoreUnavailable = errors.New("store unavailable")

// ErrBadCursor is returned by Store.Members for a cursor that it did not make.
var ErrBadCursor = errors.New("bad cursor")

// Store keeps who is online, over all nodes and hubs. Hubs are separate: the
// same user id in two hubs is two users.
//
// A user is online while it has at least one open connection. When the last one
// is closed with a linger time, the user lingers: it is still looked up, listed
// and counted, with User.Lingering set, until the time is over or a new
// connection opens. Then it is offline, and the store keeps nothing of it.
//
// All methods may be called concurrently. Each ends when its context does, and
// otherwise within a time limit of the store's own. An error that a caller may
// retry wraps ErrStoreUnavailable. Calls about one connection are made one
// after the other by its hub; calls about one user are not, and converge by the
// order of (At, Conn).
type Store interface {
	// Node is the incarnation that the ids of this process's connections carry
	// now. It changes when the node was declared dead while it was paused.
	Node() NodeID

	// Owns reports whether a node is this one, in its present or an earlier
	// incarnation.
	Owns(node NodeID) bool

	// Join tells the store that a hub of this process keeps its members there,
	// and Leave that it no longer does. The store asks the hub to assert its
	// members when it has lost them.
	Join(hub string, local Local)
	Leave(hub string)

	// Peers returns the nodes that are alive, this one among them. A store that
	// knows of no others returns none.
	Peers(ctx context.Context) ([]Peer, error)

	// Ask sends a request to a hub on another node, behind those that were sent
	// before, and returns where its answer, or why there is none, will come. It
	// does not wait; until says how long the request is worth sending. It
	// reaches the hub at most once.
	Ask(hub string, to NodeID, request []byte, until time.Time) <-chan Answer

	// Ready reports why this node can, at the moment, not do its part among
	// the others, or nil.
	Ready() error

	// Open registers a connection as its user's. See OpenRequest and OpenResult.
	Open(ctx context.Context, req OpenRequest) (OpenResult, error)

	// Close removes connections. It compares and deletes by connection id: a
	// connection that is not registered, or was displaced, changes nothing.
	// The result says for each whether it was there.
	Close(ctx context.Context, hub string, gone []Departure) ([]bool, error)

	// Lookup returns those of the users that are online or lingering, in the
	// order of ids; who is offline is left out.
	Lookup(ctx context.Context, hub string, ids []UserID) ([]User, error)

	// Keep keeps a message for those of the users that resume, and looks all of
	// them up, in one step. The result is in the order of ids; who is offline
	// and not kept for is left out. After an error the message may be kept for
	// some of them.
	Keep(ctx context.Context, ids []UserID, req KeepRequest) ([]KeptUser, error)

	// KeepForAll keeps a message once for the whole hub, and returns its place.
	KeepForAll(ctx context.Context, req KeepRequest) (Place, error)

	// Recover makes a user one that messages are kept for, until it has been
	// offline for the window, and returns what it has missed since an offset.
	// An offset that does not fit is no error: the result is not Complete. Nor
	// is it for the zero Offset, with which only Now is asked for.
	Recover(ctx context.Context, hub string, user UserID, since Offset, k Keeping) (Recovered, error)

	// Members lists users page by page, in an order of the store's own. A user
	// that is online during the whole of a listing is in it exactly once.
	Members(ctx context.Context, hub string, q MemberQuery) (MemberPage, error)

	// Count returns how many users are online or lingering; with a type, only
	// those with a connection of that type (of the last one, if they linger).
	Count(ctx context.Context, hub string, typ string) (int, error)

	// Claim reserves an idempotency key of a push for ttl. The digest stands
	// for the push's content. See Claim's states.
	Claim(ctx context.Context, hub, key, digest string, ttl time.Duration) (Claim, error)

	// Settle keeps the result of the push that was claimed, for ttl; a nil
	// result gives the key free again.
	Settle(ctx context.Context, hub, key, digest string, result []byte, ttl time.Duration) error

	// Position returns where the log of a hub's changes ends, and has changes
	// written to it from now on, as long as somebody calls Changes now and then;
	// while nobody does, they are not kept.
	Position(ctx context.Context, hub string) (Position, error)

	// Changes returns changes behind a position, those of a user in their order,
	// and the position behind them. It does not wait for any. The error wraps
	// ErrChangesLost if some are not there any more.
	Changes(ctx context.Context, hub string, after Position) ([]Change, Position, error)

	// TakeTurn makes this process the one that tells the changes of a hub, or
	// keeps it so, for as long as it holds its lease, unless another process is.
	// told is up to where they are told; at first it is only from where to begin,
	// unless somebody has told more before.
	TakeTurn(ctx context.Context, hub string, told Position, first bool) (Turn, error)

	// LeaveTurn lets another process tell the changes of a hub.
	LeaveTurn(ctx context.Context, hub string) error

	// TurnTime is for how long a turn holds, unless it is taken again.
	TurnTime() time.Duration

	// Check reports whether the store can be used: it is called when a config
	// starts, and by health checks.
	Check(ctx context.Context) error

	// Shutdown ends the store's background work and frees its resources. It
	// leaves the members where they are: whoever owns them closes them first.
	Shutdown(ctx context.Context) error
}

// Local is what a store may ask of a hub of this process. Its methods may be
// called concurrently.
type Local interface {
	// EachOpen calls fn for the user and the number of each open connection.
	EachOpen(fn func(user UserID, num uint64))

	// Has reports whether a connection is open for a user, or about to be: one
	// that the store has registered is.
	Has(user UserID, num uint64) bool

	// Assert opens the open connections of those users again that fn names, and
	// returns how many; it ends with the first error. quiet is OpenRequest.Quiet.
	Assert(ctx context.Context, fn func(UserID) bool, quiet bool) (int, error)

	// Resync has the connections that resume look for what they may have missed:
	// what other nodes sent may be lost. It takes as long as that.
	Resync()

	// Asked carries out a request of another node, and calls answer once, now
	// or later. Requests of one node are given in their order.
	Asked(request []byte, answer func([]byte))
}

// OpenRequest says which connection opens, for whom, and what it may displace.
type OpenRequest struct {
	Hub    string
	Conn   ConnID
	Member *Member

	// At orders the opens of a user, in milliseconds of the store's clock; the
	// newest wins, ties go by Conn. 0 means now. An earlier value is given when
	// a connection is asserted again.
	At int64

	// Seat is the place that the connection takes: at most Max connections of
	// a user have the same seat, the oldest are displaced. The empty seat is
	// one like any other. It has no control characters.
	Seat string

	// Max is at least 1.
	Max int

	// Device, if not empty, is what the client calls its device. An earlier
	// connection of the same user and device is displaced whatever its seat.
	Device string

	// Quiet says that the user is known to be online: only the store has lost it.
	// That it comes back is then no change.
	Quiet bool
}

// OpenResult says what an Open did.
type OpenResult struct {
	// At is the time that was kept for the connection.
	At int64

	// Accepted is false if the connection was not registered: because RetryAfter
	// is set, or because newer connections of the user hold its seat already.
	Accepted bool

	// RetryAfter is positive when the seat (with Max 1) was taken over more than
	// MaxTakeovers times within TakeoverWindow, and this open is refused
	// for as long. Displacing a connection of the same device, or one that has
	// been closed, is no takeover.
	RetryAfter time.Duration

	// Displaced are the connections that lost their place and are no longer
	// registered; their nodes should close them.
	Displaced []ConnID

	// Online says that the user was offline before.
	Online bool
}

// MaxTakeovers in TakeoverWindow is how often the seat of a user may change
// hands before further opens are refused: two clients that take each other's
// place would otherwise go on for ever.
const (
	MaxTakeovers   = 5
	TakeoverWindow = time.Minute
)

// MaxSeats is how many connections of a user a store keeps, whatever their
// seats; beyond it the oldest is displaced.
const MaxSeats = 64

// Departure is a connection that leaves, and how its user goes if it was the
// last one.
type Departure struct {
	User UserID
	Conn ConnID

	// At is the time of the open that is undone, as the store gave it: one that
	// came later stays. 0: any.
	At int64

	// Linger is how long the user stays listed, in whole milliseconds. 0 makes
	// it offline at once.
	Linger time.Duration

	// Cause is the reason that events will give.
	Cause Cause
}

// User is an online or lingering user as a store knows it.
type User struct {
	ID UserID

	// Member is what the newest connection opened with; for a lingering user,
	// the last one.
	Member *Member

	// Lingering is set when no connection is left; Conns is then empty.
	Lingering bool

	// Since is when the newest connection opened or, if the user lingers, when
	// the last one closed, in milliseconds of the store's clock.
	Since int64

	// Conns are the open connections, newest first.
	Conns []UserConn
}

// UserConn is one open connection of a user.
type UserConn struct {
	ID     ConnID
	At     int64 // when it opened, in milliseconds of the store's clock
	Member *Member
}

// MemberQuery selects a page of members.
type MemberQuery struct {
	Type   string // only users with a connection of this type; empty: all
	Limit  int    // at least 1
	Cursor string // empty for the first page, then MemberPage.Next
}

// MemberPage is one page of members.
type MemberPage struct {
	Users []User
	Next  string // empty after the last page
}

// ClaimState says what a Claim found.
type ClaimState int

const (
	ClaimNew      ClaimState = iota // the key was free and is now claimed
	ClaimPending                    // the same push is under way
	ClaimDone                       // the same push was made; its result is there
	ClaimConflict                   // the key belongs to a push of other content
)

// Claim is the answer to a claimed idempotency key.
type Claim struct {
	State  ClaimState
	Result []byte // with ClaimDone
}
