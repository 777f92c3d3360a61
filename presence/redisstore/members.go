package redisstore

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// Lookup implements presence.Store.
func (s *Store) Lookup(ctx context.Context, hub string, ids []presence.UserID) ([]presence.User, error) {
	if len(ids) == 0 {
		return nil, ctx.Err()
	}
	s.begin()
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if err := s.learnTime(ctx); err != nil {
		return nil, err
	}
	records, err := s.records(ctx, hub, ids)
	if err != nil {
		return nil, err
	}
	now := s.clock.atLeast()
	users := make([]presence.User, 0, len(ids))
	for i, id := range ids {
		if u, ok := parseRecord(id, records[i], now); ok {
			users = append(users, u)
		}
	}
	return users, nil
}

// records reads the records of users; that of an unknown user is empty.
func (s *Store) records(ctx context.Context, hub string, ids []presence.UserID) ([]string, error) {
	const doing = "looking members up"
	if len(ids) == 1 {
		record, err := s.client.HGet(ctx, s.key(hub, partition(ids[0]), "u"), string(ids[0])).Result()
		return []string{record}, s.result(ctx, doing, err)
	}
	parts := make(map[int][]int) // partition → places in ids
	for i, id := range ids {
		parts[partition(id)] = append(parts[partition(id)], i)
	}
	pipe := s.client.Pipeline()
	replies := make(map[int]*redis.SliceCmd, len(parts))
	for p, places := range parts {
		fields := make([]string, len(places))
		for j, i := range places {
			fields[j] = string(ids[i])
		}
		replies[p] = pipe.HMGet(ctx, s.key(hub, p, "u"), fields...)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, s.result(ctx, doing, err)
	}
	records := make([]string, len(ids))
	for p, places := range parts {
		for j, i := range places {
			records[i], _ = replies[p].Val()[j].(string)
		}
	}
	return records, s.result(ctx, doing, nil)
}

// pagePartitions is how many partitions are asked at once for a page.
const pagePartitions = 16

// Members implements presence.Store. Pages go by partition, then by id.
func (s *Store) Members(ctx context.Context, hub string, q presence.MemberQuery) (presence.MemberPage, error) {
	s.begin()
	var page presence.MemberPage
	at, err := parseCursor(q.Cursor)
	if err != nil {
		return page, err
	}
	for at.partition < partitions {
		ids, err := s.indexed(ctx, hub, q, at)
		if err != nil {
			return page, err
		}
		users, err := s.Lookup(ctx, hub, ids)
		if err != nil {
			return page, err
		}
		if len(page.Users)+len(users) > q.Limit {
			page.Users = append(page.Users, users[:q.Limit-len(page.Users)]...)
			last := at
			if n := len(page.Users); n > 0 {
				last = cursor{partition(page.Users[n-1].ID), page.Users[n-1].ID}
			}
			page.Next = last.String()
			return page, nil
		}
		page.Users = append(page.Users, users...)
		if len(ids) > q.Limit {
			// Some of them had left; there are more behind the last.
			id := ids[len(ids)-1]
			at = cursor{partition(id), id}
			continue
		}
		at = cursor{partition: at.partition + pagePartitions}
	}
	return page, nil
}

// indexed returns the ids behind a cursor, of up to pagePartitions partitions,
// in order: all of them, or one more than a page has.
func (s *Store) indexed(ctx context.Context, hub string, q presence.MemberQuery, at cursor) ([]presence.UserID, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	pipe := s.client.Pipeline()
	var replies []*redis.StringSliceCmd
	for p := at.partition; p < min(at.partition+pagePartitions, partitions); p++ {
		from := q.Type + "\t"
		if p == at.partition {
			from += string(at.id)
		}
		replies = append(replies, pipe.ZRangeByLex(ctx, s.key(hub, p, "t"), &redis.ZRangeBy{
			Min: "(" + from, Max: "(" + q.Type + "\n", Count: int64(q.Limit) + 1,
		}))
	}
	_, err := pipe.Exec(ctx)
	if err := s.result(ctx, "listing members", err); err != nil {
		return nil, err
	}
	var ids []presence.UserID
	for _, r := range replies {
		for _, entry := range r.Val() {
			if len(ids) > q.Limit {
				return ids, nil
			}
			ids = append(ids, presence.UserID(entry[len(q.Type)+1:]))
		}
	}
	return ids, nil
}

// Count implements presence.Store. A user whose time of lingering is over may
// be counted until the next sweep, a second at most.
func (s *Store) Count(ctx context.Context, hub, typ string) (int, error) {
	s.begin()
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	pipe := s.client.Pipeline()
	replies := make([]*redis.IntCmd, partitions)
	for p := range replies {
		replies[p] = pipe.ZLexCount(ctx, s.key(hub, p, "t"), "["+typ+"\t", "("+typ+"\n")
	}
	_, err := pipe.Exec(ctx)
	if err := s.result(ctx, "counting members", err); err != nil {
		return 0, err
	}
	n := 0
	for _, r := range replies {
		n += int(r.Val())
	}
	return n, nil
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
