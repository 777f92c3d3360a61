package stage

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Line is what the load generator prints for a scenario.
type Line struct {
	Scenario string
	Numbers  map[string]float64
}

// ParseLines reads such lines.
func ParseLines(out []byte) ([]Line, error) {
	var lines []Line
	for text := range bytes.Lines(out) {
		var fields map[string]any
		if err := json.Unmarshal(text, &fields); err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		l := Line{Numbers: map[string]float64{}}
		for name, value := range fields {
			switch value := value.(type) {
			case float64:
				l.Numbers[name] = value
			case string:
				l.Scenario = value
			case []any: // by process, in the order they were started
				for i := range value {
					if number, ok := value[i].(float64); ok {
						l.Numbers[fmt.Sprintf("%s.%d", name, i)] = number
					}
				}
			}
		}
		lines = append(lines, l)
	}
	return lines, nil
}
