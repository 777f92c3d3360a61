package redisstore

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// mirror keeps a hash connection id → member beside the records, for programs
// that read such a hash. It holds live connections only, and follows within a
// second; after an outage it catches up.
type mirror struct {
	store *Store
	name  string

	mu      sync.Mutex // guards the field below
	pending map[mirrorField]*string
}

// mirrorField is a field of a mirror; its new value is nil if it is to go.
type mirrorField struct {
	hash, conn string
}

// mirrorInterval is how often the mirror is written.
const mirrorInterval = 200 * time.Millisecond

func newMirror(s *Store, name string) *mirror {
	return &mirror{store: s, name: name, pending: make(map[mirrorField]*string)}
}

// hash is the name of a hub's mirror.
func (m *mirror) hash(hub string) string {
	if hub == plainHub {
		return m.name
	}
	return m.name + ":" + hub
}

func (m *mirror) opened(req presence.OpenRequest, res presence.OpenResult) {
	m.mu.Lock()
	defer m.mu.Unlock()
	hash := m.hash(req.Hub)
	if res.Accepted {
		member := string(req.Member.JSON)
		m.pending[mirrorField{hash, req.Conn.String()}] = &member
	}
	for _, conn := range res.Displaced {
		m.pending[mirrorField{hash, conn.String()}] = nil
	}
}

func (m *mirror) closed(hub string, gone []presence.Departure) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range gone {
		m.pending[mirrorField{m.hash(hub), d.Conn.String()}] = nil
	}
}

// removed is told which connections of a dead node are out.
func (m *mirror) removed(hub string, conns []any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, v := range conns {
		if conn, ok := v.(string); ok {
			m.pending[mirrorField{m.hash(hub), conn}] = nil
		}
	}
}

// run writes the mirror until ctx ends.
func (m *mirror) run(ctx context.Context) {
	tick := time.NewTicker(mirrorInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = m.flush(ctx) // tried again; the outage is logged
		}
	}
}

// flush writes what is pending. What cannot be written stays pending, unless
// there is something newer.
func (m *mirror) flush(ctx context.Context) error {
	m.mu.Lock()
	fields := m.pending
	if len(fields) == 0 {
		m.mu.Unlock()
		return nil
	}
	m.pending = make(map[mirrorField]*string)
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, m.store.timeout)
	defer cancel()
	pipe := m.store.client.Pipeline()
	for f, member := range fields {
		if member == nil {
			pipe.HDel(ctx, f.hash, f.conn)
		} else {
			pipe.HSet(ctx, f.hash, f.conn, *member)
		}
	}
	_, err := pipe.Exec(ctx)
	err = m.store.result(ctx, "writing the mirror", err)
	if err != nil {
		m.keep(fields)
	}
	return err
}

// mirrorMost is how many fields may wait to be written.
const mirrorMost = 500_000

func (m *mirror) keep(fields map[mirrorField]*string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.pending)+len(fields) > mirrorMost {
		m.store.outage.log.Error("the mirror cannot be written: it is no longer complete", zap.String("hash", m.name))
		return
	}
	for f, member := range fields {
		if _, newer := m.pending[f]; !newer {
			m.pending[f] = member
		}
	}
}
