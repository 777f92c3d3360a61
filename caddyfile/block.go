// Package caddyfile reads a block of a Caddyfile by a table of its options. Each
// option is one line beside the field that it sets; what is unknown, given twice
// or malformed is refused in one place, in one wording, with file and line.
//
// It knows nothing of what the options mean, and never looks into a value:
// placeholders such as {env.X} are kept as they were written.
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
	// Want is the syntax of what follows the option's name, for people, such as
	// "<duration>". Empty: nothing follows.
	Want string

	// Read is called with the dispenser on the option's name, and reads what
	// follows on its line and, if it takes one, in its block. What it leaves of
	// either is refused. Its errors should come from d.Errf or d.WrapErr, which
	// add file and line.
	Read func(d *caddyconf.Dispenser) error

	// Many allows the option to be given several times. Default: once.
	Many bool
}

// Block is a table of options by name. Options hold pointers to what they set, so
// a table is made anew for each value that is read into.
type Block map[string]Option

// Names returns the names of the options in alphabetical order.
func (b Block) Names() []string { return slices.Sorted(maps.Keys(b)) }

// Syntax returns the options with what follows them, one on each line in
// alphabetical order, in columns. It is for docs, and for tests of docs.
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

// Read reads the block that follows on the current line, if there is one, at any
// depth. The arguments before it must have been consumed. Its errors name file
// and line.
func (b Block) Read(d *caddyconf.Dispenser) error {
	given := make(map[string]caddyconf.Token) // by name, where it was given first
	nesting := d.Nesting()
	for d.NextBlock(nesting) {
		name, at := d.Val(), d.Token()
		option, ok := b[name]
		if !ok {
			return d.Errf("unrecognized option %q%s", name, b.hint(name))
		}
		if first, twice := given[name]; twice && !option.Many {
			return d.Errf("option %s is already given %s", name, place(first, at))
		}
		given[name] = at
		if err := option.Read(d); err != nil {
			return err
		}
		if err := refuseRest(d, name, option.Want); err != nil {
			return err
		}
	}
	if d.Nesting() > nesting { // without this, the end of a cut-off block would pass for its brace
		return d.EOFErr()
	}
	return nil
}

// place says where the option was given first, for one who reads the line now.
func place(first, now caddyconf.Token) string {
	if first.File != now.File { // one of the two was imported
		return fmt.Sprintf("in %s on line %d", first.File, first.Line)
	}
	return fmt.Sprintf("on line %d", first.Line)
}

// refuseRest refuses what an option left unread of its line: the loop in Read
// would take an argument for the next option, and an empty block for none.
func refuseRest(d *caddyconf.Dispenser, name, want string) error {
	if d.NextArg() {
		return tooMany(d, name, want, d.Val())
	}
	if d.NextLine() {
		d.Prev()
		return nil
	}
	if d.Next() { // no argument, and on the same line: a brace
		return d.Errf("option %s takes no block", name)
	}
	return nil
}

// hint names the option that was probably meant, and all that there are.
func (b Block) hint(name string) string {
	if len(b) == 0 {
		return "; there are no options here"
	}
	names := b.Names()
	all := "expected one of " + strings.Join(names, ", ")
	const near = 2
	meant, best := "", near+1
	for _, known := range names {
		// Anything is within two changes of a name of two letters.
		if n := distance(name, known); n < best && n < len(known) {
			meant, best = known, n
		}
	}
	if meant == "" {
		return "; " + all
	}
	return fmt.Sprintf("; did you mean %s? %s", meant, all)
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
