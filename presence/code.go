package presence

// ErrorCode tells a client what was wrong with a frame of its own. The list is
// closed: it is all that an error frame's "code" can be.
type ErrorCode string

const (
	// ErrorBadFrame: the frame is no JSON object with a string "action", names
	// a field twice, or has a "ref" that is no short string or number.
	ErrorBadFrame ErrorCode = "bad_frame"

	// ErrorBadOpen: an open frame without a usable id, with another field of
	// the wrong kind, or with a member over MaxMemberSize. Nothing is stored.
	ErrorBadOpen ErrorCode = "bad_open"

	// ErrorAlreadyOpen: the connection is open for another id; it needs a close
	// frame first.
	ErrorAlreadyOpen ErrorCode = "already_open"

	// ErrorIdentityMismatch: the id is not the one that the site's login gave.
	ErrorIdentityMismatch ErrorCode = "identity_mismatch"

	// ErrorSessionConflict: other connections keep taking this seat; the frame
	// says in "retry_after" how many seconds to stay away.
	ErrorSessionConflict ErrorCode = "session_conflict"

	// ErrorNotOpen: the frame needs an open connection.
	ErrorNotOpen ErrorCode = "not_open"

	// ErrorUnknownAction: nothing on this route handles the action.
	ErrorUnknownAction ErrorCode = "unknown_action"

	// ErrorTooFast: the frame came over the rate limit and was not handled.
	ErrorTooFast ErrorCode = "too_fast"

	// ErrorRefused: the action's handlers answered that they will not; the frame
	// has their "status" (3xx or 4xx) and, if they gave JSON, it as "data".
	ErrorRefused ErrorCode = "refused"

	// ErrorBackendFailed: the action's handlers failed, or took too long.
	ErrorBackendFailed ErrorCode = "backend_failed"

	// ErrorStoreUnavailable: who is online cannot be written down right now;
	// the frame had no effect and may be sent again.
	ErrorStoreUnavailable ErrorCode = "store_unavailable"
)

// ErrorCodes are all codes.
var ErrorCodes = []ErrorCode{
	ErrorBadFrame, ErrorBadOpen, ErrorAlreadyOpen, ErrorIdentityMismatch, ErrorSessionConflict,
	ErrorNotOpen, ErrorUnknownAction, ErrorTooFast, ErrorRefused, ErrorBackendFailed, ErrorStoreUnavailable,
}

// CloseCode is a WebSocket close code (RFC 6455, section 7.4). Ours tell by
// their range what a client should do: 4000 to 4099 do not come back, 4100 to
// 4199 come back after a delay, 4200 to 4299 come back at once.
type CloseCode uint16

const (
	CloseNormal        CloseCode = 1000 // done
	CloseGoingAway     CloseCode = 1001 // the route or hub is gone; from a client: the page is
	CloseProtocolError CloseCode = 1002 // the peer broke RFC 6455
	CloseUnsupported   CloseCode = 1003 // a binary message where none is taken
	CloseInvalidData   CloseCode = 1007 // a text message that is not UTF-8
	CloseTooBig        CloseCode = 1009 // a message over max_message_size
	CloseInternalError CloseCode = 1011 // our fault
	CloseRestart       CloseCode = 1012 // this node stops: come back, elsewhere or later

	CloseHidden CloseCode = 3001 // from our client: the page is hidden for good, or cached

	CloseReplaced     CloseCode = 4001 // a newer connection of the user took the seat
	CloseKicked       CloseCode = 4003 // by an operator
	CloseUnauthorized CloseCode = 4009 // the handshake lacks a valid identity

	CloseFull         CloseCode = 4100 // too many connections
	CloseSlowConsumer CloseCode = 4101 // the queue was full for too long
	CloseTooFast      CloseCode = 4102 // too many frames for too long
	CloseNotOpened    CloseCode = 4103 // no open frame in time

	CloseMove      CloseCode = 4200 // connect again, to another node
	CloseNoLife    CloseCode = 4201 // no sign of life
	CloseIDExpired CloseCode = 4202 // the identity expired: bring a new one
)

// Cause is why a connection ended that its client closed with a code, or without
// one (1006).
func (c CloseCode) Cause() Cause {
	if c == CloseNormal {
		return CauseClient
	}
	return CauseLost
}

// DropReason says why a connection did not get a message. The list is closed;
// the text is the label in logs, metrics and stats.
type DropReason string

const (
	// DropQueueFull: the message did not fit in what max_queue leaves.
	DropQueueFull DropReason = "queue_full"

	// DropClosed: the connection ended before the whole message was handed over.
	DropClosed DropReason = "closed"
)

// DropReasons are all reasons.
var DropReasons = []DropReason{DropQueueFull, DropClosed}
