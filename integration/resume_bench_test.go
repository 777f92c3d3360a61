package integration

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore/redistest"
)

// BenchmarkResume compares pushes to an online user on a hub that keeps messages, and
// on one that does not: round trips, and the CPU time of the Caddy process for each.
func BenchmarkResume(b *testing.B) {
	redis := redistest.Start(b)
	const users = 16
	for _, store := range []string{"memory", "redis " + redis.URL()} {
		for _, option := range []string{"compression off", "resume"} {
			site := strings.NewReplacer("{$STORE}", store, "{$ON}", "rate_limit 0 0", "resume", option, "rate_limit 0 0\n", "").Replace(resumeSite)
			c := StartText(b, site)
			for _, to := range []string{"one", "all"} {
				b.Run(fmt.Sprintf("%s/%s/%s", strings.Fields(store)[0], strings.Fields(option)[0], to), func(b *testing.B) {
					clients := make([]*Client, users)
					for i := range clients {
						clients[i] = c.Dial("/ws")
						clients[i].Open(fmt.Sprintf(`"id":%d,"resume":true`, i))
					}
					c.measure(b, users, func(i int) {
						body := fmt.Sprintf(`{"to":{"ids":[%d]},"data":"%0200d"}`, i, 0)
						if to == "all" {
							body = fmt.Sprintf(`{"to":{"all":true},"data":"%0200d"}`, 0)
						}
						if status, answer := c.Call(http.MethodPost, "/presence/push", body); status != http.StatusOK {
							b.Errorf("%d %s", status, answer)
						}
					})
					for _, client := range clients {
						client.Cut()
					}
				})
			}
		}
	}
}
