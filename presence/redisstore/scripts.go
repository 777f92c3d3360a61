package redisstore

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

//go:embed lua/*.lua
var lua embed.FS

var (
	openScript    = partitionScript("open")
	closeScript   = partitionScript("close")
	expireScript  = partitionScript("expire")
	reapScript    = partitionScript("reap")
	keepScript    = partitionScript("keep")
	recoverScript = partitionScript("recover")
	beatScript    = redis.NewScript(source("beat"))
	turnScript    = redis.NewScript(source("turn"))
	epochScript   = redis.NewScript(source("epoch"))
	claimScript   = redis.NewScript(source("claim"))
	settleScript  = redis.NewScript(source("settle"))
)

func source(name string) string {
	b, err := lua.ReadFile("lua/" + name + ".lua")
	if err != nil {
		panic(err) // it is embedded
	}
	return string(b)
}

// partitionScript is a script with the prelude, and the contract's constants.
func partitionScript(name string) *redis.Script {
	constants := fmt.Sprintf("local MAX_SEATS, MAX_TAKEOVERS, TAKEOVER_WINDOW, MAX_CHANGES, CHANGES_TIME = %d, %d, %d, %d, %d\n",
		presence.MaxSeats, presence.MaxTakeovers, presence.TakeoverWindow.Milliseconds(),
		maxChanges, listenTime.Milliseconds())
	return redis.NewScript(constants + source("prelude") + source(name))
}

// Errors that a script's status stands for.
var (
	errFenced = errors.New("this node was declared dead")
	errLate   = errors.New("the call reached redis too late")
)

// run calls a script with the prelude, and returns what it answers behind the
// status and the time.
func (s *Store) run(ctx context.Context, script *redis.Script, keys []string, args ...any) ([]any, error) {
	began := time.Now()
	reply, err := script.Run(ctx, s.client, keys, args...).Slice()
	if err != nil {
		return nil, err
	}
	return s.readReply(keys[0], reply, began)
}

// readReply takes the status and the stamp off a reply. The first key names the
// partition.
func (s *Store) readReply(key string, reply []any, began time.Time) ([]any, error) {
	if len(reply) < 2 {
		return nil, fmt.Errorf("redis answered %v", reply)
	}
	text, _ := reply[1].(string)
	text, seq, _ := strings.Cut(text, " ")
	if n, err := strconv.ParseInt(seq, 10, 64); err == nil && n > 0 {
		s.entropy.saw(key, n)
	}
	status, _ := reply[0].(int64)
	if status == -2 {
		s.clock.forget() // it was wrong, or this call took too long
	}
	if now, err := strconv.ParseInt(text, 10, 64); err == nil {
		s.clock.learn(now, began)
	}
	switch status {
	case 1:
		return reply[2:], nil
	case -1:
		return nil, errFenced
	default:
		return nil, errLate
	}
}
