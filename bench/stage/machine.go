package stage

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Machine is where it was measured.
type Machine struct {
	CPU        string
	Cores      int
	Memory     string
	Kernel     string
	Go, Node   string
	Source     string // the commit that was measured
	LoadBefore string
	LoadAfter  string
}

// Describe looks at this machine, and at what is measured.
func Describe() Machine {
	return Machine{
		CPU:    field("/proc/cpuinfo", "model name"),
		Cores:  runtime.NumCPU(),
		Memory: gibibytes(field("/proc/meminfo", "MemTotal")),
		Kernel: strings.TrimSpace(file("/proc/sys/kernel/osrelease")),
		Go:     runtime.Version(), Node: output("node", "--version"),
		Source:     output("git", "describe", "--always", "--dirty=, changed"),
		LoadBefore: Load(),
	}
}

// Load is the load average of the last minute.
func Load() string {
	average, _, _ := strings.Cut(file("/proc/loadavg"), " ")
	return average
}

// Busy is how long all cores have worked since the machine started.
func Busy() time.Duration {
	return parseBusy(file("/proc/stat"))
}

// parseBusy adds up the first line of /proc/stat, with what the machine's host took
// away (steal), without idle and iowait, and without guests, which are in user and
// nice already.
func parseBusy(stat string) time.Duration {
	line, _, _ := strings.Cut(stat, "\n")
	const clockTick = 10 * time.Millisecond
	var sum time.Duration
	for i, text := range strings.Fields(line) {
		ticks, err := strconv.ParseInt(text, 10, 64)
		if idle := i == 4 || i == 5; err == nil && !idle && i <= 8 {
			sum += time.Duration(ticks) * clockTick
		}
	}
	return sum
}

func file(name string) string {
	text, _ := os.ReadFile(name)
	return string(text)
}

// field returns what stands behind a name and a colon in a file of such lines.
func field(name, key string) string {
	for line := range strings.Lines(file(name)) {
		if k, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// gibibytes rounds a number of kB, as /proc/meminfo has it.
func gibibytes(text string) string {
	var kilobytes float64
	if _, err := fmt.Sscanf(text, "%f kB", &kilobytes); err != nil {
		return text
	}
	return fmt.Sprintf("%.0f GiB", kilobytes/(1<<20))
}

func output(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return "none"
	}
	return strings.TrimSpace(string(out))
}
