package redisstore

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Config says which Redis keeps presence, and under which names.
type Config struct {
	// URLs are where Redis is: redis://user:password@host:port/db, the same with
	// rediss:// for TLS, or unix:///path?db=n. Several are the nodes of a Cluster
	// or, with MasterName, the Sentinels; user, password, db and TLS are taken
	// from the first. Default: redis://localhost:6379.
	URLs []string

	// Username and Password, if given, are used instead of those in the URL.
	Username, Password string

	// MasterName makes the URLs those of Sentinels.
	MasterName string

	// Cluster makes a single URL that of a Cluster.
	Cluster bool

	// TLS, if not nil, is used for rediss:// instead of the system's defaults.
	TLS *tls.Config

	// Prefix begins the name of every key. Default: presence.
	Prefix string

	// Mirror, if not empty, names a hash that is kept beside: connection id →
	// member, live connections only, for programs that read such a hash.
	Mirror string

	// Lease is after how long without a sign of life a node is declared dead.
	// Default: 10 seconds.
	Lease time.Duration

	// Timeout is how long a call may take. Default: 1 second.
	Timeout time.Duration
}

const (
	defaultURL     = "redis://localhost:6379"
	defaultPrefix  = "presence"
	defaultTimeout = time.Second
	poolSize       = 16

	// idleTime is how long a connection is kept that nobody needs. A network that
	// was away may have forgotten all of them without a word: each would cost a
	// call its whole time to find that out (measured: 10 s until Redis was used
	// again).
	idleTime = 3 * time.Second
)

// plainKey is what prefixes and mirrors may be: a brace would move keys to
// other slots.
var plainKey = regexp.MustCompile(`^[^{}\s]{1,128}$`)

// clientOptions turns the config into what go-redis takes. Its errors never
// tell a password.
func (c *Config) clientOptions() (*redis.UniversalOptions, error) {
	urls := c.URLs
	if len(urls) == 0 {
		urls = []string{defaultURL}
	}
	first, err := parseURL(urls[0])
	if err != nil {
		return nil, err
	}
	o := &redis.UniversalOptions{
		Addrs: []string{first.Addr}, DB: first.DB, TLSConfig: first.TLSConfig,
		Username: first.Username, Password: first.Password,
		MasterName: c.MasterName, IsClusterMode: c.Cluster,
	}
	for _, text := range urls[1:] {
		more, err := parseURL(text)
		if err != nil {
			return nil, err
		}
		o.Addrs = append(o.Addrs, more.Addr)
	}
	if o.TLSConfig != nil && c.TLS != nil {
		o.TLSConfig = c.TLS
	}
	if c.Username != "" {
		o.Username = c.Username
	}
	if c.Password != "" {
		o.Password = c.Password
	}
	if (c.Cluster || len(o.Addrs) > 1 && c.MasterName == "") && o.DB != 0 {
		return nil, errors.New("a Redis Cluster has database 0 only")
	}
	c.bound(o)
	return o, nil
}

// bound limits how long anything may take, and how often it is tried: go-redis
// by default sends a command again whose reply was lost, and does not look at
// the context while it waits for the network.
func (c *Config) bound(o *redis.UniversalOptions) {
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = c.Timeout, c.Timeout, c.Timeout, c.Timeout
	o.DialerRetries = 1
	o.MaxRetries = -1
	o.ContextTimeoutEnabled = true
	o.PoolSize = poolSize
	o.ConnMaxIdleTime = idleTime
	o.ClientName = "caddy-presence"
	o.DisableIdentity = true // it would take one more right
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

func parseURL(text string) (*redis.Options, error) {
	o, err := redis.ParseURL(text)
	if err == nil {
		return o, nil
	}
	shown := "the URL"
	if u, parseErr := url.Parse(text); parseErr == nil {
		shown = u.Redacted()
	} else {
		// The text of the parser would repeat the URL with its password.
		err = errors.New("it cannot be parsed")
	}
	return nil, fmt.Errorf("%s is no Redis URL such as redis://localhost:6379/0: %w", shown, err)
}
