package presence

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of a push.
const (
	MaxPushSize = 64 << 10 // bytes of its message
	MaxPushIDs  = 10_000   // user ids and connection ids in its selectors
	MaxPushWait = 30 * time.Second
	DefaultWait = 2 * time.Second

	// IdempotencyWindow is how long a push's id is remembered.
	IdempotencyWindow = 10 * time.Minute
)

// Push is a message from a backend to selected members. Either Data or Text is
// set.
type Push struct {
	To     Selector `json:"to"`
	Except Selector `json:"except"`

	// Data is any JSON; it arrives exactly as it stands here.
	Data json.RawMessage `json:"data"`

	// Text arrives as it is.
	Text *string `json:"text"`

	// ID makes the push idempotent: within IdempotencyWindow another push with
	// the same id and content sends nothing and has the first one's result.
	ID string `json:"id"`

	// TTL is how long the message is kept for users that resume; 0: as long as
	// their hub keeps any.
	TTL Duration `json:"ttl"`

	// Collapse, if not empty, has a message that is kept replaced by a newer one
	// with the same text here: of positions, only the last one counts.
	Collapse string `json:"collapse"`

	// Ack asks for receipts, for as long as Wait.
	Ack bool `json:"ack"`

	// Wait is how long to wait until slow connections have taken the message;
	// nil is DefaultWait. With 0 the result comes before anything is delivered.
	Wait *Wait `json:"wait"`
}

// Selector names members. What it names is joined: ids, and types, and so on.
type Selector struct {
	IDs   []UserID `json:"ids"`
	Types []string `json:"types"`
	Conns []ConnID `json:"conns"`
	All   bool     `json:"all"`
}

func (s *Selector) empty() bool {
	return len(s.IDs) == 0 && len(s.Types) == 0 && len(s.Conns) == 0 && !s.All
}

// Duration is a length of time that is text in JSON, such as "30s".
type Duration time.Duration

// Duration returns it as time.Duration.
func (d Duration) Duration() time.Duration { return time.Duration(d) }

// MaxTTL is the longest TTL.
const MaxTTL = 24 * time.Hour

// UnmarshalJSON reads the text of a duration as time.ParseDuration does.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return errors.New(`ttl must be a duration in quotes, such as "30s"`)
	}
	n, err := time.ParseDuration(s)
	if err != nil || n < time.Millisecond || n > MaxTTL {
		return fmt.Errorf("ttl must be a duration from 1ms to %v, such as \"30s\"", MaxTTL)
	}
	*d = Duration(n)
	return nil
}

// Wait is a duration that is text in JSON, such as "2s".
type Wait time.Duration

// UnmarshalJSON reads the text of a duration as time.ParseDuration does.
func (w *Wait) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return errors.New(`wait must be a duration in quotes, such as "2s"`)
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > MaxPushWait {
		return fmt.Errorf("wait must be a duration from 0s to %v, such as \"2s\"", MaxPushWait)
	}
	*w = Wait(d)
	return nil
}

// PushResult says what became of a push.
type PushResult struct {
	ID string `json:"id"` // the push's own, or a new one

	// Matched is how many users the selectors named that are online.
	Matched int `json:"matched"`

	// Sent is how many connections were handed the whole message. The app may
	// still not have seen it.
	Sent int `json:"sent"`

	// Acked is how many connections have confirmed it, if that was asked for.
	Acked int `json:"acked,omitempty"`

	// Queued is how many users it is kept for that have no connection now.
	Queued int `json:"queued,omitempty"`

	// Dropped is how many did not get it: the queue was full, or the connection
	// ended first.
	Dropped int `json:"dropped"`

	// Unconfirmed is how many had not taken it when the wait was over, or are
	// on a node that did not answer.
	Unconfirmed int `json:"unconfirmed"`

	// Offline are the selected ids that have no open connection.
	Offline []UserID `json:"offline"`

	// Incomplete says that the store was away: only members of this node were
	// reached. Unknown are the selected ids that are not among them.
	Incomplete bool     `json:"incomplete,omitempty"`
	Unknown    []UserID `json:"unknown,omitempty"`
}

// Errors of a push that was not carried out.
var (
	ErrPushInvalid  = errors.New("invalid push")                                      // the caller's fault
	ErrPushTooBig   = errors.New("push too big")                                      // a limit above
	ErrPushConflict = errors.New("this push id was used for another push")            //
	ErrPushPending  = errors.New("a push with this id is still under way; ask again") //
)

// DecodePush reads one push from JSON. Unknown fields are refused. The error
// wraps ErrPushInvalid; Check is still to be called.
func DecodePush(data []byte) (*Push, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	p := new(Push)
	if err := dec.Decode(p); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPushInvalid, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: a push is one JSON object", ErrPushInvalid)
	}
	return p, nil
}

// Check reports what is wrong with a push; the error wraps ErrPushInvalid or
// ErrPushTooBig.
func (p *Push) Check() error {
	switch {
	case p.To.empty():
		return fmt.Errorf("%w: to must name ids, types, conns or all", ErrPushInvalid)
	case p.Except.All:
		return fmt.Errorf("%w: except cannot be all", ErrPushInvalid)
	case (p.Text == nil) == (p.Data == nil):
		return fmt.Errorf("%w: give either data or text", ErrPushInvalid)
	case len(p.text()) > MaxPushSize:
		return fmt.Errorf("%w: a message may have %d bytes", ErrPushTooBig, MaxPushSize)
	case p.selected() > MaxPushIDs:
		return fmt.Errorf("%w: a push may name %d ids", ErrPushTooBig, MaxPushIDs)
	case len(p.ID) > MaxIDLength || !plainText(p.ID):
		return fmt.Errorf("%w: id must have at most %d bytes without control characters", ErrPushInvalid, MaxIDLength)
	case len(p.Collapse) > MaxIDLength || !plainText(p.Collapse):
		return fmt.Errorf("%w: collapse must have at most %d bytes without control characters", ErrPushInvalid, MaxIDLength)
	case p.Ack && p.Detached():
		return fmt.Errorf("%w: receipts need a wait", ErrPushInvalid)
	case !utf8.Valid(p.text()):
		return fmt.Errorf("%w: the message must be UTF-8", ErrPushInvalid)
	}
	return nil
}

