package main

import (
	"bufio"
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// clients are the open connections. Each has a goroutine that reads messages, and
// throws them away but for their number and time.
type clients struct {
	options
	all  []net.Conn
	base used // what the server used before the first client came

	received counter // pushed messages
	pongs    counter

	timing atomic.Pointer[arrivals] // where times of messages are kept, or nil
}

// gently is how many clients connect at once when they are not a storm.
const gently = 64

// warmUp opens some connections and closes them, so that what a server needs once
// is not counted as that of a connection.
func (cs *clients) warmUp() error {
	all := cs.conns
	cs.conns = min(all, 200)
	_, err := cs.connectAll(gently)
	cs.close()
	cs.conns = all
	settle(cs.pids)
	cs.base = usage(cs.pids)
	return err
}

// connectAll connects and opens all clients, so many at once, and says how many
// failed, and the first error.
func (cs *clients) connectAll(atOnce int) (failed int, first error) {
	cs.all = make([]net.Conn, cs.conns)
	errs := make([]error, cs.conns)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(atOnce, cs.conns) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(cs.conns); i = next.Add(1) - 1 {
				cs.all[i], errs[i] = cs.connect(int(i))
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			failed++
			first = cmp.Or(first, err)
		}
	}
	return failed, first
}

// patience is how long a client waits for anything.
const patience = 20 * time.Second

// dialer takes one of several source addresses, so that neither ports run out, nor
// a limit by address is met.
func dialer(i int) *net.Dialer {
	const addresses = 100
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%addresses))}, Timeout: patience, KeepAlive: -1}
}

// connect opens a client's connection, and puts its user online.
func (cs *clients) connect(i int) (net.Conn, error) {
	to := cs.urls[i%len(cs.urls)]
	conn, err := dialer(i).Dial("tcp", to.Host)
	if err != nil {
		return nil, err
	}
	if to.Scheme == "wss" {
		// The certificate is one that the server made for itself.
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReaderSize(conn, 512)
	if err := cs.open(conn, r, to, i); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("client %d: %w", i, err)
	}
	_ = conn.SetDeadline(time.Time{})
	go cs.read(conn, r)
	return conn, nil
}

func (cs *clients) open(conn net.Conn, r *bufio.Reader, to *url.URL, i int) error {
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", to.RequestURI(), to.Host); err != nil {
		return err
	}
	status, err := r.ReadString('\n')
	if err != nil || !strings.Contains(status, " 101 ") {
		return errors.Join(fmt.Errorf("the handshake is answered %q", status), err)
	}
	for line := status; line != "\r\n"; {
		if line, err = r.ReadString('\n'); err != nil {
			return err
		}
	}
	if _, err := conn.Write(frame(opText, []byte(cs.codec.open(i)))); err != nil {
		return err
	}
	_, message, err := readFrame(r, nil)
	if err == nil && !cs.codec.opened(message) {
		err = fmt.Errorf("the open frame is answered %q", message)
	}
	return err
}

// read counts what comes, until the connection ends.
func (cs *clients) read(conn net.Conn, r *bufio.Reader) {
	var buf []byte
	for {
		opcode, message, err := readFrame(r, buf)
		if err != nil || opcode == opClose {
			return
		}
		switch opcode {
		case opText:
			cs.count(message)
			if answer := cs.codec.answer(message); answer != "" {
				_, _ = conn.Write(frame(opText, []byte(answer)))
			}
		case opPing:
			_, _ = conn.Write(frame(opPong, message))
		}
		buf = message
	}
}

func (cs *clients) count(message []byte) {
	marks := findMarks(message)
	if len(marks) == 0 {
		cs.pongs.add(cs.codec.pongs(message))
		return
	}
	if timing := cs.timing.Load(); timing != nil {
		timing.arrived(marks)
	}
	cs.received.add(len(marks))
}

// close ends all connections.
func (cs *clients) close() {
	for _, conn := range cs.all {
		if conn != nil {
			_ = conn.Close()
		}
	}
	cs.all = nil
}

// perConn is memory beyond what the server had without clients, in KiB for each.
func (cs *clients) perConn(rss int64) float64 {
	return float64(rss-cs.base.rss) / 1024 / float64(cs.conns)
}

// memory fills in what a connection takes now.
func (cs *clients) memory(r *result) {
	now := usage(cs.pids)
	r.KiBPerConn = cs.perConn(now.rss)
	if len(now.each) > 1 {
		for i := range now.each {
			r.KiBOfEach = append(r.KiBOfEach, float64(now.each[i]-cs.base.each[i])/1024/float64(cs.conns))
		}
	}
}
