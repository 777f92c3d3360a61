package redisstore

import (
	"hash/fnv"
	"strconv"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

const (
	// partitions spreads the users of a hub over the slots of a Cluster.
	partitions = 64

	// schema is the version of keys and records.
	schema = 1

	// plainHub is the hub whose keys do not name it.
	plainHub = "default"
)

func partitionOf(id string) int {
	f := fnv.New32a()
	_, _ = f.Write([]byte(id)) // never fails
	return int(f.Sum32() % partitions)
}

// key is the name of a key of a hub's partition.
func (s *Store) key(hub string, partition int, name string) string {
	if hub == plainHub {
		hub = ""
	} else {
		hub += ":"
	}
	return s.prefix + ":" + hub + "{p" + strconv.Itoa(partition) + "}:" + name
}

// keys are the keys that prelude.lua names.
func (s *Store) keys(hub string, partition int) []string {
	return []string{
		s.key(hub, partition, "u"), s.key(hub, partition, "t"), s.key(hub, partition, "m"),
		s.key(hub, partition, "g"), s.key(hub, partition, "f"), s.key(hub, partition, "ev"),
		s.key(hub, partition, "o"), s.key(hub, partition, "r"),
	}
}

// global is the name of a key of the whole store.
func (s *Store) global(name string) string { return s.prefix + ":{g}:" + name }

// claimKey is the name of the key for an idempotency key.
func (s *Store) claimKey(hub, key string) string {
	return s.key(hub, partitionOf(key), "k:"+key)
}

func partition(id presence.UserID) int { return partitionOf(string(id)) }
