package caddyfile_test

import (
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddyconf "github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/seed-57c14f3c/caddy-presence/caddyfile"
)

// settings has one of each kind of option.
type settings struct {
	Text     string
	Texts    []string
	Duration caddy.Duration
	Size     int64
	Int      int
	A, B     int
	Flag     bool
	Enum     string
	Args     []string // of nested
	Inner    string   // in the block of nested
	Func     string
	Segments []string // their words
}

func (s *settings) block() caddyfile.Block {
	return caddyfile.Block{
		"text":     caddyfile.String(&s.Text),
		"texts":    caddyfile.Strings(&s.Texts),
		"duration": caddyfile.Duration(&s.Duration),
		"size":     caddyfile.Size(&s.Size),
		"int":      caddyfile.Int(&s.Int, 1, 9),
		"ints":     caddyfile.Ints(0, 99, &s.A, &s.B),
		"flag":     caddyfile.Flag(&s.Flag),
		"enum":     caddyfile.Enum(&s.Enum, "red", "green"),
		"segment":  caddyfile.Segment("<name> [{ ... }]", s.readSegment),
		"nested": caddyfile.Nested("<name...> [{ ... }]", func(d *caddyconf.Dispenser) error {
			s.Args = d.RemainingArgs()
			return nil
		}, caddyfile.Block{"inner": caddyfile.String(&s.Inner)}),
		"bare": caddyfile.Nested("[{ ... }]", nil, caddyfile.Block{}),
		"func": caddyfile.Func("<one>", func(d *caddyconf.Dispenser) error {
			if !d.NextArg() {
				return d.ArgErr()
			}
			s.Func = d.Val()
			return nil
		}),
	}
}

func (s *settings) readSegment(d *caddyconf.Dispenser) error {
	var words []string
	for d.Next() {
		words = append(words, d.Val())
	}
	s.Segments = append(s.Segments, strings.Join(words, " "))
	return nil
}

// read reads a text whose first token is the name of the block. Its name in
// errors is Testfile.
func read(b caddyfile.Block, text string) error {
	d := caddyconf.NewTestDispenser(text)
	d.Next()
	return b.Read(d)
}

func TestOptions(t *testing.T) {
	for options, want := range map[string]settings{
		"text a":              {Text: "a"},
		"text \"a b\"":        {Text: "a b"},
		"text \"{\"":          {Text: "{"},
		"text \"\"":           {},
		"text {env.X}":        {Text: "{env.X}"},
		"text {file./run/x}":  {Text: "{file./run/x}"},
		"texts a":             {Texts: []string{"a"}},
		"texts a {env.X}":     {Texts: []string{"a", "{env.X}"}},
		"texts a b\ntexts c":  {Texts: []string{"a", "b", "c"}},
		"duration 0":          {},
		"duration 1d2h":       {Duration: caddy.Duration(26 * time.Hour)},
		"duration 1.5s":       {Duration: caddy.Duration(1500 * time.Millisecond)},
		"size 1":              {Size: 1},
		"size 64KiB":          {Size: 64 << 10},
		"size 1MB":            {Size: 1e6},
		"size 1TiB":           {Size: 1 << 40},
		"size \"2 mib\"":      {Size: 2 << 20},
		"int 1":               {Int: 1},
		"int 9":               {Int: 9},
		"ints 20 40":          {A: 20, B: 40},
		"flag":                {Flag: true},
		"flag on":             {Flag: true},
		"flag off":            {},
		"enum green":          {Enum: "green"},
		"nested":              {},
		"nested {\n}":         {},
		"nested { }":          {},
		"nested a b":          {Args: []string{"a", "b"}},
		"nested a {\n}":       {Args: []string{"a"}},
		"bare":                {},
		"bare {\n}\ntext a":   {Text: "a"},
		"func x":              {Func: "x"},
		"segment x":           {Segments: []string{"segment x"}},
		"segment x {\n}":      {Segments: []string{"segment x"}},
		"segment\nsegment":    {Segments: []string{"segment", "segment"}},
		"text \"}\"\nflag on": {Text: "}", Flag: true},
		"nested a {\ninner x\n}\ntext a": {
			Args: []string{"a"}, Inner: "x", Text: "a",
		},
		"segment x {\ny {\nz\n}\n}\ntext a": {
			Segments: []string{"segment x { y { z } }"}, Text: "a",
		},
	} {
		var got settings
		if err := read(got.block(), "top {\n"+options+"\n}"); err != nil {
			t.Errorf("%s: %v", options, err)
			continue
		}
		if got.Args != nil && len(got.Args) == 0 {
			got.Args = nil
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", options, got, want)
		}
	}
}