func (p *Push) text() []byte {
	if p.Text != nil {
		return []byte(*p.Text)
	}
	return p.Data
}

func (p *Push) selected() int {
	return len(p.To.IDs) + len(p.To.Conns) + len(p.To.Types) +
		len(p.Except.IDs) + len(p.Except.Conns) + len(p.Except.Types)
}

func (p *Push) wait() time.Duration {
	if p.Wait == nil {
		return DefaultWait
	}
	return time.Duration(*p.Wait)
}

// digest stands for what the push says and to whom.
func (p *Push) digest() string {
	type content Push // without methods
	c := content(*p)
	c.Wait = nil
	b, _ := json.Marshal(c) // its parts were JSON, or are plain
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// Push delivers a message and says what became of it. It wraps ErrPushInvalid,
// ErrPushTooBig, ErrPushConflict, ErrPushPending or ErrStoreUnavailable, and
// then nothing was sent.
func (h *Hub) Push(ctx context.Context, p *Push) (PushResult, error) {
	d, err := h.Start(ctx, p)
	if err != nil {
		return PushResult{}, err
	}
	return d.Result(ctx), nil
}

// Start begins a push: when it returns, the message was handed to all
// connections that take it at once, in the order of the calls; with a wait of
// 0, only the members are selected, and the message goes out behind.
func (h *Hub) Start(ctx context.Context, p *Push) (*Delivery, error) {
	return h.startFound(ctx, p, nil)
}

// startFound is Start for a push whose users may have been looked up already.
func (h *Hub) startFound(ctx context.Context, p *Push, found map[UserID]*User) (*Delivery, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	if p.Ack && !h.keeps() {
		return nil, fmt.Errorf("%w: receipts need a hub with the option resume", ErrPushInvalid)
	}
	h.stats.pushes.Add(1)
	if p.ID == "" {
		return h.start(ctx, p, strings.ToLower(rand.Text()), found)
	}
	return h.startOnce(ctx, p, found)
}

func (h *Hub) start(ctx context.Context, p *Push, id string, found map[UserID]*User) (*Delivery, error) {
	sel, err := h.selectMembers(ctx, p, id, found)
	if err != nil {
		return nil, err
	}
	d := h.newDelivery(PushResult{ID: id, Matched: sel.matched, Queued: sel.queued, Dropped: sel.ended, Offline: sel.offline}, sel.conns, p.wait())
	if d.shares, err = h.forward(p, id, &sel, d.until); errors.Is(err, ErrStoreUnavailable) {
		sel.incomplete = true
	} else if err != nil {
		return nil, err
	}
	d.result.Incomplete, d.result.Unknown = sel.incomplete, sel.unknown
	if p.Ack {
		d.undelivered = func(got map[UserID]struct{}) { h.undelivered(p, id, &sel, got) }
	}
	d.handOut(h, p.text(), sel.kept, p.Detached())
	return d, nil
}

// startOnce is start for a push with an id of its own.
func (h *Hub) startOnce(ctx context.Context, p *Push, found map[UserID]*User) (*Delivery, error) {
	store, digest := h.Store(), p.digest()
	claim, err := h.claim(ctx, store, p, digest)
	if err != nil {
		return nil, err
	}
	switch claim.State {
	case ClaimConflict:
		return nil, ErrPushConflict
	case ClaimPending:
		return nil, ErrPushPending
	case ClaimDone:
		d := new(Delivery)
		if err := json.Unmarshal(claim.Result, &d.result); err != nil {
			return nil, fmt.Errorf("reading the result of push %q: %w", p.ID, err)
		}
		return d, nil
	}
	d, err := h.start(ctx, p, p.ID, found)
	if err != nil {
		_ = store.Settle(context.WithoutCancel(ctx), h.name, p.ID, digest, nil, 0)
		return nil, err
	}
	d.keep = func(r PushResult) {
		b, _ := json.Marshal(r) // plain values
		_ = store.Settle(context.WithoutCancel(ctx), h.name, p.ID, digest, b, IdempotencyWindow)
	}
	return d, nil
}

// claimSlack is how much longer than a push's wait its id stays claimed without
// a result: if this node crashes meanwhile, the push may then be made again.
const claimSlack = 10 * time.Second

// claim reserves the push's id. While the same push is under way, it waits for
// its result as long as that may take.
func (h *Hub) claim(ctx context.Context, store Store, p *Push, digest string) (Claim, error) {
	const poll = 20 * time.Millisecond
	until := time.Now().Add(p.wait() + time.Second)
	for {
		c, err := store.Claim(ctx, h.name, p.ID, digest, p.wait()+claimSlack)
		if err != nil || c.State != ClaimPending || time.Now().After(until) {
			return c, err
		}
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			return c, nil
		}
	}
}

// Detached reports whether the push's result comes before it is delivered.
func (p *Push) Detached() bool { return p.wait() == 0 }
