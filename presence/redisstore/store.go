// Package redisstore keeps presence in Redis: standalone, Sentinel or Cluster,
// Redis 7.0 and later or Valkey. It owns the keys below its prefix, and the
// mirror hash if one is configured; nothing else is touched.
//
// A user is one record in one of 64 partitions. Opens and closes are one script
// each, in one slot; heartbeats write nothing.
package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// Store implements presence.Store.
type Store struct {
	// Static after New.
	client  redis.UniversalClient
	process string // has the turn, whatever its incarnation
	prefix  string
	address string // for errors and logs, without password
	timeout time.Duration
	mirror  *mirror // nil if there is none
	cancel  context.CancelFunc
	begin   func() // starts the background work, the first time
	begun   atomic.Bool
	stopped sync.WaitGroup // the background work

	clock    clock
	outage   outage
	identity identity
	hubs     sync.Map // names of the hubs that were used → struct{}
	written  sync.Map // names of the hubs that redis knows → struct{}
	locals   sync.Map // names of the hubs that are served here → presence.Local
	opener   opener
	logs     sync.Map // names of the hubs whose changes are followed here → *log

	// Owned by the goroutine that renews the lease, but for lease.wake.
	lease     lease
	renewedAt atomic.Int64 // the lease, in Unix milliseconds

	entropy entropy

	outbound *outbound
	inbox    inbox
}

// New makes a store. It does not connect yet: Check does, and every call, the first
// of which also starts the background work.
func New(cfg Config, log *zap.Logger) (*Store, error) {
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.Lease <= 0 {
		cfg.Lease = defaultLease
	}
	if cfg.Prefix == "" {
		cfg.Prefix = defaultPrefix
	}
	for name, value := range map[string]string{"prefix": cfg.Prefix, "mirror": cfg.Mirror} {
		if value != "" && !plainKey.MatchString(value) {
			return nil, fmt.Errorf("%s %q: expected at most 128 characters without braces or spaces", name, value)
		}
	}
	options, err := cfg.clientOptions()
	if err != nil {
		return nil, err
	}
	silence()
	ctx, cancel := context.WithCancel(context.Background())
	s := &Store{
		client:   newClient(options),
		process:  string(presence.NewNodeID()),
		prefix:   cfg.Prefix,
		address:  strings.Join(options.Addrs, " "),
		timeout:  cfg.Timeout,
		cancel:   cancel,
		outage:   outage{log: log},
		outbound: newOutbound(),
		lease:    lease{time: cfg.Lease, wake: make(chan struct{}, 1)},
	}
	s.client.AddHook(&breaker{outage: &s.outage})
	s.identity.node = presence.NewNodeID()
	inboxOptions := *options
	inboxOptions.PoolSize = 2
	s.inbox.client = newClient(&inboxOptions)
	s.inbox.seen = make(map[presence.NodeID]uint64)
	s.inbox.heard.Store(time.Now().UnixMilli())
	s.begin = sync.OnceFunc(func() {
		s.begun.Store(true)
		s.stopped.Go(func() { s.live(ctx) })
		s.stopped.Go(func() { s.read(ctx) })
		s.stopped.Go(func() { s.write(ctx) })
		s.stopped.Go(func() { s.sweep(ctx) })
		if s.mirror != nil {
			s.stopped.Go(func() { s.mirror.run(ctx) })
		}
	})
	if cfg.Mirror != "" {
		s.mirror = newMirror(s, cfg.Mirror)
	}
	return s, nil
}

// newEpoch is offered to a partition that has none. No two lives of a partition have
// the same, though one process may begin both.
func newEpoch() string { return string(presence.NewNodeID()) }

// silence stops go-redis from printing each failed dial to the standard error:
// what a call could not do is in its error.
var silence = sync.OnceFunc(func() { redis.SetLogger(noLogger{}) })

type noLogger struct{}

func (noLogger) Printf(context.Context, string, ...any) {}

// Check implements presence.Store. What trying again cannot cure, such as a
// wrong password, does not wrap presence.ErrStoreUnavailable.
func (s *Store) Check(ctx context.Context) error {
	s.begin()
	ctx, cancel := context.WithTimeout(probe(ctx), s.timeout)
	defer cancel()
	began := time.Now()
	t, err := s.client.Time(ctx).Result()
	if err != nil {
		return s.result(ctx, "asking for the time", refused(err))
	}
	s.clock.learn(t.UnixMilli(), began)
	return s.checkSchema(ctx)
}

// refused tells apart an error of the handshake, in which go-redis wraps what
// Redis answered, from one of the network.
func refused(err error) error {
	for _, answer := range []string{"WRONGPASS", "NOAUTH", "NOPERM", "ERR "} {
		if _, rest, ok := strings.Cut(err.Error(), answer); ok {
			return handshakeError(answer + rest)
		}
	}
	return err
}

// handshakeError is an error that Redis answered.
type handshakeError string

func (e handshakeError) Error() string { return string(e) }

// RedisError marks it as redis.Error does.
func (handshakeError) RedisError() {}

// checkSchema refuses to share keys with a version that reads them otherwise.
func (s *Store) checkSchema(ctx context.Context) error {
	key := s.global("cfg")
	want := map[string]string{"partitions": strconv.Itoa(partitions), "schema": strconv.Itoa(schema)}
	pipe := s.client.Pipeline()
	for field, value := range want {
		pipe.HSetNX(ctx, key, field, value)
	}
	got := pipe.HGetAll(ctx, key)
	if _, err := pipe.Exec(ctx); err != nil {
		return s.result(ctx, "reading "+key, err)
	}
	for field, value := range want {
		if got.Val()[field] != value {
			return fmt.Errorf("%s in redis at %s has %s %q, this version needs %q; use another prefix or an empty database",
				key, s.address, field, got.Val()[field], value)
		}
	}
	return s.result(ctx, "reading "+key, nil)
}

