package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

var scenarios = map[string]func(options, *clients) (result, error){
	"idle":      idle,
	"heartbeat": heartbeat,
	"broadcast": broadcast,
	"push":      pushToOne,
	"stream":    pushStream,
}

// idle does nothing: what the server uses is for its own upkeep.
func idle(o options, _ *clients) (result, error) {
	time.Sleep(o.time)
	return result{}, nil
}

// heartbeat sends a ping on each connection, as often as the time allows, and
// waits for the pongs.
func heartbeat(o options, cs *clients) (result, error) {
	const workers = 16
	ping := frame("ping")
	before := cs.pongs.Load()
	sent := 0
	for began := time.Now(); time.Since(began) < o.time; {
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				for i := w; i < len(cs.all); i += workers {
					_, _ = cs.all[i].Write(ping)
				}
			})
		}
		wg.Wait()
		sent += len(cs.all)
		awaitCount(func() int64 { return cs.pongs.Load() - before }, sent)
	}
	return result{Ops: sent, Lost: sent - int(cs.pongs.Load()-before)}, nil
}

// awaitCount waits until a counter has reached a number, but not for ever.
func awaitCount(count func() int64, want int) {
	for until := time.Now().Add(10 * time.Second); count() < int64(want) && time.Now().Before(until); {
		time.Sleep(time.Millisecond)
	}
}

// broadcast pushes to all, one push after the other; an op is one delivery.
func broadcast(o options, cs *clients) (result, error) {
	body := []byte(`{"to":{"all":true},"text":"` + strings.Repeat("x", o.size) + `"}`)
	before := cs.received.Load()
	sent := 0
	for began := time.Now(); time.Since(began) < o.time; {
		if err := post(o, "application/json", bytes.NewReader(body)); err != nil {
			return result{}, err
		}
		sent += len(cs.all)
	}
	awaitCount(func() int64 { return cs.received.Load() - before }, sent)
	return result{Ops: sent, Lost: sent - int(cs.received.Load()-before)}, nil
}

func post(o options, contentType string, body io.Reader) error {
	res, err := http.Post(o.admin+"/presence/push", contentType, body)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d: %.200s, %w", res.StatusCode, answer, err)
	}
	return nil
}

// pushToOne pushes to one user after the other, by one POST each.
func pushToOne(o options, cs *clients) (result, error) {
	text := strings.Repeat("x", o.size)
	var latencies []time.Duration
	began := time.Now()
	for i := 0; time.Since(began) < o.time; i++ {
		c := cs.all[i*7919%len(cs.all)]
		arrived := c.expect()
		body, _ := json.Marshal(map[string]any{"to": map[string]any{"ids": []string{fmt.Sprintf("user%d", c.id)}}, "text": text})
		sent := time.Now()
		if err := post(o, "application/json", bytes.NewReader(body)); err != nil {
			return result{}, err
		}
		select {
		case at := <-arrived:
			latencies = append(latencies, at.Sub(sent))
		case <-time.After(5 * time.Second):
			return result{}, fmt.Errorf("push %d did not arrive", i)
		}
	}
	r := result{Ops: len(latencies)}
	slices.Sort(latencies)
	micros := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
	r.P50Micros, r.P99Micros = micros(latencies[len(latencies)/2]), micros(latencies[len(latencies)*99/100])
	r.MaxMicros = micros(latencies[len(latencies)-1])
	return r, nil
}

// pushStream pushes to one user after the other, in one ndjson stream.
func pushStream(o options, cs *clients) (result, error) {
	text := strings.Repeat("x", o.size)
	before := cs.received.Load()
	sent := 0
	r, w := io.Pipe()
	go func() {
		for began := time.Now(); time.Since(began) < o.time; sent++ {
			_, _ = fmt.Fprintf(w, `{"to":{"ids":["user%d"]},"text":"%s"}`+"\n", sent*7919%len(cs.all), text)
		}
		_ = w.Close()
	}()
	if err := post(o, "application/x-ndjson", r); err != nil {
		return result{}, err
	}
	awaitCount(func() int64 { return cs.received.Load() - before }, sent)
	return result{Ops: sent, Lost: sent - int(cs.received.Load()-before)}, nil
}
