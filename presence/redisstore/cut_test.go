package redisstore_test

import (
	"bytes"
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/presence"
	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore"
	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore/redistest"
)

// cutter is a proxy before a server that cuts connections when an answer is due.
type cutter struct {
	net.Listener
	target string
	at     atomic.Pointer[[]byte] // the next request that has this in it loses its answer
	cuts   atomic.Int32
}

func startCutter(t *testing.T, target string) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	c := &cutter{Listener: l, target: target}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go c.carry(client)
		}
	}()
	return c
}

func (c *cutter) carry(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", c.target)
	if err != nil {
		return
	}
	defer server.Close()
	var due atomic.Bool
	go func() {
		pass(server, client, func(request []byte) bool {
			if at := c.at.Load(); at != nil && bytes.Contains(request, *at) && c.at.CompareAndSwap(at, nil) {
				due.Store(true)
			}
			return true
		})
		_ = server.Close()
	}()
	pass(client, server, func([]byte) bool {
		if due.Load() {
			c.cuts.Add(1)
			return false
		}
		return true
	})
}

// pass copies until either end closes, or may says that it should not.
func pass(to, from net.Conn, may func([]byte) bool) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil || !may(buf[:n]) {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// TestAnswersLost loses the answers to calls that were carried out: a push is still
// claimed and its result kept, once, and what is read is read again.
func TestAnswersLost(t *testing.T) {
	server := redistest.Start(t)
	proxy := startCutter(t, server.Addr)
	s := open(t, redisstore.Config{URLs: []string{"redis://" + proxy.Addr().String()}})
	t.Cleanup(func() { _ = s.Shutdown(context.Background()) })
	ctx := t.Context()
	member := &presence.Member{ID: "seven", JSON: []byte(`{"id":"seven"}`)}
	req := presence.OpenRequest{Hub: "default", Conn: presence.ConnID{Node: s.Node(), Num: 1}, Member: member, Max: 1}
	if _, err := s.Open(ctx, req); err != nil {
		t.Fatal(err)
	}
	lose := func(text string) {
		b := []byte(text)
		proxy.at.Store(&b)
	}
	lose("thekey")
	claim, err := s.Claim(ctx, "default", "thekey", "digest", time.Minute)
	if err != nil || claim.State != presence.ClaimNew {
		t.Errorf("claiming: %+v, %v", claim, err)
	}
	lose("theresult")
	if err := s.Settle(ctx, "default", "thekey", "digest", []byte("theresult"), time.Minute); err != nil {
		t.Errorf("settling: %v", err)
	}
	claim, err = s.Claim(ctx, "default", "thekey", "digest", time.Minute)
	if err != nil || claim.State != presence.ClaimDone || string(claim.Result) != "theresult" {
		t.Errorf("claiming again: %+v, %v", claim, err)
	}
	lose("seven")
	if users, err := s.Lookup(ctx, "default", []presence.UserID{"seven"}); err != nil || len(users) != 1 {
		t.Errorf("looking up: %+v, %v", users, err)
	}
	lose("seven")
	if users, err := s.Lookup(ctx, "default", []presence.UserID{"seven", "eight"}); err != nil || len(users) != 1 {
		t.Errorf("looking two up: %+v, %v", users, err)
	}
	if n := proxy.cuts.Load(); n != 4 {
		t.Errorf("%d answers were lost, want 4", n)
	}
}
