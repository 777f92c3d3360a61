package caddypresence

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	caddyconf "github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// Sessions says how many connections of a user may be open at once.
type Sessions struct {
	// "newest": a new connection takes the place of the earlier one, which is
	// closed (4001). "many": a user may have several, the oldest goes first.
	Mode string `json:"mode,omitempty"`

	// With "newest": the member's field that tells apart what a user may have
	// one of each, for example one phone and one desktop.
	By string `json:"by,omitempty"`

	// With "many": how many. Default: 16.
	Max int `json:"max,omitempty"`
}

func (s *Sessions) check() error {
	switch s.Mode {
	case "", "newest":
		if s.Max != 0 {
			return errors.New("sessions newest has no maximum")
		}
	case "many":
		if s.By != "" {
			return errors.New("sessions many has no field")
		}
		if s.Max < 0 || s.Max > presence.MaxSeats {
			return fmt.Errorf("sessions many: expected 1 to %d", presence.MaxSeats)
		}
	default:
		return fmt.Errorf("sessions: expected newest or many, got %q", s.Mode)
	}
	return nil
}

func (h *Handler) readSessions(d *caddyconf.Dispenser) error {
	args := d.RemainingArgs()
	switch {
	case len(args) == 1 && args[0] == "newest":
		h.Sessions = Sessions{Mode: "newest"}
	case len(args) == 3 && args[0] == "newest" && args[1] == "by":
		h.Sessions = Sessions{Mode: "newest", By: args[2]}
	case len(args) == 1 && args[0] == "many":
		h.Sessions = Sessions{Mode: "many"}
	case len(args) == 2 && args[0] == "many":
		n, err := strconv.Atoi(args[1])
		if err != nil || n < 1 || n > presence.MaxSeats {
			return d.Errf("option sessions: expected many with 1 to %d, got %q", presence.MaxSeats, args[1])
		}
		h.Sessions = Sessions{Mode: "many", Max: n}
	default:
		return d.Errf("option sessions: expected newest, newest by <field>, or many <count>, got %q", strings.Join(args, " "))
	}
	return nil
}
