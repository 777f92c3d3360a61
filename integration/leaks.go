package integration

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// usage is what a process holds.
type usage struct {
	goroutines  int
	descriptors int
	stacks      string
}

// usage asks the process for its goroutines, and the system for its descriptors.
func (c *Caddy) usage() usage {
	var u usage
	res, err := http.Get(c.Admin + "/debug/pprof/goroutine?debug=1")
	if err != nil {
		return u
	}
	defer res.Body.Close()
	stacks, _ := io.ReadAll(res.Body)
	u.stacks = string(stacks)
	_, _ = fmt.Sscanf(u.stacks, "goroutine profile: total %d", &u.goroutines)
	entries, _ := os.ReadDir(filepath.Join("/proc", fmt.Sprint(c.PID()), "fd"))
	u.descriptors = len(entries)
	return u
}

// slack is how many goroutines and descriptors may come and go without anybody
// having leaked them: idle HTTP connections, Redis's pool, reloads.
const slack = 40

// checkLeaks wants a process whose clients have gone to hold what it held at its
// start.
func (c *Caddy) checkLeaks() {
	if c.ended() {
		return
	}
	http.DefaultClient.CloseIdleConnections()
	var u usage
	Eventually(c.t, func() bool {
		u = c.usage()
		return u.goroutines <= c.start.goroutines+slack && u.descriptors <= c.start.descriptors+slack &&
			!strings.Contains(u.stacks, "socket.(*Conn).read")
	}, func() string {
		return fmt.Sprintf("leaked: %d goroutines and %d descriptors, at the start %d and %d\n%s",
			u.goroutines, u.descriptors, c.start.goroutines, c.start.descriptors, u.stacks)
	})
}
