package caddyfile

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	caddyconf "github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"
)

// tooMany refuses the first argument that has no place.
func tooMany(d *caddyconf.Dispenser, name, want, arg string) error {
	if want == "" {
		want = "no argument"
	}
	return d.Errf("option %s: expected %s, got one argument too many: %q", name, want, arg)
}

// values is an option with at least fewest arguments and at most most, which set
// reads. An error of set is the cause that is shown; errChoice is not, as it
// would add nothing.
func values(fewest, most int, want string, set func([]string) error) Option {
	return Option{Want: want, Read: func(d *caddyconf.Dispenser) error {
		name := d.Val()
		args := d.RemainingArgs()
		switch {
		case len(args) < fewest:
			return d.Errf("option %s: expected %s", name, want)
		case len(args) > most:
			return tooMany(d, name, want, args[most])
		}
		switch err := set(args); {
		case err == nil:
			return nil
		case errors.Is(err, errChoice):
			return d.Errf("option %s: expected %s, got %q", name, want, strings.Join(args, " "))
		default:
			return d.Errf("option %s: expected %s, got %q: %w", name, want, strings.Join(args, " "), err)
		}
	}}
}

// value is an option that takes one argument, which set reads.
func value(want string, set func(string) error) Option {
	return values(1, 1, want, func(args []string) error { return set(args[0]) })
}

// errChoice means that the argument is none of the words that want lists.
var errChoice = errors.New("no such choice")

// String is an option with one argument, taken as it stands.
func String(p *string) Option {
	return value("<text>", func(s string) error { *p = s; return nil })
}

// Strings is an option with one or more arguments, taken as they stand. Given
// again, it adds to them.
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

// Duration is an option with a duration such as 10s or 1d, not negative. 0 needs
// no unit; what it means is for the reader of the field to say.
func Duration(p *caddy.Duration) Option {
	return value("<duration>", func(s string) error {
		d, err := caddy.ParseDuration(s)
		if err != nil {
			return err
		}
		if d < 0 {
			return errors.New("a duration cannot be negative")
		}
		*p = caddy.Duration(d)
		return nil
	})
}

// Size is an option with a number of bytes such as 64KiB, 1MB or 4096, from 1 byte
// to 1 TiB: more is a slip of the pen.
func Size(p *int64) Option {
	const most = 1 << 40
	return value("<size>", func(s string) error {
		n, err := humanize.ParseBytes(s)
		if errors.Is(err, strconv.ErrSyntax) { // its text would speak of ParseFloat
			return errors.New("no size such as 64KiB or 1MB")
		}
		if err != nil {
			return err
		}
		if n < 1 || n > most {
			return errors.New("a size is 1 byte to 1 TiB")
		}
		*p = int64(n)
		return nil
	})
}

// Int is an option with a whole number from low to high, both included.
func Int(p *int, low, high int) Option { return Ints(low, high, p) }

// Ints is an option with as many whole numbers from low to high, both included,
// as there are places for them, in their order.
func Ints(low, high int, places ...*int) Option {
	want := strings.TrimRight(strings.Repeat("<number> ", len(places)), " ")
	return values(len(places), len(places), want, func(args []string) error {
		for i, arg := range args {
			n, err := strconv.Atoi(arg)
			if errors.Is(err, strconv.ErrSyntax) {
				return fmt.Errorf("%q is no whole number", arg)
			}
			if err != nil || n < low || n > high {
				return fmt.Errorf("%s is not from %d to %d", arg, low, high)
			}
			*places[i] = n
		}
		return nil
	})
}

// Flag is an option that is on when it is given; it may also say on or off.
func Flag(p *bool) Option {
	return values(0, 1, "[on|off]", func(args []string) error {
		if len(args) == 1 && args[0] != "on" && args[0] != "off" {
			return errChoice
		}
		*p = len(args) == 0 || args[0] == "on"
		return nil
	})
}

// Enum is an option with one of a few words.
func Enum(p *string, words ...string) Option {
	return value(strings.Join(words, "|"), func(s string) error {
		if !slices.Contains(words, s) {
			return errChoice
		}
		*p = s
		return nil
	})
}

// Segment is an option whose whole segment, its name, arguments and block, is
// handed on unread, for example because it holds handlers. The segment's
// dispenser stands before the name, as Caddy gives it to an unmarshaler. It may
// be given several times.
func Segment(want string, read func(segment *caddyconf.Dispenser) error) Option {
	return Option{Want: want, Many: true, Read: func(d *caddyconf.Dispenser) error {
		return read(d.NewFromNextSegment())
	}}
}

// Nested is an option with a block of its own, which may be left out. Before it,
// args is called with the dispenser on the option's name and reads the arguments
// on its line; nil takes none, and what args leaves is refused.
//
// Where the block depends on the arguments, use [Func] and call [Block.Read] in
// it once they are read.
func Nested(want string, args func(d *caddyconf.Dispenser) error, block Block) Option {
	return Option{Want: want, Read: func(d *caddyconf.Dispenser) error {
		name := d.Val()
		if args != nil {
			if err := args(d); err != nil {
				return err
			}
		}
		if d.NextArg() {
			return tooMany(d, name, want, d.Val())
		}
		return block.Read(d)
	}}
}

// Func is an option that read takes care of, for what the others cannot say. See
// [Option] for how read is called; what it leaves unread is refused.
func Func(want string, read func(d *caddyconf.Dispenser) error) Option {
	return Option{Want: want, Read: read}
}
