package caddypresence

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

const (
	// streamDepth is how many pushes of a stream may be under way at once. The
	// messages themselves go out one push after the other, in the order of the
	// lines.
	streamDepth = 256

	// streamBatch is how many of those that have arrived are looked up together.
	streamBatch = 64

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
	_ = control.Flush() // some callers send nothing before the answer has begun
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go endWithHub(ctx, h, control)
	results := make(chan func() []byte, streamDepth) // closed by readPushes
	go readPushes(ctx, h, r, control, results)
	return writeResults(w, control, results, cancel)
}

// endWithHub ends the reading of a stream when its hub does: a stream that goes on
// and on must not hold up the stop of Caddy.
func endWithHub(ctx context.Context, h *liveHub, control *http.ResponseController) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if h.ends() { // again and again: a line that comes gives more time
				_ = control.SetReadDeadline(time.Now())
			}
		}
	}
}

// readPushes starts each push of a stream, and hands on a function that waits
// for its result. It ends with the stream, or when ctx does.
func readPushes(ctx context.Context, h *liveHub, r *http.Request, control *http.ResponseController, results chan<- func() []byte) {
	defer close(results)
	in := bufio.NewReaderSize(r.Body, 64<<10)
	var err error
	for n := 1; err == nil && !h.ends(); {
		var lines []pushLine
		for len(lines) == 0 || len(lines) < streamBatch && lineWaits(in) {
			_ = control.SetReadDeadline(time.Now().Add(streamIdle))
			var line []byte
			if line, err = readLine(in); len(line) > 0 {
				lines = append(lines, pushLine{n: n})
				lines[len(lines)-1].decode(line)
				n++
			}
			if err != nil {
				break
			}
		}
		for _, result := range startLines(ctx, h, lines) {
			select {
			case results <- result:
			case <-ctx.Done():
				return
			}
		}
	}
	if h.ends() {
		err = apiErrorf(http.StatusServiceUnavailable, "this node is stopping: go on at another")
		results <- func() []byte { return lineError(0, err) }
		return
	}
	if err != io.EOF && ctx.Err() == nil {
		results <- func() []byte {
			return lineError(0, fmt.Errorf("%w: reading the stream: %w", presence.ErrPushInvalid, err))
		}
	}
}

// lineWaits reports whether a whole line has arrived.
func lineWaits(in *bufio.Reader) bool {
	waiting, _ := in.Peek(in.Buffered())
	return bytes.IndexByte(waiting, '\n') >= 0
}

// readLine returns the next line, without white space around it. The last one comes
// with an error.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxPushBody {
			return nil, bufio.ErrTooLong
		}
		if err != bufio.ErrBufferFull {
			return bytes.TrimSpace(line), err
		}
	}
}

// pushLine is one line of a stream.
type pushLine struct {
	n    int
	push *presence.Push
	err  error
}

func (l *pushLine) decode(line []byte) { l.push, l.err = presence.DecodePush(line) }

// startLines starts the pushes of lines; what it returns waits for each result.
func startLines(ctx context.Context, h *liveHub, lines []pushLine) []func() []byte {
	var pushes []*presence.Push
	for _, l := range lines {
		if l.err == nil {
			pushes = append(pushes, l.push)
		}
	}
	started := h.StartAll(ctx, pushes)
	results := make([]func() []byte, len(lines))
	for i, l := range lines {
		var d *presence.Delivery
		if l.err == nil {
			d, l.err = started[0].Delivery, started[0].Err
			started = started[1:]
		}
		results[i] = func() []byte {
			if l.err != nil {
				return lineError(l.n, l.err)
			}
			result := d.Result(ctx)
			if l.push.Detached() {
				return mustJSON(accepted{result.ID, result.Matched})
			}
			return mustJSON(result)
		}
	}
	return results
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
