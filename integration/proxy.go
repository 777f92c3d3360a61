package integration

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Proxy is a TCP proxy before a server that behaves as bad networks do.
type Proxy struct {
	Addr string // where clients connect

	t      testing.TB
	target string
	l      net.Listener

	mu      sync.Mutex // guards the fields below
	change  *sync.Cond // on mu: silent has changed
	silent  bool
	refuses bool
	closed  bool
	conns   map[net.Conn]struct{} // that are carried
	dead    []net.Conn            // that are forgotten
	total   int
}

// StartProxy starts a proxy before an address; it ends with the test.
func StartProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Addr: l.Addr().String(), t: t, target: target, l: l, conns: make(map[net.Conn]struct{})}
	p.change = sync.NewCond(&p.mu)
	go p.accept()
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		p.closed = true
		for _, c := range p.dead {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.Cut()
	})
	return p
}

// SetSilent makes the network lose everything, without a word to anybody, or
// makes it whole again for new connections; those that lived through a silence
// stay dead, as behind a NAT that has forgotten them.
func (p *Proxy) SetSilent(silent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = silent
	if silent {
		for c := range p.conns {
			p.dead = append(p.dead, c)
		}
		p.conns = make(map[net.Conn]struct{})
	}
	p.change.Broadcast()
}

// Cut closes all connections.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
	p.conns = make(map[net.Conn]struct{})
	p.change.Broadcast()
}

// SetRefuse makes the proxy reset all connections, those that are there and those
// that come, or carry new ones again.
func (p *Proxy) SetRefuse(refuse bool) {
	p.mu.Lock()
	p.refuses = refuse
	p.mu.Unlock()
	if refuse {
		p.Cut()
	}
}

// Connections returns how many connections there are, and have been.
func (p *Proxy) Connections() (now, total int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns) / 2, p.total
}

func (p *Proxy) accept() {
	for {
		client, err := p.l.Accept()
		if err != nil {
			return
		}
		go p.serve(client)
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer client.Close()
	p.mu.Lock()
	for p.silent && !p.closed {
		p.change.Wait() // a handshake into a dead network gets no answer
	}
	p.total++
	refuses := p.refuses
	p.mu.Unlock()
	if refuses {
		_ = client.(*net.TCPConn).SetLinger(0)
		return
	}
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	p.mu.Lock()
	if p.silent || p.refuses { // since we looked
		p.mu.Unlock()
		return
	}
	p.conns[client], p.conns[server] = struct{}{}, struct{}{}
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.pipe(server, client) })
	both.Go(func() { p.pipe(client, server) })
	both.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, client)
	delete(p.conns, server)
}

// pipe copies until either end closes, which it tells the other, or until the
// connection is forgotten: from then on it swallows.
func (p *Proxy) pipe(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		_, known := p.conns[from]
		p.mu.Unlock()
		if !known {
			if err != nil {
				return
			}
			continue
		}
		if n > 0 {
			_, _ = to.Write(buf[:n])
		}
		if err != nil {
			if half, ok := to.(*net.TCPConn); ok && err == io.EOF {
				_ = half.CloseWrite()
			} else {
				_ = to.Close()
			}
			return
		}
	}
}
