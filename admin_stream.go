package caddypresence

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

const (
	// streamDepth is how many pushes of a stream may be under way at once. The
	// messages themselves go out one push after the other, in the order of the
	// lines.
	streamDepth = 256

	// streamIdle is how long a stream may bring no line.
	streamIdle = time.Minute
)

// pushStream carries out a stream of pushes, one on each line, and answers with
// a stream of results in the same order.
func pushStream(h *liveHub, w http.ResponseWriter, r *http.Request) error {
	control := http.NewResponseController(w)
	// The server's read timeout is meant for a whole body, and by default HTTP/1
	// reads no more of the body once the answer has begun.
	if err := control.EnableFullDuplex(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	results := make(chan func() []byte, streamDepth) // closed by readPushes
	go readPushes(ctx, h, r, control, results)
	return writeResults(w, control, results, cancel)
}

// readPushes starts each push of a stream, and hands on a function that waits
// for its result. It ends with the stream, or when ctx does.
func readPushes(ctx context.Context, h *liveHub, r *http.Request, control *http.ResponseController, results chan<- func() []byte) {
	defer close(results)
	lines := bufio.NewScanner(r.Body)
	lines.Buffer(nil, maxPushBody)
	for n := 1; ; n++ {
		_ = control.SetReadDeadline(time.Now().Add(streamIdle))
		if !lines.Scan() {
			break
		}
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			n--
			continue
		}
		select {
		case results <- startLine(ctx, h, n, line):
		case <-ctx.Done():
			return
		}
	}
	if err := lines.Err(); err != nil && ctx.Err() == nil {
		results <- func() []byte {
			return lineError(0, fmt.Errorf("%w: reading the stream: %w", presence.ErrPushInvalid, err))
		}
	}
}

// startLine starts the push of one line; what it returns waits for the result.
func startLine(ctx context.Context, h *liveHub, n int, line []byte) func() []byte {
	p, err := presence.DecodePush(line)
	if err != nil {
		return func() []byte { return lineError(n, err) }
	}
	d, err := h.Start(ctx, p)
	if err != nil {
		return func() []byte { return lineError(n, err) }
	}
	return func() []byte {
		result := d.Result(ctx)
		if p.Detached() {
			return mustJSON(accepted{result.ID, result.Matched})
		}
		return mustJSON(result)
	}
}

// lineError is the result of a line that was not carried out; line 0 stands for
// the stream as a whole, which then ends.
func lineError(n int, err error) []byte {
	status, text := statusOf(err)
	return mustJSON(struct {
		Error  string `json:"error"`
		Status int    `json:"status"`
		Line   int    `json:"line,omitempty"`
	}{text, status, n})
}

// writeResults writes results as they come, and flushes when no more are ready.
func writeResults(w http.ResponseWriter, control *http.ResponseController, results <-chan func() []byte, cancel func()) error {
	out := bufio.NewWriterSize(w, 16<<10)
	for result := range results {
		_, _ = out.Write(append(result(), '\n'))
		if len(results) > 0 {
			continue
		}
		if err := errors.Join(out.Flush(), control.Flush()); err != nil {
			cancel() // the caller is gone; readPushes ends
			for result := range results {
				result() // which keeps it under the push's id
			}
			return nil
		}
	}
	return nil
}
