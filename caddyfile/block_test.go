package caddyfile_test

import (
	"reflect"
	"regexp"
	"strings"
	"testing"

	caddyconf "github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/seed-57c14f3c/caddy-presence/caddyfile"
)

func TestBlockAbsentOrEmpty(t *testing.T) {
	for _, text := range []string{"", "top", "top {\n}", "top { }", "top\ntext a b c"} {
		s := new(settings)
		if err := read(s.block(), text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if !reflect.DeepEqual(s, new(settings)) {
			t.Errorf("%q: got %+v, want nothing set", text, s)
		}
	}
}

func TestBlockErrors(t *testing.T) {
	const all = "expected one of bare, duration, enum, flag, func, int, ints, nested, segment, size, text, texts, at Testfile:2"
	for _, c := range []struct{ block, want string }{
		{"{\ntxt x\n}", `unrecognized option "txt"; did you mean text? ` + all},
		{"{\ntezts x\n}", `unrecognized option "tezts"; did you mean texts? ` + all},
		{"{\ndurtaion x\n}", `unrecognized option "durtaion"; did you mean duration? ` + all},
		{"{\nTEXT x\n}", `unrecognized option "TEXT"; ` + all},
		{"{\nx\n}", `unrecognized option "x"; ` + all},
		{"{\n\"\"\n}", `unrecognized option ""; ` + all},
		{"{\n{\n}\n}", `unrecognized option "{"; ` + all},
		{"{\n" + strings.Repeat("a", 100) + "\n}", `unrecognized option "` + strings.Repeat("a", 100) + `"; ` + all},
		{"{\ntext a\n\ntext b\n}", "option text is already given on line 2, at Testfile:4"},
		{"{\nnested\nnested\n}", "option nested is already given on line 2, at Testfile:3"},
		{"{\ntext a", "unexpected EOF, at Testfile:2"},
		{"{\nnested {\ninner a\n}", "unexpected EOF, at Testfile:4"},
	} {
		s := new(settings)
		if err := read(s.block(), "top "+c.block); err == nil || err.Error() != c.want {
			t.Errorf("%s:\ngot  %v\nwant %s", c.block, err, c.want)
		}
	}
}

// Two letters are within two changes of any two others: no name is guessed.
func TestNoHintForShortNames(t *testing.T) {
	b := caddyfile.Block{"on": caddyfile.Func("", nil)}
	const want = `unrecognized option "at"; expected one of on, at Testfile:2`
	if err := read(b, "top {\nat\n}"); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// An option that takes nothing says so.
func TestNothingWanted(t *testing.T) {
	b := caddyfile.Block{"on": caddyfile.Func("", func(*caddyconf.Dispenser) error { return nil })}
	const want = `option on: expected no argument, got one argument too many: "x", at Testfile:2`
	if err := read(b, "top {\non x\n}"); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// The block may stand within others, and what follows it is left alone.
func TestBlockWithinBlocks(t *testing.T) {
	d := caddyconf.NewTestDispenser("a {\nb {\ntop {\ntext x\nnested {\ninner y\n}\n}\nafter\n}\n}")
	s := new(settings)
	var seen []string
	for d.Next() {
		for outer := d.Nesting(); d.NextBlock(outer); {
			seen = append(seen, d.Val())
			for inner := d.Nesting(); d.NextBlock(inner); {
				seen = append(seen, d.Val())
				if d.Val() != "top" {
					continue
				}
				if err := s.block().Read(d); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if got := strings.Join(seen, " "); got != "b top after" || s.Text != "x" || s.Inner != "y" {
		t.Errorf("got %q and %+v", got, s)
	}
}

// A line number says nothing without the file when one of the two was imported.
func TestGivenTwiceInTwoFiles(t *testing.T) {
	var tokens []caddyconf.Token
	for _, part := range [][2]string{{"Caddyfile", "top {\ntext a\n"}, {"more.caddy", "text b\n"}, {"Caddyfile", "}\n"}} {
		more, err := caddyconf.Tokenize([]byte(part[1]), part[0])
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, more...)
	}
	d := caddyconf.NewDispenser(tokens)
	d.Next()
	const want = "option text is already given in Caddyfile on line 2, at more.caddy:1"
	if err := new(settings).block().Read(d); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestNames(t *testing.T) {
	b := caddyfile.Block{"b": {}, "c": {}, "a": {}}
	if got := strings.Join(b.Names(), " "); got != "a b c" {
		t.Errorf("got %s", got)
	}
}

func TestSyntax(t *testing.T) {
	b := caddyfile.Block{"hub": {Want: "<name>"}, "grace": {Want: "<duration>"}, "x": {}}
	if got, want := b.Syntax(), "grace <duration>\nhub   <name>\nx\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := (caddyfile.Block{}).Syntax(); got != "" {
		t.Errorf("got %q of no options", got)
	}
}

// located matches an error that tells file and line.
var located = regexp.MustCompile(`, at Caddyfile:\d+$`)

// FuzzBlock gives any text to the reader: it never panics, always ends, tells file
// and line of what it refuses, and leaves no block open when it refuses nothing.
func FuzzBlock(f *testing.F) {
	for _, seed := range []string{
		"", "top", "top {", "top }\n{", "top {\n}", "top { }", "top {\n} text a",
		"top {\n text a\n segment x {\n y\n }\n}",
		"top {\n texts a {\n b {\n",
		"top {\n text a {\n }\n}",
		"top {\n nested a {\n inner b\n } inner c\n}",
		"top {\n nested {\n {\n } }\n }\n}",
		"top {\n segment {\n}\n segment { {\n } }\n}",
		"top {\n text <<END\n {\n }\n END\n flag off\n}",
		"top {\n duration 1d1d\n size 1,000.5KiB\n ints 1 2\n}",
		"top {\n bare { text\n }\n func \"{\" {\n}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tokens, err := caddyconf.Tokenize([]byte(text), "Caddyfile")
		if err != nil {
			return
		}
		d := caddyconf.NewDispenser(tokens)
		d.Next()
		err = new(settings).block().Read(d)
		if err != nil && !located.MatchString(err.Error()) {
			t.Errorf("an error without its place: %v", err)
		}
		if err == nil && d.Nesting() != 0 {
			t.Errorf("nothing refused, with %d blocks open", d.Nesting())
		}
	})
}
