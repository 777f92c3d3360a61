package integration

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestStorm has 15,000 clients connect at once, lose their connections, and all
// come back at once: each is a member, once.
func TestStorm(t *testing.T) {
	c := StartText(t, "{\n\tpresence {\n\t\tgrace 1m\n\t\tdrain 100ms\n\t}\n}\n{$SITE}\npresence /ws {\n\tmax_unopened 0\n}\n")
	clients := stormSize(t)
	addr := strings.TrimPrefix(c.URL, "http://")
	idle := c.memory()
	for round := range 2 {
		began := time.Now()
		conns := storm(t, addr, clients)
		if t.Failed() {
			return
		}
		c.expectMembers(clients)
		peak := c.memory()
		t.Logf("round %d: %d clients online after %v, %d KiB of memory a connection",
			round+1, clients, time.Since(began).Round(time.Millisecond), (peak-idle)>>10/clients)
		if limit := idle + clients*(40<<10); peak > limit {
			t.Errorf("%d bytes of memory, more than %d", peak, limit)
		}
		for _, conn := range conns {
			_ = conn.(*net.TCPConn).SetLinger(0) // no farewell
			_ = conn.Close()
		}
	}
	Eventually(t, func() bool { return c.connections() == 0 }, func() string {
		return fmt.Sprintf("%d connections are left", c.connections())
	})
}

// stormSize is 15,000, or what this machine lets a process open.
func stormSize(t *testing.T) int {
	const clients, others = 15_000, 2000
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur < clients+others {
		t.Logf("a process may open %d descriptors", limit.Cur)
		return int(limit.Cur) - others
	}
	return clients
}

// storm connects and opens all clients at once.
func storm(t *testing.T, addr string, clients int) []net.Conn {
	conns := make([]net.Conn, clients)
	t.Cleanup(func() {
		for _, c := range conns {
			if c != nil {
				_ = c.Close()
			}
		}
	})
	var wg sync.WaitGroup
	for i := range conns {
		wg.Go(func() {
			conn, _, _, err := stormClient(addr, i, fmt.Sprintf(`{"action":"open","id":%d,"ref":1}`, i))
			if conns[i] = conn; err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	return conns
}

// stormClient is a client that costs next to nothing. It opens with a frame, and
// returns what its other frames are read from, and the reply. There are several source
// addresses, or ports would run out.
func stormClient(addr string, i int, open string) (net.Conn, *bufio.Reader, string, error) {
	const addresses = 8
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%addresses))}, Timeout: time.Minute}
	conn, err := dialer.Dial("tcp4", addr)
	if err != nil {
		return nil, nil, "", err
	}
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	_, err = fmt.Fprintf(conn, "GET /ws HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n%s%s", addr,
		[]byte{0x81, 0x80 | 126, byte(len(open) >> 8), byte(len(open)), 0, 0, 0, 0}, open)
	if err != nil {
		return conn, nil, "", err
	}
	r := bufio.NewReaderSize(conn, 512)
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		return conn, r, "", err
	}
	reply, err := stormFrame(r)
	if err == nil && (res.StatusCode != http.StatusSwitchingProtocols || !strings.Contains(reply, `"ok":true`)) {
		err = errors.New(res.Status + " " + reply)
	}
	return conn, r, reply, err
}

// stormFrame reads a frame of less than 64 KiB.
func stormFrame(r *bufio.Reader) (string, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:2]); err != nil {
		return "", err
	}
	size := int(head[1])
	if size == 126 {
		if _, err := io.ReadFull(r, head[2:]); err != nil {
			return "", err
		}
		size = int(head[2])<<8 | int(head[3])
	}
	frame := make([]byte, size)
	_, err := io.ReadFull(r, frame)
	return string(frame), err
}

// expectMembers wants so many members, each on one connection, by all that the API
// says.
func (c *Caddy) expectMembers(want int) {
	c.t.Helper()
	Eventually(c.t, func() bool { return c.connections() == want }, func() string {
		return fmt.Sprintf("%d connections, want %d", c.connections(), want)
	})
	if n := c.memberCount(); n != want {
		c.t.Fatalf("the count is %d, want %d", n, want)
	}
	seen := make(map[string]bool)
	for cursor := ""; ; {
		_, answer := c.Call(http.MethodGet, "/presence/members?limit=1000&cursor="+cursor, "")
		var page struct {
			Members []struct {
				ID string
			}
			Next string
		}
		if err := json.Unmarshal([]byte(answer), &page); err != nil {
			c.t.Fatal(err)
		}
		for _, m := range page.Members {
			if seen[m.ID] {
				c.t.Errorf("member %s is listed twice", m.ID)
			}
			seen[m.ID] = true
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if len(seen) != want {
		c.t.Errorf("%d members are listed, want %d", len(seen), want)
	}
}

// memberCount is how many users are online or lingering, as the API counts them.
func (c *Caddy) memberCount() int {
	c.t.Helper()
	status, answer := c.Call(http.MethodGet, "/presence/count", "")
	var count struct{ Count int }
	if err := json.Unmarshal([]byte(answer), &count); err != nil || status != http.StatusOK {
		return -1
	}
	return count.Count
}

// memory is the resident memory of the process in bytes.
func (c *Caddy) memory() int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", c.PID()))
	if err != nil {
		c.t.Fatal(err)
	}
	var size, resident int
	if _, err := fmt.Sscan(string(status), &size, &resident); err != nil {
		c.t.Fatal(err)
	}
	return resident * os.Getpagesize()
}
