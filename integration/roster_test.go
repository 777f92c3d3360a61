package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// expectPresence waits until each node, and Redis, has exactly these users, each
// with so many connections.
func expectPresence(t *testing.T, want func() map[string]int, server redis.UniversalClient, nodes ...*Caddy) {
	t.Helper()
	wrong := ""
	Eventually(t, func() bool {
		users := want()
		wrong = ""
		for i, node := range nodes {
			if problem := node.compare(users); problem != "" {
				wrong = fmt.Sprintf("node %d: %s", i, problem)
				return false
			}
		}
		wrong = compareRedis(t.Context(), server, users)
		return wrong == ""
	}, func() string { return wrong })
}

// compare says what differs between the users that the API lists and counts and
// those that it should.
func (c *Caddy) compare(want map[string]int) string {
	got := make(map[string]int)
	for cursor := ""; ; {
		status, answer := c.Call(http.MethodGet, "/presence/members?limit=1000&cursor="+cursor, "")
		var page struct {
			Members []struct {
				ID    string
				Conns []json.RawMessage
			}
			Next string
		}
		if err := json.Unmarshal([]byte(answer), &page); err != nil || status != http.StatusOK {
			return fmt.Sprintf("listing: %d %s", status, answer)
		}
		for _, m := range page.Members {
			if _, twice := got[m.ID]; twice {
				return "it lists twice: " + m.ID
			}
			got[m.ID] = len(m.Conns)
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if problem := difference(got, want); problem != "" {
		return problem
	}
	if n := c.memberCount(); n != len(want) {
		return fmt.Sprintf("it counts %d users, want %d", n, len(want))
	}
	return ""
}

// difference says which users have other connections than they should.
func difference(got, want map[string]int) string {
	if maps.Equal(got, want) {
		return ""
	}
	const most = 10
	list := []string{fmt.Sprintf("%d users, want %d", len(got), len(want))}
	all := maps.Clone(got)
	maps.Copy(all, want)
	for id := range all {
		if got[id] != want[id] && len(list) < most {
			list = append(list, fmt.Sprintf("user %s has %d connections, want %d", id, got[id], want[id]))
		}
	}
	return strings.Join(list, "; ")
}

// compareRedis says what differs between the records and counts in Redis and what
// they should be.
func compareRedis(ctx context.Context, server redis.UniversalClient, want map[string]int) string {
	users, conns := 0, 0
	for p := range 64 {
		key := fmt.Sprintf("presence:{p%d}:", p)
		n, err := server.HLen(ctx, key+"u").Result()
		if err != nil {
			return err.Error()
		}
		users += int(n)
		counts, err := server.HGetAll(ctx, key+"m").Result()
		if err != nil {
			return err.Error()
		}
		for field, value := range counts {
			if strings.HasPrefix(field, "n:") {
				_, _ = fmt.Sscan(value, &n)
				conns += int(n)
			}
		}
	}
	open := 0
	for _, n := range want {
		open += n
	}
	if users != len(want) || conns != open {
		return fmt.Sprintf("redis has %d users with %d connections, want %d and %d", users, conns, len(want), open)
	}
	return ""
}
