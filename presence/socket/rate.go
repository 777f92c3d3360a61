package socket

import "time"

// rate is a token bucket. It is owned by the reader of its connection.
type rate struct {
	tokens float32
	last   ticks // when tokens was right

	since ticks // since when it has been over
	told  ticks // when the client was told last
	over  bool  // the limit has been passed, and the bucket not been half full since
	begun bool
}

type rateAnswer int

const (
	rateOK   rateAnswer = iota
	rateTell            // over: refuse, and say so
	rateTold            // over: refuse; the client was told less than a second ago
	rateOver            // over for fastTimeout: close
)

const (
	// freePing is how far apart text pings cost nothing.
	freePing = 500 * time.Millisecond

	// tellInterval is how often a client that is too fast is told so.
	tellInterval = time.Second
)

// take spends one token.
func (r *rate) take(t ticks, l *Limits) rateAnswer {
	if l.Rate <= 0 {
		return rateOK
	}
	burst := float32(max(l.Burst, 1))
	if !r.begun {
		r.begun, r.tokens = true, burst
	} else {
		r.tokens = min(burst, r.tokens+float32(t.since(r.last).Seconds())*float32(l.Rate))
	}
	r.last = t
	if r.over && r.tokens >= max(burst/2, 1) {
		r.over = false
	}
	if r.tokens >= 1 {
		r.tokens--
		return rateOK
	}
	switch {
	case !r.over:
		r.over, r.since, r.told = true, t, t
		return rateTell
	case t.since(r.since) >= fastTimeout:
		return rateOver
	case t.since(r.told) >= tellInterval:
		r.told = t
		return rateTell
	}
	return rateTold
}