// Shutdown implements presence.Store.
func (s *Store) Shutdown(ctx context.Context) error {
	s.cancel()
	inboxErr := s.inbox.client.Close() // a context does not end its read
	s.stopped.Wait()
	if !s.begun.Load() {
		return errors.Join(inboxErr, s.client.Close())
	}
	var err error
	if s.mirror != nil {
		err = s.mirror.flush(ctx)
	}
	return errors.Join(err, inboxErr, s.leaveNodes(ctx), s.client.Close())
}

// Open implements presence.Store.
func (s *Store) Open(ctx context.Context, req presence.OpenRequest) (presence.OpenResult, error) {
	s.begin()
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if err := errors.Join(s.learnTime(ctx), s.learnHub(ctx, req.Hub)); err != nil {
		return presence.OpenResult{}, err
	}
	if req.At == 0 {
		req.At = s.clock.next()
	}
	reply, err := s.open(ctx, req)
	if errors.Is(err, errFenced) {
		req.Conn.Node = s.declaredDead(req.Conn.Node)
		reply, err = s.open(ctx, req)
	}
	if err != nil {
		return presence.OpenResult{At: req.At}, s.result(ctx, "opening a member", err)
	}
	s.outage.success()
	s.changed(req.Hub)
	res, err := readOpened(req.At, reply)
	if err == nil && s.mirror != nil && res.RetryAfter == 0 {
		s.mirror.opened(req, res)
	}
	return res, err
}

// readOpened reads what open.lua returns for one open.
func readOpened(at int64, reply []any) (presence.OpenResult, error) {
	res := presence.OpenResult{At: at}
	if len(reply) < 3 {
		return res, fmt.Errorf("opening a member: redis answered %v", reply)
	}
	accepted, _ := reply[0].(int64)
	online, _ := reply[1].(int64)
	wait, _ := reply[2].(int64)
	res.Accepted, res.Online = accepted == 1, online == 1
	res.RetryAfter = time.Duration(wait) * time.Millisecond
	for _, v := range reply[3:] {
		text, _ := v.(string)
		if id, err := presence.ParseConnID(text); err == nil {
			res.Displaced = append(res.Displaced, id)
		}
	}
	return res, nil
}

// closeBatch is how many connections one call of close.lua removes: Redis does
// nothing else meanwhile.
const closeBatch = 64

// Close implements presence.Store.
func (s *Store) Close(ctx context.Context, hub string, gone []presence.Departure) ([]bool, error) {
	s.begin()
	s.hubs.LoadOrStore(hub, struct{}{})
	found := make([]bool, len(gone))
	parts := make(map[int][]int) // partition → places in gone
	for i, d := range gone {
		parts[partition(d.User)] = append(parts[partition(d.User)], i)
	}
	for p, places := range parts {
		for len(places) > 0 {
			n := min(len(places), closeBatch)
			if err := s.closeSome(ctx, hub, p, gone, places[:n], found); err != nil {
				return nil, err
			}
			places = places[n:]
		}
	}
	s.changed(hub)
	if s.mirror != nil {
		s.mirror.closed(hub, gone)
	}
	return found, nil
}

func (s *Store) closeSome(ctx context.Context, hub string, p int, gone []presence.Departure, places []int, found []bool) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if err := s.learnTime(ctx); err != nil {
		return err
	}
	args := []any{s.notAfter()}
	for _, i := range places {
		args = append(args, string(gone[i].User), gone[i].Conn.String(), gone[i].Linger.Milliseconds(), gone[i].At, string(gone[i].Cause))
	}
	reply, err := s.run(ctx, closeScript, s.keys(hub, p), args...)
	if err != nil {
		return s.result(ctx, "closing members", err)
	}
	s.outage.success()
	for j, i := range places {
		if j < len(reply) {
			n, _ := reply[j].(int64)
			found[i] = n == 1
		}
	}
	return nil
}

// notAfter is when Redis may no longer carry out a call that is made now: its
// caller has given up then.
func (s *Store) notAfter() int64 { return s.clock.now() + s.timeout.Milliseconds() }

// learnHub writes a hub, and this node, down before the hub's first member here: who
// takes the members of a dead node out must know of them.
func (s *Store) learnHub(ctx context.Context, hub string) error {
	if _, known := s.written.Load(hub); known {
		return nil
	}
	pipe := s.client.Pipeline()
	pipe.SAdd(ctx, s.global("hubs"), hub)
	pipe.ZAddNX(ctx, s.global("nodes"), redis.Z{
		Score: float64(s.clock.now() + s.lease.time.Milliseconds()), Member: string(s.Node()),
	})
	_, err := pipe.Exec(ctx)
	if err := s.result(ctx, "writing the hub down", err); err != nil {
		return err
	}
	s.written.Store(hub, struct{}{})
	s.hubs.LoadOrStore(hub, struct{}{})
	return nil
}

// learnTime asks Redis for its time if no call has told it yet.
func (s *Store) learnTime(ctx context.Context) error {
	if s.clock.isKnown() {
		return nil
	}
	began := time.Now()
	t, err := s.client.Time(ctx).Result()
	if err != nil {
		return s.result(ctx, "asking for the time", refused(err))
	}
	s.clock.learn(t.UnixMilli(), began)
	return nil
}

var _ presence.Store = (*Store)(nil)
