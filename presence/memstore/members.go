package memstore

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// Members implements presence.Store. Pages go by partition, then by id, so that
// who comes or goes moves nobody else.
func (s *Store) Members(ctx context.Context, hub string, q presence.MemberQuery) (presence.MemberPage, error) {
	var page presence.MemberPage
	if err := ctx.Err(); err != nil {
		return page, err
	}
	at, err := parseCursor(q.Cursor)
	if err != nil {
		return page, err
	}
	h, now := s.hub(hub), uptime()
	for ; at.partition < partitions; at = (cursor{at.partition + 1, ""}) {
		users := h.parts[at.partition].after(at.id, q.Type, q.Limit+1, now)
		for i := range users {
			if len(page.Users) == q.Limit {
				page.Next = cursor{at.partition, page.Users[len(page.Users)-1].ID}.String()
				if i == 0 {
					page.Next = cursor{at.partition, at.id}.String()
				}
				return page, nil
			}
			page.Users = append(page.Users, users[i])
		}
	}
	return page, nil
}

// after returns the first users of a type behind an id, in the order of ids.
func (p *partition) after(id presence.UserID, typ string, most int, now int64) []presence.User {
	p.mu.RLock()
	defer p.mu.RUnlock()
	ids := make([]presence.UserID, 0, len(p.users))
	for other, u := range p.users {
		if other > id && !u.over(now) && (typ == "" || slices.Contains(u.types(), typ)) {
			ids = append(ids, other)
		}
	}
	slices.Sort(ids)
	ids = ids[:min(len(ids), most)]
	users := make([]presence.User, len(ids))
	for i, other := range ids {
		users[i] = p.users[other].show()
	}
	return users
}

// cursor is where a page ended: behind a user of a partition.
type cursor struct {
	partition int
	id        presence.UserID
}

func (c cursor) String() string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d|%s", c.partition, c.id))
}

func parseCursor(text string) (cursor, error) {
	if text == "" {
		return cursor{}, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	part, id, ok := strings.Cut(string(raw), "|")
	n, convErr := strconv.Atoi(part)
	if err != nil || convErr != nil || !ok || n < 0 || n >= partitions {
		return cursor{}, presence.ErrBadCursor
	}
	return cursor{n, presence.UserID(id)}, nil
}