// The errors are whole: what an operator sees, less the place in the Caddyfile.
func TestOptionErrors(t *testing.T) {
	for _, c := range []struct{ options, want string }{
		{"text", `option text: expected <text>, at Testfile:2`},
		{"text a b", `option text: expected <text>, got one argument too many: "b", at Testfile:2`},
		{"text a b c", `option text: expected <text>, got one argument too many: "b", at Testfile:2`},
		{"flag\ntext {\nb\n}", `option text: expected <text>, at Testfile:3`},

		{"texts", `option texts: expected <text...>, at Testfile:2`},

		{"duration", `option duration: expected <duration>, at Testfile:2`},
		{"duration 1s 2s", `option duration: expected <duration>, got one argument too many: "2s", at Testfile:2`},
		{"duration soon", `option duration: expected <duration>, got "soon": time: invalid duration "soon", at Testfile:2`},
		{"duration 5", `option duration: expected <duration>, got "5": time: missing unit in duration "5", at Testfile:2`},
		{"duration -1s", `option duration: expected <duration>, got "-1s": a duration cannot be negative, at Testfile:2`},
		{"duration {env.X}", `option duration: expected <duration>, got "{env.X}": time: invalid duration "{env.X}", at Testfile:2`},

		{"size", `option size: expected <size>, at Testfile:2`},
		{"size 1 2", `option size: expected <size>, got one argument too many: "2", at Testfile:2`},
		{"size big", `option size: expected <size>, got "big": no size such as 64KiB or 1MB, at Testfile:2`},
		{"size -1", `option size: expected <size>, got "-1": no size such as 64KiB or 1MB, at Testfile:2`},
		{"size 1XB", `option size: expected <size>, got "1XB": unhandled size name: xb, at Testfile:2`},
		{"size 0", `option size: expected <size>, got "0": a size is 1 byte to 1 TiB, at Testfile:2`},
		{"size 1.01TiB", `option size: expected <size>, got "1.01TiB": a size is 1 byte to 1 TiB, at Testfile:2`},
		{"size 99EiB", `option size: expected <size>, got "99EiB": too large: 99EiB, at Testfile:2`},

		{"int", `option int: expected <number>, at Testfile:2`},
		{"int 1 2", `option int: expected <number>, got one argument too many: "2", at Testfile:2`},
		{"int x", `option int: expected <number>, got "x": "x" is no whole number, at Testfile:2`},
		{"int 1.5", `option int: expected <number>, got "1.5": "1.5" is no whole number, at Testfile:2`},
		{"int 0", `option int: expected <number>, got "0": 0 is not from 1 to 9, at Testfile:2`},
		{"int 10", `option int: expected <number>, got "10": 10 is not from 1 to 9, at Testfile:2`},
		{"int 99999999999999999999", `option int: expected <number>, got "99999999999999999999": 99999999999999999999 is not from 1 to 9, at Testfile:2`},

		{"ints", `option ints: expected <number> <number>, at Testfile:2`},
		{"ints 1", `option ints: expected <number> <number>, at Testfile:2`},
		{"ints 1 2 3", `option ints: expected <number> <number>, got one argument too many: "3", at Testfile:2`},
		{"ints 1 x", `option ints: expected <number> <number>, got "1 x": "x" is no whole number, at Testfile:2`},
		{"ints 1 100", `option ints: expected <number> <number>, got "1 100": 100 is not from 0 to 99, at Testfile:2`},

		{"flag maybe", `option flag: expected [on|off], got "maybe", at Testfile:2`},
		{"flag on off", `option flag: expected [on|off], got one argument too many: "off", at Testfile:2`},

		{"enum", `option enum: expected red|green, at Testfile:2`},
		{"enum blue", `option enum: expected red|green, got "blue", at Testfile:2`},
		{"enum red green", `option enum: expected red|green, got one argument too many: "green", at Testfile:2`},

		{"nested a {\ninnner x\n}", `unrecognized option "innner"; did you mean inner? expected one of inner, at Testfile:3`},
		{"nested a {\ninner\n}", `option inner: expected <text>, at Testfile:3`},
		{"nested a {\ninner x\ninner y\n}", `option inner is already given on line 3, at Testfile:4`},
		{"nested a {\ninner x {\n}\n}", `option inner takes no block, at Testfile:3`},
		{"bare x", `option bare: expected [{ ... }], got one argument too many: "x", at Testfile:2`},
		{"bare {\nx\n}", `unrecognized option "x"; there are no options here, at Testfile:3`},

		{"func", `wrong argument count or unexpected line ending after 'func', at Testfile:2`},
		{"func a text", `option func: expected <one>, got one argument too many: "text", at Testfile:2`},
		{"func a {\nb\n}", `option func takes no block, at Testfile:2`},
	} {
		s := new(settings)
		if err := read(s.block(), "top {\n"+c.options+"\n}"); err == nil || err.Error() != c.want {
			t.Errorf("%s:\ngot  %v\nwant %s", c.options, err, c.want)
		}
	}
}

// Only what takes a block may have one, an empty one too.
func TestOptionTakesNoBlock(t *testing.T) {
	for name, args := range map[string]string{
		"text": "a", "texts": "a", "duration": "1s", "size": "1", "int": "1", "ints": "1 2", "flag": "", "enum": "red", "func": "a",
	} {
		for _, block := range []string{"{\nx\n}", "{\n}", "{ }"} {
			s := new(settings)
			err := read(s.block(), "top {\n\n"+name+" "+args+" "+block+"\n}")
			if want := "option " + name + " takes no block, at Testfile:3"; err == nil || err.Error() != want {
				t.Errorf("%s %s: got error %v, want %s", name, block, err, want)
			}
		}
	}
}

// What Nested gives up on, it does not read on from.
func TestNestedArgsError(t *testing.T) {
	b := caddyfile.Block{"n": caddyfile.Nested("<x>", func(d *caddyconf.Dispenser) error {
		return d.Err("no")
	}, nil)}
	if err := read(b, "top {\nn {\n}\n}"); err == nil || err.Error() != "no, at Testfile:2" {
		t.Errorf("got error %v", err)
	}
}

// What no int can hold is refused, also where every int is allowed.
func TestIntOverflow(t *testing.T) {
	var n int
	b := caddyfile.Block{"n": caddyfile.Int(&n, 0, math.MaxInt)}
	const want = `option n: expected <number>, got "9223372036854775808": 9223372036854775808 is not from 0 to 9223372036854775807, at Testfile:2`
	if err := read(b, "top {\nn 9223372036854775808\n}"); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}
