package presence

import (
	"sync/atomic"
)

// Stats are a hub's own counters since it was made. They live as long as the
// hub, over reloads.
type Stats struct {
	connections atomic.Int64
	members     atomic.Int64
	opens       atomic.Int64
	frames      atomic.Int64
	pings       atomic.Int64
	actions     atomic.Int64
	told        atomic.Int64
	untold      atomic.Int64
	pushes      atomic.Int64
	sent        atomic.Int64
	resumed     atomic.Int64
	lost        atomic.Int64
	drops       [2]atomic.Int64 // in the order of DropReasons
	errors      counters[ErrorCode]
	closes      counters[CloseCode]
}

// StatsSnapshot is what the counters stood at.
type StatsSnapshot struct {
	Connections    int64                `json:"connections"`     // attached, open or not
	Members        int64                `json:"members"`         // open on this node
	Opens          int64                `json:"opens"`           // open frames carried out
	FramesReceived int64                `json:"frames_received"` // without pings
	Pings          int64                `json:"pings"`           // text heartbeats answered
	Actions        int64                `json:"actions"`         // frames given to actions
	ActionsNow     int64                `json:"actions_now"`     // of them, those that run or wait
	EventsTold     int64                `json:"events_told"`     // taken by whom they were told
	EventsGivenUp  int64                `json:"events_given_up"` // told in vain, or not at all
	Pushes         int64                `json:"pushes"`          // asked of this node
	Resumed        int64                `json:"resumed"`         // connections that got what they had missed
	NotRecovered   int64                `json:"not_recovered"`   // connections that were told that something is lost
	Sent           int64                `json:"sent"`            // pushes handed to a connection
	Dropped        map[DropReason]int64 `json:"dropped"`         // pushes given up, by reason
	Errors         map[ErrorCode]int64  `json:"errors"`          // error frames, by code
	Closed         map[CloseCode]int64  `json:"closed"`          // connections ended, by close code; 1006: without one
}

// Stats returns a snapshot of the counters.
func (h *Hub) Stats() StatsSnapshot {
	s := &h.stats
	return StatsSnapshot{
		Connections:    s.connections.Load(),
		Members:        s.members.Load(),
		Opens:          s.opens.Load(),
		FramesReceived: s.frames.Load(),
		Pings:          s.pings.Load(),
		Actions:        s.actions.Load(),
		ActionsNow:     h.lines.count(),
		EventsTold:     s.told.Load(),
		EventsGivenUp:  s.untold.Load(),
		Pushes:         s.pushes.Load(),
		Resumed:        s.resumed.Load(),
		NotRecovered:   s.lost.Load(),
		Sent:           s.sent.Load(),
		Dropped:        map[DropReason]int64{DropQueueFull: s.drops[0].Load(), DropClosed: s.drops[1].Load()},
		Errors:         s.errors.snapshot(),
		Closed:         s.closes.snapshot(),
	}
}

// CountClosed counts a connection that ended; code 1006 stands for an end
// without a close frame.
func (h *Hub) CountClosed(code CloseCode) { h.stats.closes.add(code) }

func (s *Stats) refused(code ErrorCode) { s.errors.add(code) }

// delivered counts what became of a push to one connection; one that is queued is
// counted when that is known.
func (s *Stats) delivered(out Outcome) {
	switch out {
	case Full:
		s.drops[0].Add(1)
	case Closed:
		s.drops[1].Add(1)
	case Sent:
		s.sent.Add(1)
	}
}
