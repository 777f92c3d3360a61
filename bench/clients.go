package main

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// clients are the open connections. Each has a goroutine that reads frames and
// throws them away but for their time.
type clients struct {
	all  []*client
	took time.Duration // to connect and open them all

	received atomic.Int64 // messages, without pongs
	pongs    atomic.Int64
}

type client struct {
	net.Conn
	id    int
	owner *clients

	mu   sync.Mutex // guards the field below
	want chan time.Time
}

// connectAll connects and opens o.conns clients, from several addresses, as many
// at once as a server should take.
func connectAll(o options) (*clients, error) {
	const atOnce = 64
	cs := &clients{all: make([]*client, o.conns)}
	began := time.Now()
	next := make(chan int)
	failed := make(chan error, atOnce)
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() {
			for i := range next {
				c, err := cs.connect(o, i)
				if err != nil {
					failed <- err
					return
				}
				cs.all[i] = c
			}
		})
	}
	var err error
	for i := range o.conns {
		select {
		case next <- i:
		case err = <-failed:
		}
		if err != nil {
			break
		}
	}
	close(next)
	wg.Wait()
	cs.took = time.Since(began)
	return cs, err
}

// dialer takes one of a few source addresses, so that ports do not run out.
func dialer(i int) *net.Dialer {
	const addresses = 8
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%addresses))}, Timeout: 10 * time.Second}
}

func (cs *clients) connect(o options, i int) (*client, error) {
	conn, err := dialer(i).Dial("tcp", o.url.Host)
	if err != nil {
		return nil, err
	}
	if o.tls {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, ServerName: o.url.Hostname()})
	}
	c := &client{Conn: conn, id: i, owner: cs}
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", o.url.RequestURI(), o.url.Host)
	if err != nil {
		return nil, err
	}
	r := bufio.NewReaderSize(conn, 512)
	status, err := r.ReadString('\n')
	if err != nil || !strings.Contains(status, "101") {
		return nil, fmt.Errorf("handshake %d: %q, %w", i, status, err)
	}
	for line := ""; line != "\r\n"; {
		if line, err = r.ReadString('\n'); err != nil {
			return nil, err
		}
	}
	if _, err := conn.Write(frame(fmt.Sprintf(`{"action":"open","id":"user%d","type":"driver","name":"User Name %d","phone":"+86138%08d","ref":1}`, i, i, i))); err != nil {
		return nil, err
	}
	if _, err := readFrame(r); err != nil {
		return nil, err
	}
	go c.read(r)
	return c, nil
}

func (c *client) read(r *bufio.Reader) {
	for {
		text, err := readFrame(r)
		if err != nil {
			return
		}
		if text == "pong" {
			c.owner.pongs.Add(1)
		} else {
			c.owner.received.Add(1)
		}
		c.mu.Lock()
		want := c.want
		c.mu.Unlock()
		if want != nil {
			want <- time.Now()
		}
	}
}

// expect makes a channel that is told the time of each message.
func (c *client) expect() chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.want = make(chan time.Time, 1024)
	return c.want
}

func (cs *clients) close() {
	for _, c := range cs.all {
		if c != nil {
			_ = c.Close()
		}
	}
}

// frame is a masked text frame, with a mask of zeros: what masking costs the
// client is not what is measured.
func frame(text string) []byte {
	b := []byte{0x81}
	if len(text) < 126 {
		b = append(b, 0x80|byte(len(text)))
	} else {
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(len(text)))
	}
	return append(append(b, 0, 0, 0, 0), text...)
}

// readFrame reads one text frame, and answers nothing: protocol pings are passed
// over, so runs must be shorter than the server's patience.
func readFrame(r *bufio.Reader) (string, error) {
	for {
		var head [2]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return "", err
		}
		n := int(head[1])
		if n == 126 {
			var b [2]byte
			if _, err := io.ReadFull(r, b[:]); err != nil {
				return "", err
			}
			n = int(binary.BigEndian.Uint16(b[:]))
		}
		if head[0] != 0x81 || n > 4 {
			if _, err := r.Discard(n); err != nil {
				return "", err
			}
			if head[0] == 0x81 {
				return "", nil
			}
			continue
		}
		buf := make([]byte, n)
		if _, err := io.ReadFull(r, buf); err != nil {
			return "", err
		}
		return string(buf), nil
	}
}
