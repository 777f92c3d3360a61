package presence

import "sync"

// progress is up to where changes have been told, though they are told in any
// order.
type progress struct {
	mu    sync.Mutex // guards the fields below
	read  Position   // behind all that were started
	parts map[int][]*telling
	n     int    // how many are under way
	kept  string // the position that was saved last
	round int    // begin was called so often
}

// telling is a change that is under way, or was and waits for one before it.
type telling struct {
	before int64 // the place of the change before it
	done   bool
}

// begin forgets what is under way, and goes on from a position.
func (p *progress) begin(at Position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.read = Position{Epoch: at.Epoch, Seqs: append([]int64(nil), at.Seqs...)}
	p.parts, p.n, p.kept = make(map[int][]*telling), 0, at.String()
	p.round++
}

// start notes that a change is about to be told; what it returns is to be called
// when it is.
func (p *progress) start(ch Change) func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := &telling{before: p.read.Seqs[ch.Part]}
	p.read.Seqs[ch.Part] = ch.Seq
	p.parts[ch.Part] = append(p.parts[ch.Part], t)
	p.n++
	round := p.round
	return func() { p.finish(ch.Part, t, round) }
}

func (p *progress) finish(part int, t *telling, round int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if round != p.round || t.done {
		return
	}
	t.done = true
	p.n--
	under := p.parts[part]
	for len(under) > 0 && under[0].done {
		under = under[1:]
	}
	if len(under) == 0 {
		delete(p.parts, part)
		return
	}
	p.parts[part] = under
}

// position is up to where all changes are told, and whether that has moved since
// it was saved.
func (p *progress) position() (Position, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := Position{Epoch: p.read.Epoch, Seqs: append([]int64(nil), p.read.Seqs...)}
	for part, under := range p.parts {
		at.Seqs[part] = under[0].before
	}
	return at, at.String() != p.kept
}

func (p *progress) saved(at Position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kept = at.String()
}

// waiting is how many changes are under way.
func (p *progress) waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n
}
