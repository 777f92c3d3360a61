// Package caddyfile reads a block of a Caddyfile by a table of its options. Each
// option is one line beside the field that it sets; what is unknown, given twice
// or malformed is refused in one place, in one wording, with file and line.
//
// It knows nothing of what the options mean.
package caddyfile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	caddyconf "github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// Option reads one option of a block.
type Option struct {
	// Want is the syntax of what follows the option's name, for people.
	Want string

	// Read is called with the dispenser on the option's name, and reads what
	// follows on its line and, if it takes one, in its block.
	Read func(d *caddyconf.Dispenser) error

	// Many allows the option to be given several times.
	Many bool
}

// Block is a table of options by name.
type Block map[string]Option

// Names returns the names of the options in alphabetical order.
func (b Block) Names() []string { return slices.Sorted(maps.Keys(b)) }

// Syntax returns the options with what follows them, one on each line.
func (b Block) Syntax() string {
	width := 0
	for name := range b {
		width = max(width, len(name))
	}
	var out strings.Builder
	for _, name := range b.Names() {
		fmt.Fprintln(&out, strings.TrimRight(fmt.Sprintf("%-*s %s", width, name, b[name].Want), " "))
	}
	return out.String()
}

// Read reads the block that follows on the current line, if there is one. The
// arguments before it must have been consumed. Its errors name file and line.
func (b Block) Read(d *caddyconf.Dispenser) error {
	given := make(map[string]int) // name → line
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name, line := d.Val(), d.Line()
		option, ok := b[name]
		if !ok {
			return d.Errf("unrecognized option %q%s", name, b.hint(name))
		}
		if first, twice := given[name]; twice && !option.Many {
			return d.Errf("option %s is already given on line %d", name, first)
		}
		given[name] = line
		inner := d.Nesting()
		if err := option.Read(d); err != nil {
			return err
		}
		if d.NextBlock(inner) {
			return d.Errf("option %s takes no block", name)
		}
	}
	return nil
}

// hint names the option that was probably meant, and all that there are.
func (b Block) hint(name string) string {
	if len(b) == 0 {
		return "; there are no options here"
	}
	hint := "; expected one of " + strings.Join(b.Names(), ", ")
	const near = 2
	best := near + 1
	meant := ""
	for _, known := range b.Names() {
		if n := distance(name, known); n < best && n < len(known) {
			best, meant = n, known
		}
	}
	if meant != "" {
		hint = fmt.Sprintf("; did you mean %s?%s", meant, strings.Replace(hint, ";", "", 1))
	}
	return hint
}

// distance is how many bytes must be added, left out or changed to turn a into
// b (Levenshtein). Long texts are far from everything.
func distance(a, b string) int {
	const tooLong = 64
	if len(a) > tooLong || len(b) > tooLong {
		return tooLong
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
