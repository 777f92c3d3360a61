package caddyfile_test

import (
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddyconf "github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/seed-57c14f3c/caddy-presence/caddyfile"
)

// Each option is one line beside the field that it sets.
func ExampleBlock_Read() {
	var hub string
	var timeout caddy.Duration
	var queue int64
	options := caddyfile.Block{
		"hub":          caddyfile.String(&hub),
		"idle_timeout": caddyfile.Duration(&timeout),
		"max_queue":    caddyfile.Size(&queue),
	}

	d := caddyconf.NewTestDispenser(`presence /ws {
		hub          drivers
		idle_timeout 2m
		max_queue    256KiB
	}`)
	d.Next()    // presence
	d.NextArg() // /ws
	if err := options.Read(d); err != nil {
		fmt.Println(err)
	}
	fmt.Println(hub, time.Duration(timeout), queue)
	// Output: drivers 2m0s 262144
}

// What is not understood is refused, with what was probably meant.
func ExampleBlock_Read_refused() {
	var hub string
	var timeout caddy.Duration
	options := caddyfile.Block{
		"hub":          caddyfile.String(&hub),
		"idle_timeout": caddyfile.Duration(&timeout),
	}
	for _, option := range []string{"hubb drivers", "idle_timeout soon", "hub", "hub a b"} {
		d := caddyconf.NewTestDispenser("presence {\n" + option + "\n}")
		d.Next()
		fmt.Println(options.Read(d))
	}
	// Output:
	// unrecognized option "hubb"; did you mean hub? expected one of hub, idle_timeout, at Testfile:2
	// option idle_timeout: expected <duration>, got "soon": time: invalid duration "soon", at Testfile:2
	// option hub: expected <text>, at Testfile:2
	// option hub: expected <text>, got one argument too many: "b", at Testfile:2
}

// The table is also the syntax, for docs.
func ExampleBlock_Syntax() {
	var hub, sessions string
	var rate, burst int
	fmt.Print(caddyfile.Block{
		"hub":        caddyfile.String(&hub),
		"sessions":   caddyfile.Enum(&sessions, "newest", "many"),
		"rate_limit": caddyfile.Ints(1, 1000, &rate, &burst),
	}.Syntax())
	// Output:
	// hub        <text>
	// rate_limit <number> <number>
	// sessions   newest|many
}

// An option may have arguments, and a block of its own.
func ExampleNested() {
	var urls []string
	var prefix string
	options := caddyfile.Block{
		"redis": caddyfile.Nested("[<url...>] [{ ... }]", func(d *caddyconf.Dispenser) error {
			urls = d.RemainingArgs()
			return nil
		}, caddyfile.Block{
			"prefix": caddyfile.String(&prefix),
		}),
	}

	d := caddyconf.NewTestDispenser(`presence {
		redis redis://a:6379 redis://b:6379 {
			prefix p
		}
	}`)
	d.Next()
	if err := options.Read(d); err != nil {
		fmt.Println(err)
	}
	fmt.Println(urls, prefix)
	// Output: [redis://a:6379 redis://b:6379] p
}
