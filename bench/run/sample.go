package main

import (
	"slices"
	"time"

	"github.com/seed-57c14f3c/caddy-presence/bench/stage"
)

// measurement is all that was measured in one go.
type measurement struct {
	Machine      stage.Machine
	Began        time.Time
	Took         time.Duration
	Conns        int
	Rounds       int
	ScenarioTime time.Duration
	Idle         time.Duration
	Samples      samples
	LeftOut      []string                      // servers that cannot run here, and why
	Profiles     map[string]map[string]float64 // by scenario, then part
	Others       float64                       // cores that other processes used meanwhile
}

// samples has the figures of each round, by server, and by scenario and field.
type samples map[string]map[string][]float64

func (s samples) add(server string, lines []stage.Line) {
	if s[server] == nil {
		s[server] = map[string][]float64{}
	}
	for _, l := range lines {
		for field, value := range l.Numbers {
			name := l.Scenario + "." + field
			s[server][name] = append(s[server][name], value)
		}
	}
}

// median is that of a server's figure; it is not a number if there is none.
func (s samples) median(server, figure string) float64 { return stage.Median(s[server][figure]) }

// sum adds up a server's figure over all scenarios and rounds.
func (s samples) sum(server, field string) (sum float64) {
	for name, values := range s[server] {
		if len(name) > len(field) && name[len(name)-len(field)-1:] == "."+field {
			for _, v := range values {
				sum += v
			}
		}
	}
	return sum
}

// spread is how far values lie apart, as a part of their median.
func spread(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	return (slices.Max(values) - slices.Min(values)) / stage.Median(values)
}
