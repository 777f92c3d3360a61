package caddyfile_test

import (
	"fmt"
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
	segments []string
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
		"segment": caddyfile.Segment("<name> { ... }", func(d *caddyconf.Dispenser) error {
			var words []string
			for d.Next() {
				words = append(words, d.Val())
			}
			s.segments = append(s.segments, strings.Join(words, " "))
			return nil
		}),
	}
}

func read(s *settings, text string) error {
	d := caddyconf.NewTestDispenser(text)
	d.Next()
	return s.block().Read(d)
}

func TestOptions(t *testing.T) {
	var s settings
	err := read(&s, `top {
		text     {env.X}
		texts    a b
		texts    c
		duration 1d2h
		size     64KiB
		int      9
		ints     20 40
		flag
		enum     green
		segment  x {
			y {
				z
			}
		}
		segment  again
	}`)
	if err != nil {
		t.Fatal(err)
	}
	want := settings{
		Text: "{env.X}", Texts: []string{"a", "b", "c"}, Duration: caddy.Duration(26 * time.Hour), Size: 64 << 10,
		Int: 9, A: 20, B: 40, Flag: true, Enum: "green", segments: []string{"segment x { y { z } }", "segment again"},
	}
	if fmt.Sprint(s) != fmt.Sprint(want) {
		t.Errorf("got  %+v\nwant %+v", s, want)
	}
	for _, empty := range []string{"top", "top {\n}"} {
		if err := read(&settings{}, empty); err != nil {
			t.Errorf("%q: %v", empty, err)
		}
	}
}

func TestOptionErrors(t *testing.T) {
	for option, want := range map[string]string{
		"txt x":          `unrecognized option "txt"; did you mean text? expected one of duration, enum, flag, int, ints, segment, size, text, texts, at Testfile:2`,
		"unheard x":      `unrecognized option "unheard"; expected one of duration`,
		"text":           `option text: expected <text>, at Testfile:2`,
		"text a b":       `option text: expected <text>, got one argument too many: "b", at Testfile:2`,
		"text a {\nb\n}": `option text takes no block, at Testfile:3`,
		"text a\ntext b": `option text is already given on line 2, at Testfile:3`,
		"texts":          `option texts: expected <text...>, at Testfile:2`,
		"duration soon":  `option duration: expected <duration>, got "soon": time: invalid duration "soon", at Testfile:2`,
		"duration -1s":   `option duration: expected <duration>, got "-1s": a duration cannot be negative`,
		"size big":       `option size: expected <size>, got "big"`,
		"size 0":         `a size is 1 byte to 1 TiB`,
		"size 9999TB":    `a size is 1 byte to 1 TiB`,
		"int x":          `option int: expected <number>, got "x": "x" is no whole number`,
		"int 10":         `10 is not from 1 to 9`,
		"ints 1":         `option ints: expected <number> <number>`,
		"ints 1 2 3":     `got one argument too many: "3"`,
		"flag maybe":     `option flag: expected [on|off], got "maybe"`,
		"enum blue":      `option enum: expected red|green, got "blue"`,
	} {
		err := read(&settings{}, "top {\n"+option+"\n}")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want %s", option, err, want)
		}
	}
}

func TestSyntax(t *testing.T) {
	b := caddyfile.Block{"hub": {Want: "<name>"}, "grace": {Want: "<duration>"}, "x": {}}
	if got, want := b.Syntax(), "grace <duration>\nhub   <name>\nx\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// FuzzBlock gives any text to the reader: it never panics, and always ends.
func FuzzBlock(f *testing.F) {
	f.Add("top {\n text a\n segment x {\n y\n }\n}")
	f.Add("top {\n texts a {\n b {\n")
	f.Add("top }\n{")
	f.Fuzz(func(t *testing.T, text string) {
		tokens, err := caddyconf.Tokenize([]byte(text), "Caddyfile")
		if err != nil {
			return
		}
		d := caddyconf.NewDispenser(tokens)
		d.Next()
		_ = new(settings).block().Read(d)
	})
}
