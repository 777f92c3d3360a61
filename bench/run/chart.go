package main

import (
	"fmt"
	"math"
	"strings"

	"github.com/seed-57c14f3c/caddy-presence/bench/stage"
)

// panels are the parts of the chart: a figure each, with a bar for each server.
var panels = []column{
	{"Memory of an idle connection, KiB", idleKiB, 1},
	{"CPU of a heartbeat, µs", heartbeatCPU, 1},
	{"CPU of a broadcast's delivery, µs", broadcastCPU, 1},
	{"The same, four broadcasts under way, µs", broadcast4CPU, 1},
	{"CPU of a push to one, µs", pushCPU, 1},
	{"A storm of all clients, s", stormSeconds, 1},
}

// Sizes of the chart in pixels.
const (
	margin     = 20
	panelWidth = 460
	rowHeight  = 22
	barHeight  = 14
	labelWidth = 210
	barWidth   = 190
	perRow     = 2
)

// style gives the chart a background of its own, so that it can be read on any
// page, light or dark.
const style = `<style>
.page { fill: #ffffff } text { fill: #1f2328; font: 12px system-ui, sans-serif }
.title { font-weight: 600; font-size: 13px } .other { fill: #8c959f } .ours { fill: #1a7f37 }
@media (prefers-color-scheme: dark) {
.page { fill: #0d1117 } text { fill: #e6edf3 } .other { fill: #6e7681 } .ours { fill: #3fb950 }
}
</style>
`

// chart is an SVG of the medians.
func chart(m *measurement) string {
	var shown []server
	for _, s := range servers {
		if s.whole() && m.Samples[s.name] != nil {
			shown = append(shown, s)
		}
	}
	panelHeight := (len(shown)+1)*rowHeight + margin
	width := perRow*panelWidth + margin
	height := (len(panels)+perRow-1)/perRow*panelHeight + margin
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img">`+"\n", width, height, width, height)
	b.WriteString("<title>What connections and messages cost, by server: shorter bars are better</title>\n" + style)
	fmt.Fprintf(&b, `<rect class="page" width="%d" height="%d" rx="6"/>`+"\n", width, height)
	for i, p := range panels {
		panel(&b, m, shown, p, margin+i%perRow*panelWidth, margin+i/perRow*panelHeight)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// panel draws a figure of all servers, with its corner at x and y.
func panel(b *strings.Builder, m *measurement, shown []server, p column, x, y int) {
	longest := 0.0
	for _, s := range shown {
		if v := m.Samples.median(s.name, p.figure); !math.IsNaN(v) {
			longest = max(longest, v)
		}
	}
	fmt.Fprintf(b, `<text class="title" x="%d" y="%d">%s</text>`+"\n", x, y+12, p.title)
	for i, s := range shown {
		v := m.Samples.median(s.name, p.figure)
		class, length := "other", 0.0
		if s.name == ours {
			class = "ours"
		}
		if !math.IsNaN(v) && longest > 0 {
			length = max(1, v/longest*barWidth)
		}
		top := y + (i+1)*rowHeight
		fmt.Fprintf(b, `<text x="%d" y="%d">%s</text>`, x, top+11, strings.ReplaceAll(s.title, "`", ""))
		fmt.Fprintf(b, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d" rx="2"/>`, class, x+labelWidth, top, length, barHeight)
		fmt.Fprintf(b, `<text x="%.1f" y="%d">%s</text>`+"\n", float64(x+labelWidth)+length+6, top+11, stage.Number(v*p.scale))
	}
}
