package stage

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
)

// What is between two lines of a document is written anew by a target of the
// Makefile, which the first line names; the rest is kept.
const (
	beginMark = "<!-- make %s writes from here -->\n"
	endMark   = "<!-- to here -->\n"
)

// insert puts the text between the marks of a document.
func insert(document, target, text string) (string, error) {
	begin := fmt.Sprintf(beginMark, target)
	before, rest, begins := strings.Cut(document, begin)
	_, after, ends := strings.Cut(rest, endMark)
	if !begins || !ends {
		return "", errors.New("the document has not both marks")
	}
	return before + begin + text + endMark + after, nil
}

// WritePart writes the part of a document anew that a target of the Makefile makes.
func WritePart(file, target, text string) error {
	document, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	whole, err := insert(string(document), target, text)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, []byte(whole), 0o644)
}

// Number prints a figure with three digits, or a dash if there is none.
func Number(v float64) string {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "–"
	case math.Abs(v) >= 1000:
		return fmt.Sprintf("%.1fk", v/1000)
	case math.Abs(v) >= 100:
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}
