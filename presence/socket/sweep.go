package socket

import (
	"time"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// sweep judges all connections of the server at intervals: no timer, and no
// goroutine, belongs to a single one.
func (s *Server) sweep() {
	timer := time.NewTimer(s.Limits().sweepInterval())
	defer timer.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-timer.C:
		}
		l, t := s.Limits(), now()
		trim(t)
		s.hub.Range(func(c presence.Conn) bool {
			c.(*Conn).judge(t, l)
			return true
		})
		timer.Reset(s.Limits().sweepInterval())
	}
}

// sweepInterval is a second, or less if a limit needs it to be kept well.
func (l *Limits) sweepInterval() time.Duration {
	shortest := 8 * time.Second
	for _, d := range []time.Duration{l.PingInterval, l.PongTimeout, l.IdleTimeout, l.OpenTimeout} {
		if d > 0 {
			shortest = min(shortest, d)
		}
	}
	return max(shortest/8, 10*time.Millisecond)
}

// judge closes the connection if it shows no sign of life, is not open in time,
// or does not read, and pings it if it has been silent.
func (c *Conn) judge(t ticks, l *Limits) {
	if c.isClosing() {
		return
	}
	if since, full := c.fullSince(); full && t.since(since) >= fullTimeout {
		c.end(presence.CloseSlowConsumer, "the client does not read", presence.CauseLost)
		return
	}
	if l.OpenTimeout > 0 && !c.attachment.Opened() && t.since(c.began) >= l.OpenTimeout {
		c.end(presence.CloseNotOpened, "no open frame in time", presence.CauseLost)
		return
	}
	if at := c.expires.Load(); at != 0 && time.Now().UnixMilli() >= at {
		c.end(presence.CloseIDExpired, "the identity has expired", presence.CauseExpired)
		return
	}
	if idle := c.idleTimeout(l); idle > 0 && t.since(ticks(c.lastData.Load())) >= idle {
		c.end(presence.CloseNoLife, "no message from the app", presence.CauseTimeout)
		return
	}
	c.judgeLink(t, l)
}

// idleTimeout is how long the app may send nothing.
func (c *Conn) idleTimeout(l *Limits) time.Duration {
	if beat := c.attachment.Beat(); beat >= 0 {
		return beatsMissed * beat
	}
	return l.IdleTimeout
}

func (c *Conn) judgeLink(t ticks, l *Limits) {
	if l.PingInterval <= 0 {
		return
	}
	last := ticks(c.lastRead.Load())
	if c.pinged && int32(last-c.pingedAt) >= 0 {
		c.pinged = false // something came since
	}
	switch {
	case c.pinged && c.beats.Load() && !c.answering.Load():
		// Its library does not answer pings: the beats of the app must do.
	case c.pinged && t.since(c.pingedAt) >= l.PongTimeout:
		c.end(presence.CloseNoLife, "no answer to a ping", presence.CauseTimeout)
	case !c.pinged && t.since(last) >= l.PingInterval:
		c.pinged, c.pingedAt = true, t
		c.sendPing()
	}
}
