package presence

import (
	"context"
	"errors"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"go.uber.org/zap"
)

// lines are the actions under way, in a line for each connection that has any:
// the first runs, the others wait. A connection without actions has nothing.
type lines struct {
	mu       sync.Mutex       // guards the fields below
	lines    map[uint64]*line // by the connection's number
	inFlight int              // actions that run or wait, also those that were given up and have not returned
}

type line struct {
	cancel  context.CancelFunc // of the action that runs; nil before it does
	waiting []*Action
	gone    bool // the connection has ended
}

// maxWaiting is how many actions of one connection may wait for the one that runs.
const maxWaiting = 16

// enter adds an action of a connection. It returns true if the action has to be
// started with runLine.
func (l *lines) enter(num uint64, act *Action, most int) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if most > 0 && l.inFlight >= most {
		return false, frameErrorf(ErrorTooFast, "too many actions are under way here; this one is not handled")
	}
	ln := l.lines[num]
	if ln != nil && len(ln.waiting) >= maxWaiting {
		return false, frameErrorf(ErrorTooFast, "%d actions of this connection are waiting; this one is not handled", maxWaiting)
	}
	l.inFlight++
	if ln != nil {
		ln.waiting = append(ln.waiting, act)
		return false, nil
	}
	if l.lines == nil {
		l.lines = make(map[uint64]*line)
	}
	l.lines[num] = new(line)
	return true, nil
}

// began notes how to cancel the action that runs. It returns false if the
// connection has ended.
func (l *lines) began(num uint64, cancel context.CancelFunc) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	ln := l.lines[num]
	ln.cancel = cancel
	return !ln.gone
}

// next returns the action that runs after the one that ran, or nil; the line is
// then gone.
func (l *lines) next(num uint64) *Action {
	l.mu.Lock()
	defer l.mu.Unlock()
	ln := l.lines[num]
	if len(ln.waiting) == 0 {
		delete(l.lines, num)
		return nil
	}
	act := ln.waiting[0]
	ln.waiting[0] = nil
	ln.waiting = ln.waiting[1:]
	ln.cancel = nil
	return act
}

// returned counts one action less.
func (l *lines) returned() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inFlight--
}

// leave cancels the actions of a connection that has ended.
func (l *lines) leave(num uint64) {
	l.mu.Lock()
	ln := l.lines[num]
	if ln == nil {
		l.mu.Unlock()
		return
	}
	l.inFlight -= len(ln.waiting)
	ln.waiting, ln.gone = nil, true
	cancel := ln.cancel
	l.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// count returns how many actions run or wait.
func (l *lines) count() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(l.inFlight)
}

// runLine carries out an action and those that wait behind it, until none does.
func (h *Hub) runLine(num uint64, act *Action) {
	for act != nil {
		act = h.runAction(num, act)
	}
}

// runAction carries out an action and returns the next, or nil if there is none
// or somebody else has taken over: a handler that does not return when its time
// is over must not hold up the connection.
func (h *Hub) runAction(num uint64, act *Action) *Action {
	ctx, cancel := actionContext(context.Background(), h.settings.Load().ActionTimeout)
	defer cancel()
	if !h.lines.began(num, cancel) {
		cancel()
	}
	stop := context.AfterFunc(ctx, func() {
		if act.finish() {
			h.actionEnded(ctx, act, ctx.Err())
			h.runLine(num, h.lines.next(num))
		}
	})
	err := h.doAction(ctx, act)
	stop()
	h.lines.returned()
	if !act.finish() {
		return nil
	}
	h.actionEnded(ctx, act, err)
	return h.lines.next(num)
}

func actionContext(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout)
}

// Guarded makes a panic of a handler an error.
func Guarded(fn func() error) (err error) {
	defer func() {
		if v := recover(); v != nil && v != http.ErrAbortHandler {
			err = &panicked{v, debug.Stack()}
		} else if v != nil {
			err = errors.New("the handler aborted its answer")
		}
	}()
	return fn()
}

// doAction gives an action to the handlers of the present settings, whatever
// they do.
func (h *Hub) doAction(ctx context.Context, act *Action) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for {
		s := h.settings.Load()
		if s.Actions == nil {
			return frameErrorf(ErrorUnknownAction, "no action %.64q here", act.Name)
		}
		err := Guarded(func() error { return s.Actions.Do(ctx, act) })
		// A reload may have come in between; twice the same are no reload.
		if !errors.Is(err, ErrActionsRetired) || h.settings.Load() == s {
			return err
		}
	}
}

// actionEnded tells the client and the log of an action that failed.
func (h *Hub) actionEnded(ctx context.Context, act *Action, err error) {
	if err == nil || errors.Is(ctx.Err(), context.Canceled) {
		return // answered; or nobody is there to be told
	}
	fe := actionError(ctx, err)
	h.Refuse(act.conn, act.Ref, fe)
	if fe.Code != ErrorBackendFailed {
		return
	}
	silent, ok := h.failures.pass(time.Now(), act.Name)
	if !ok {
		return
	}
	fields := []zap.Field{
		zap.String("hub", h.name), zap.String("action", act.Name), zap.Bool("binary", act.Binary),
		zap.Stringer("conn", act.Conn), zap.String("id", string(act.User)), zap.Error(err),
	}
	if silent > 0 {
		fields = append(fields, zap.Int("not_logged", silent))
	}
	var p *panicked
	if errors.As(err, &p) {
		fields = append(fields, zap.ByteString("stack", p.stack))
	}
	h.settings.Load().Log.Error("action failed", fields...)
}
