package caddypresence

import (
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddyconf "github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/seed-57c14f3c/caddy-presence/caddyfile"
	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// Resume says how much of the pushes is kept for clients that ask to resume: one
// that was away for a short time gets what it has missed.
type Resume struct {
	// How long a message is kept, and a user that is gone. Default: 2m; at most
	// 24h.
	Window caddy.Duration `json:"window,omitempty"`

	// How many messages are kept for a user, and how many of those to all or to
	// types for the hub. Default: 100; at most 1000.
	Messages int `json:"messages,omitempty"`
}

const (
	defaultWindow   = 2 * time.Minute
	maxWindow       = 24 * time.Hour
	defaultMessages = 100
	maxMessages     = 1000
)

// keeping returns what the hub keeps; r may be nil.
func (r *Resume) keeping() (presence.Keeping, error) {
	if r == nil {
		return presence.Keeping{}, nil
	}
	k := presence.Keeping{
		Window: orDefault(time.Duration(r.Window), defaultWindow), Messages: orDefault(r.Messages, defaultMessages),
	}
	if k.Window < time.Second || k.Window > maxWindow {
		return k, fmt.Errorf("resume: window %v: expected 1s to %v", k.Window, maxWindow)
	}
	if k.Messages < 1 || k.Messages > maxMessages {
		return k, fmt.Errorf("resume: messages %d: expected 1 to %d", k.Messages, maxMessages)
	}
	return k, nil
}

// resumeOption reads:
//
//	resume {
//		window   <duration>
//		messages <count>
//	}
func resumeOption(p **Resume) caddyfile.Option {
	return caddyfile.Func("{ ... }", func(d *caddyconf.Dispenser) error {
		*p = new(Resume)
		return caddyfile.Block{
			"window":   caddyfile.Duration(&(*p).Window),
			"messages": caddyfile.Int(&(*p).Messages, 1, maxMessages),
		}.Read(d)
	})
}
