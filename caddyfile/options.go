package caddyfile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	caddyconf "github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"
)

// value is an option that takes one argument, which set reads.
func value(want string, set func(string) error) Option {
	return values(1, want, func(args []string) error { return set(args[0]) })
}

// values is an option that takes n arguments.
func values(n int, want string, set func([]string) error) Option {
	return Option{Want: want, Read: func(d *caddyconf.Dispenser) error {
		name := d.Val()
		args := d.RemainingArgs()
		switch {
		case len(args) < n:
			return d.Errf("option %s: expected %s", name, want)
		case len(args) > n:
			return d.Errf("option %s: expected %s, got one argument too many: %q", name, want, args[n])
		}
		if err := set(args); err != nil {
			return d.Errf("option %s: expected %s, got %q: %w", name, want, strings.Join(args, " "), err)
		}
		return nil
	}}
}

// String is an option with one argument, taken as it stands.
func String(p *string) Option {
	return value("<text>", func(s string) error { *p = s; return nil })
}

// Strings is an option with one or more arguments. Given again, it adds to them.
func Strings(p *[]string) Option {
	const want = "<text...>"
	return Option{Want: want, Many: true, Read: func(d *caddyconf.Dispenser) error {
		name := d.Val()
		args := d.RemainingArgs()
		if len(args) == 0 {
			return d.Errf("option %s: expected %s", name, want)
		}
		*p = append(*p, args...)
		return nil
	}}
}

// Duration is an option with a duration such as 10s or 1d; 0 is one too.
func Duration(p *caddy.Duration) Option {
	return value("<duration>", func(s string) error {
		d, err := caddy.ParseDuration(s)
		if err != nil {
			return err
		}
		if d < 0 {
			return fmt.Errorf("a duration cannot be negative")
		}
		*p = caddy.Duration(d)
		return nil
	})
}

// Size is an option with a number of bytes such as 64KiB or 1MB, at least 1.
func Size(p *int64) Option {
	const most = 1 << 40
	return value("<size>", func(s string) error {
		n, err := humanize.ParseBytes(s)
		if err != nil {
			return err
		}
		if n < 1 || n > most {
			return fmt.Errorf("a size is 1 byte to 1 TiB")
		}
		*p = int64(n)
		return nil
	})
}

// Int is an option with a whole number from low to high.
func Int(p *int, low, high int) Option { return Ints(low, high, p) }

// Ints is an option with as many whole numbers from low to high as there are
// places for them.
func Ints(low, high int, places ...*int) Option {
	want := strings.TrimRight(strings.Repeat("<number> ", len(places)), " ")
	return values(len(places), want, func(args []string) error {
		for i, arg := range args {
			n, err := strconv.Atoi(arg)
			if err != nil {
				return fmt.Errorf("%q is no whole number", arg)
			}
			if n < low || n > high {
				return fmt.Errorf("%d is not from %d to %d", n, low, high)
			}
			*places[i] = n
		}
		return nil
	})
}

// Flag is an option that is on when it is given; it may also say on or off.
func Flag(p *bool) Option {
	const want = "[on|off]"
	return Option{Want: want, Read: func(d *caddyconf.Dispenser) error {
		name := d.Val()
		switch args := d.RemainingArgs(); {
		case len(args) == 0, len(args) == 1 && args[0] == "on":
			*p = true
		case len(args) == 1 && args[0] == "off":
			*p = false
		default:
			return d.Errf("option %s: expected %s, got %q", name, want, strings.Join(args, " "))
		}
		return nil
	}}
}

// Enum is an option with one of a few words.
func Enum(p *string, words ...string) Option {
	return value(strings.Join(words, "|"), func(s string) error {
		if !slices.Contains(words, s) {
			return fmt.Errorf("no such choice")
		}
		*p = s
		return nil
	})
}

// Segment is an option whose whole segment, its name, arguments and block, is
// handed on unread, for example because it holds handlers. It may be given
// several times.
func Segment(want string, read func(segment *caddyconf.Dispenser) error) Option {
	return Option{Want: want, Many: true, Read: func(d *caddyconf.Dispenser) error {
		return read(d.NewFromNextSegment())
	}}
}
