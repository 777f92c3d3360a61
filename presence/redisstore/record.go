package redisstore

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// recordFields is how many fields a line of a record has; see prelude.lua.
const recordFields = 7

// parseRecord reads the record of a user. It returns false for one that is
// offline at a time in milliseconds of Redis's clock, or that is no record.
func parseRecord(id presence.UserID, record string, now int64) (presence.User, bool) {
	user := presence.User{ID: id}
	for line := range strings.SplitSeq(record, "\n") {
		f := strings.SplitN(line, "\t", recordFields)
		if len(f) != recordFields {
			continue
		}
		at, _ := strconv.ParseInt(f[1], 10, 64)
		member := &presence.Member{ID: id, Type: f[2], JSON: json.RawMessage(f[6])}
		if f[0] == "-" {
			until, _ := strconv.ParseInt(f[5], 10, 64)
			user.Member, user.Since, user.Lingering = member, at, true
			return user, until > now
		}
		conn, err := presence.ParseConnID(f[0])
		if err != nil {
			continue
		}
		user.Conns = append(user.Conns, presence.UserConn{ID: conn, At: at, Member: member})
	}
	if len(user.Conns) == 0 {
		return user, false
	}
	user.Member, user.Since = user.Conns[0].Member, user.Conns[0].At
	return user, true
}
