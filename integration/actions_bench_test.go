package integration

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// BenchmarkActions compares actions with plain HTTP requests through the same
// Caddy to the same handlers: round trips, their times, and the CPU time of the
// Caddy process for each.
func BenchmarkActions(b *testing.B) {
	backend := StartBackend(b, nil)
	c := StartText(b, `{$SITE}
presence /ws {
	rate_limit 0 0
	action respond {
		respond {"n":1}
	}
	action proxy {
		reverse_proxy `+backend.Addr+`
	}
}
respond /respond {"n":1}
reverse_proxy /proxy `+backend.Addr+`
`)
	const clients = 16
	for _, handler := range []string{"respond", "proxy"} {
		frame := fmt.Sprintf(`{"action":%q,"ref":1,"from":"Station","to":"Airport"}`, handler)
		b.Run(handler+"/http", func(b *testing.B) {
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
			defer client.CloseIdleConnections()
			c.measure(b, clients, func(int) {
				res, err := client.Post(c.URL+"/"+handler, "application/json", strings.NewReader(frame))
				if err == nil {
					_, err = io.Copy(io.Discard, res.Body)
					_ = res.Body.Close()
				}
				if err != nil {
					b.Error(err)
				}
			})
		})
		b.Run(handler+"/action", func(b *testing.B) {
			conns := make([]*Client, clients)
			for i := range conns {
				conns[i] = c.Dial("/ws")
			}
			c.measure(b, clients, func(i int) {
				conns[i].Send(frame)
				conns[i].Expect(`{"action":"reply","ref":1,"ok":true,"data":{"n":1}}`)
			})
			for _, conn := range conns {
				conn.Cut()
			}
		})
	}
}

// measure makes round trips from a number of clients at once.
func (c *Caddy) measure(b *testing.B, clients int, trip func(client int)) {
	times := make([][]time.Duration, clients)
	var wg sync.WaitGroup
	before := c.cpu()
	b.ResetTimer()
	for i := range clients {
		wg.Go(func() {
			for n := i; n < b.N; n += clients {
				start := time.Now()
				trip(i)
				times[i] = append(times[i], time.Since(start))
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	all := slices.Concat(times...)
	slices.Sort(all)
	b.ReportMetric(float64((c.cpu()-before).Nanoseconds())/float64(b.N), "caddy-cpu-ns/op")
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
}

// cpu is how much CPU time the process has used.
func (c *Caddy) cpu() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.PID()))
	if err != nil {
		c.t.Fatal(err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const utime, stime, tick = 11, 12, 10 * time.Millisecond // proc(5), from the third field on
	user, _ := strconv.Atoi(fields[utime])
	system, _ := strconv.Atoi(fields[stime])
	return time.Duration(user+system) * tick
}
