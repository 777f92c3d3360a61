package caddypresence

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddyconf "github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/seed-57c14f3c/caddy-presence/caddyfile"
	"github.com/seed-57c14f3c/caddy-presence/presence"
	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore"
)

// RedisStore keeps presence in Redis (7.0 or later, or Valkey), standalone, with
// Sentinels, or a Cluster. Placeholders such as {env.REDIS_PASSWORD} and
// {file./run/secrets/redis} work in all its texts.
type RedisStore struct {
	// Where Redis is: redis://user:password@host:port/db, rediss://… for TLS, or
	// unix:///path?db=n. Several are the nodes of a Cluster, or the Sentinels if
	// a master name is given. Default: redis://localhost:6379.
	URLs []string `json:"urls,omitempty"`

	// The user, instead of the one in the URL.
	Username string `json:"username,omitempty"`

	// The password, instead of the one in the URL.
	Password string `json:"password,omitempty"`

	// The name under which the Sentinels know the master.
	MasterName string `json:"master_name,omitempty"`

	// Whether a single URL is that of a Cluster.
	Cluster bool `json:"cluster,omitempty"`

	// A file of certificates (PEM) that sign the server's, for rediss://.
	// Default: the system's.
	TLSCA string `json:"tls_ca,omitempty"`

	// What the names of all keys begin with. Default: presence.
	Prefix string `json:"prefix,omitempty"`

	// The name of a hash to keep beside, connection → member, for programs that
	// read such a hash. Default: none.
	Mirror string `json:"mirror,omitempty"`

	// After how long without a sign of life a node is declared dead, and its
	// members are taken out. Default: 10s.
	Lease caddy.Duration `json:"lease,omitempty"`

	resolved redisstore.Config
}

// minLease leaves a node the time to renew its lease on a bad day.
const minLease = time.Second

// CaddyModule returns the Caddy module information.
func (RedisStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "presence.stores.redis", New: func() caddy.Module { return new(RedisStore) }}
}

// Provision resolves the placeholders.
func (s *RedisStore) Provision(caddy.Context) error {
	repl := caddy.NewReplacer()
	var failed error
	resolve := func(text string) string {
		value, err := repl.ReplaceOrErr(text, true, false)
		failed = errors.Join(failed, err)
		return value
	}
	s.resolved = redisstore.Config{
		Username: resolve(s.Username), Password: resolve(s.Password), MasterName: resolve(s.MasterName),
		Cluster: s.Cluster, Prefix: resolve(s.Prefix), Mirror: resolve(s.Mirror), Lease: time.Duration(s.Lease),
	}
	for _, u := range s.URLs {
		s.resolved.URLs = append(s.resolved.URLs, resolve(u))
	}
	if s.TLSCA != "" {
		pem, err := os.ReadFile(resolve(s.TLSCA))
		if err != nil {
			return fmt.Errorf("reading tls_ca: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return fmt.Errorf("tls_ca %s has no certificate", s.TLSCA)
		}
		s.resolved.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	if s.Lease != 0 && time.Duration(s.Lease) < minLease {
		return fmt.Errorf("the store redis: a lease is at least %v", minLease)
	}
	if failed != nil {
		return fmt.Errorf("the store redis: %w", failed)
	}
	return nil
}

// Key implements StoreModule. It is never shown: it has the passwords.
func (s *RedisStore) Key() string {
	c := s.resolved
	texts := []string{c.Username, c.Password, c.MasterName, s.TLSCA, c.Prefix, c.Mirror}
	return fmt.Sprintf("redis %q %q %t %v", c.URLs, texts, c.Cluster, c.Lease)
}

// OpenStore implements StoreModule.
func (s *RedisStore) OpenStore(log *zap.Logger) (presence.Store, error) {
	return redisstore.New(s.resolved, log)
}

// UnmarshalCaddyfile reads:
//
//	redis [<url...>] {
//		username    <text>
//		password    <text>
//		master_name <text>
//		cluster     [on|off]
//		tls_ca      <file>
//		prefix      <text>
//		mirror      <text>
//		lease       <duration>
//	}
func (s *RedisStore) UnmarshalCaddyfile(d *caddyconf.Dispenser) error {
	d.Next()
	s.URLs = d.RemainingArgs()
	return s.options().Read(d)
}

func (s *RedisStore) options() caddyfile.Block {
	return caddyfile.Block{
		"username":    caddyfile.String(&s.Username),
		"password":    caddyfile.String(&s.Password),
		"master_name": caddyfile.String(&s.MasterName),
		"cluster":     caddyfile.Flag(&s.Cluster),
		"tls_ca":      caddyfile.String(&s.TLSCA),
		"prefix":      caddyfile.String(&s.Prefix),
		"mirror":      caddyfile.String(&s.Mirror),
		"lease":       caddyfile.Duration(&s.Lease),
	}
}

var (
	_ StoreModule           = (*RedisStore)(nil)
	_ caddy.Provisioner     = (*RedisStore)(nil)
	_ caddyconf.Unmarshaler = (*RedisStore)(nil)
)
