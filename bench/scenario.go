package main

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"sync"
	"time"
)

// scenarios are what can be done with connections that are open.
var scenarios = map[string]func(*clients) (result, error){
	"idle":       idle,
	"heartbeat":  func(cs *clients) (result, error) { return heartbeat(cs, min(64, len(cs.all))) },
	"pingburst":  func(cs *clients) (result, error) { return heartbeat(cs, len(cs.all)) },
	"broadcast":  func(cs *clients) (result, error) { return broadcast(cs, 1) },
	"broadcast4": func(cs *clients) (result, error) { return broadcast(cs, 4) },
	"push":       pushClosedLoop,
	"pushrate":   pushFixedRate,
	"stream":     pushStream,
	"storm":      storm,
	"reconnect":  reconnect,
}

// connect opens all connections, a few at a time; an op is one of them.
func connect(cs *clients) (result, error) {
	began := time.Now()
	if _, err := cs.connectAll(gently); err != nil {
		return result{}, err
	}
	r := result{Ops: cs.conns, ElapsedSeconds: time.Since(began).Seconds()}
	settle(cs.pids)
	cs.memory(&r)
	return r, nil
}

// idle does nothing: what the server uses is for its own upkeep. It must be long
// enough for a server to have tidied up behind those who came.
func idle(cs *clients) (result, error) {
	time.Sleep(cs.idle)
	var r result
	cs.memory(&r)
	return r, nil
}

// heartbeat sends a ping on one connection after the other, so many under way, and
// waits for the pongs; the latency is that of the last pong of those.
func heartbeat(cs *clients, underWay int) (result, error) {
	const (
		writers = 16
		most    = 30 // pings of a client: this module limits how often it may say one
	)
	ping := frame(opText, []byte(cs.codec.ping()))
	var r result
	var times []time.Duration
	for began, next := time.Now(), 0; r.Ops < most*len(cs.all) && time.Since(began) < cs.time && r.Lost == 0; next += underWay {
		sent, await := time.Now(), cs.pongs.expect(underWay)
		var wg sync.WaitGroup
		for w := range min(writers, underWay) {
			wg.Go(func() {
				for i := w; i < underWay; i += writers {
					_, _ = cs.all[(next+i)%len(cs.all)].Write(ping)
				}
			})
		}
		wg.Wait()
		at, missing := await()
		r.Ops, r.Lost = r.Ops+underWay, missing
		times = append(times, at.Sub(sent))
	}
	r.spread(times)
	return r, nil
}

// broadcast pushes to all, so many pushes at once, and the next when all have come;
// an op is a delivery, the latency that of the last.
func broadcast(cs *clients, atOnce int) (result, error) {
	body := fmt.Sprintf(`{"to":{"all":true},"text":%q}`, text(0, cs.size))
	var r result
	var rounds []time.Duration
	for began := time.Now(); time.Since(began) < cs.time && r.Lost == 0; {
		sent, await := time.Now(), cs.received.expect(atOnce*len(cs.all))
		errs := make([]error, atOnce)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() { errs[i] = cs.post("application/json", bytes.NewReader([]byte(body))) })
		}
		wg.Wait()
		for _, err := range errs {
			if err != nil {
				return r, err
			}
		}
		at, missing := await()
		r.Ops, r.Lost = r.Ops+atOnce*len(cs.all), missing
		rounds = append(rounds, at.Sub(sent))
	}
	r.spread(rounds)
	return r, nil
}

// poster keeps as many connections as there are callers, as a backend does.
var poster = &http.Client{
	Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
	Timeout:   maxTime + patience,
}

// post makes a push, and wants it to be accepted.
func (cs *clients) post(contentType string, body io.Reader) error {
	res, err := poster.Post(cs.push+"/presence/push", contentType, body)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("a push is answered %s: %.200s", res.Status, answer)
	}
	return nil
}

// atOnce is how many clients connect at once in a storm: a little less than what a
// listener's backlog holds, beyond which the kernel's retries would be measured.
const atOnce = 4000

// storm has all clients come back at once, after the server has dropped them.
func storm(cs *clients) (result, error) {
	cs.close()
	settle(cs.pids)
	return comeBack(cs)
}

// reconnect has all clients come back at once, while the server still holds their
// broken connections.
func reconnect(cs *clients) (result, error) {
	cs.close()
	return comeBack(cs)
}

// comeBack connects all clients at once; an op is one of them, the time that until
// the last one is online, and the losses those who failed.
func comeBack(cs *clients) (result, error) {
	peak := watchPeak(cs.pids)
	began := time.Now()
	failed, err := cs.connectAll(atOnce)
	r := result{Ops: cs.conns, Lost: failed, ElapsedSeconds: time.Since(began).Seconds()}
	r.PeakKiB = cs.perConn(peak())
	if err != nil {
		log.Printf("%d clients failed, the first with: %v", failed, err)
	}
	settle(cs.pids)
	cs.memory(&r)
	return r, nil
}
