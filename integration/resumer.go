package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// Resumer is a client that keeps its offset, as the JavaScript client does: it
// connects again and again, and drops doubles.
type Resumer struct {
	ID string

	mu     sync.Mutex // guards the fields below
	offset string
	seen   map[string]bool // ids of pushes
	got    []string        // messages, and "lost" where it was told so
	double int             // messages that it has dropped
	opens  int
	acks   bool // it confirms what it is asked to
	cancel context.CancelFunc

	// beat, if not 0, is how often it says ping: after four without any answer it
	// leaves the connection.
	beat time.Duration
}

// resumeFrame is any frame to a client that resumes.
type resumeFrame struct {
	Action, Offset, ID, Text string
	Data                     json.RawMessage
	Ok, Ack                  bool
	Recovered                *bool
}

// Visit connects, opens, and stays until the connection ends, or ctx does.
func (r *Resumer) Visit(ctx context.Context, url string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	const patience = 2 * time.Second
	dialCtx, dialed := context.WithTimeout(ctx, patience)
	defer dialed()
	ws, _, err := websocket.Dial(dialCtx, url, nil)
	if err != nil {
		return err
	}
	defer ws.CloseNow()
	ws.SetReadLimit(1 << 20)
	heard := make(chan struct{}, 1)
	if r.beat > 0 {
		go r.watch(ctx, ws, heard, cancel)
	}
	r.mu.Lock()
	r.cancel = cancel
	resume := "true"
	if r.offset != "" {
		resume = fmt.Sprintf("%q", r.offset)
	}
	r.mu.Unlock()
	open := fmt.Sprintf(`{"action":"open","id":%q,"type":"driver","device":"d","resume":%s,"ref":1}`, r.ID, resume)
	if err := ws.Write(ctx, websocket.MessageText, []byte(open)); err != nil {
		return err
	}
	for {
		_, data, err := ws.Read(ctx)
		if err != nil {
			return err
		}
		select {
		case heard <- struct{}{}:
		default:
		}
		if string(data) == "pong" {
			continue
		}
		if strings.Contains(string(data), `"action":"error"`) {
			return fmt.Errorf("refused: %s", data) // the node stops, say
		}
		if ack := r.take(data); ack != "" {
			if err := ws.Write(ctx, websocket.MessageText, fmt.Appendf(nil, `{"action":"ack","offset":%q}`, ack)); err != nil {
				return err
			}
		}
	}
}

// watch says ping, and ends the visit if nothing comes for four of them.
func (r *Resumer) watch(ctx context.Context, ws *websocket.Conn, heard <-chan struct{}, leave func()) {
	defer leave()
	tick := time.NewTicker(r.beat)
	defer tick.Stop()
	for silent := 0; silent < 4; {
		select {
		case <-ctx.Done():
			return
		case <-heard:
			silent = 0
		case <-tick.C:
			silent++
			if ws.Write(ctx, websocket.MessageText, []byte("ping")) != nil {
				return
			}
		}
	}
}

// take takes a frame in, and returns the offset to confirm, if that is asked for.
func (r *Resumer) take(data []byte) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var f resumeFrame
	if err := json.Unmarshal(data, &f); err != nil {
		r.got = append(r.got, "unreadable "+string(data))
		return ""
	}
	switch f.Action {
	case "reply", "resume":
		if f.Action == "reply" {
			if !f.Ok {
				r.got = append(r.got, "refused "+string(data))
				return ""
			}
			r.opens++
		}
		if f.Recovered != nil && !*f.Recovered {
			r.got = append(r.got, "lost")
		}
		r.offset = f.Offset
		return ""
	case "push":
	default:
		r.got = append(r.got, "unknown "+string(data))
		return ""
	}
	if f.Offset != "" {
		if behind(r.offset, f.Offset) {
			r.double++
			return ""
		}
		r.offset = f.Offset
	}
	if r.seen[f.ID] {
		r.double++
		return ""
	}
	if r.seen == nil {
		r.seen = make(map[string]bool)
	}
	r.seen[f.ID] = true
	text := f.Text
	if f.Data != nil {
		text = string(f.Data)
	}
	r.got = append(r.got, text)
	if f.Ack && r.acks {
		return r.offset
	}
	return ""
}

// behind reports whether an offset is not beyond the last one.
func behind(last, offset string) bool {
	x, y := strings.Split(last, "-"), strings.Split(offset, "-")
	if len(x) != 4 || len(y) != 4 || x[0] != y[0] || x[2] != y[2] {
		return false
	}
	return number(y[1]) <= number(x[1]) && number(y[3]) <= number(x[3])
}

func number(text string) (n int64) {
	_, _ = fmt.Sscan(text, &n)
	return n
}

// Cut ends the connection without a word.
func (r *Resumer) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cancel != nil {
		r.cancel()
	}
}

// Got returns what has come until now.
func (r *Resumer) Got() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.got...)
}

// Opens returns how often it was online.
func (r *Resumer) Opens() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.opens
}

// Doubles returns how many messages it has dropped.
func (r *Resumer) Doubles() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.double
}
