package socket

// position follows the frames of a stream of bytes (RFC 6455, section 5.2), to
// tell where one message has ended and the next has not begun: only there can a
// reader be parked. It judges nothing; that is the library's part.
type position struct {
	head [14]byte // of the frame, as far as it has come
	n    uint8    // how much of head
	open bool     // in a message of several frames, between two of them
	left uint64   // bytes of payload to come
}

// atRest reports whether no message has begun.
func (p *position) atRest() bool { return p.n == 0 && p.left == 0 && !p.open }

// advance takes note of bytes that were read.
func (p *position) advance(b []byte) {
	for len(b) > 0 {
		if p.left > 0 {
			k := min(p.left, uint64(len(b)))
			p.left -= k
			b = b[k:]
			continue
		}
		p.head[p.n] = b[0]
		p.n++
		b = b[1:]
		if p.n >= 2 && int(p.n) == p.headSize() {
			p.begin()
		}
	}
}

// headSize is how long the header is, of which two bytes are there.
func (p *position) headSize() int {
	size := 2
	switch p.head[1] & 0x7f {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	if p.head[1]&0x80 != 0 {
		size += 4 // the mask
	}
	return size
}

// begin reads a header that is complete.
func (p *position) begin() {
	p.left = uint64(p.head[1] & 0x7f)
	extended := 0
	switch p.left {
	case 126:
		extended = 2
	case 127:
		extended = 8
	}
	if extended > 0 {
		p.left = 0
		for _, b := range p.head[2 : 2+extended] {
			p.left = p.left<<8 | uint64(b)
		}
	}
	if control := p.head[0]&0x8 != 0; !control {
		p.open = p.head[0]&0x80 == 0
	}
	p.n = 0
}
