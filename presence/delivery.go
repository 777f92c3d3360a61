package presence

import (
	"context"
	"time"
)

// Delivery is a push that is under way.
type Delivery struct {
	result PushResult // before anything was delivered; all of it if report is nil
	report *Report
	conns  []Conn  // of this node, that are to get the message
	shares []share // of other nodes
	until  time.Time
	keep   func(PushResult) // remembers the result, or nil

	// undelivered is told, when the wait is over, who has confirmed the message; nil
	// if no receipts were asked for.
	undelivered func(map[UserID]struct{})
}

func (h *Hub) newDelivery(r PushResult, conns []Conn, wait time.Duration) *Delivery {
	return &Delivery{result: r, report: newReport(len(conns), &h.stats), conns: conns, until: time.Now().Add(wait)}
}

// handOut gives the message to the connections of this node, as outbox.post does.
func (d *Delivery) handOut(h *Hub, text []byte, kept *keptPush, detached bool) {
	m := NewMessage(text)
	m.report = d.report
	h.outbox.post(&parcel{conns: d.conns, message: m, kept: kept}, detached)
}

// Result waits until the message was handed to all connections, or the push's
// wait is over, or ctx is, and says what became of it. Call it once.
func (d *Delivery) Result(ctx context.Context) PushResult {
	r := d.result
	if r.Offline == nil {
		r.Offline = []UserID{}
	}
	if d.report == nil {
		return r
	}
	if wait := time.Until(d.until); wait > 0 {
		d.await(ctx, wait)
	}
	dropped := int(d.report.dropped.Load())
	r.Sent, r.Dropped = int(d.report.sent.Load()), r.Dropped+dropped
	r.Unconfirmed += len(d.conns) - r.Sent - dropped
	var got map[UserID]struct{}
	r.Acked, got = d.report.receivers()
	if len(d.shares) > 0 {
		ctx, cancel := context.WithDeadline(ctx, d.until)
		defer cancel()
		got = collect(ctx, d.shares, &r, got)
	}
	d.report.over.Store(true)
	if d.undelivered != nil {
		d.undelivered(got)
	}
	if d.keep != nil {
		d.keep(r)
	}
	return r
}

func (d *Delivery) await(ctx context.Context, wait time.Duration) {
	select {
	case <-d.report.done: // nearly always: no timer then
		return
	default:
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-d.report.done:
	case <-timer.C:
	case <-ctx.Done():
	}
}
