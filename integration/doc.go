// Package integration starts real Caddy processes with this module, real Redis
// servers and a real browser for tests, on loopback and free ports only. It is
// what this project's own tests use, and can test a Caddyfile of yours:
//
//	func TestMine(t *testing.T) {
//		caddy := integration.Start(t, "path/to/Caddyfile")
//		ann := caddy.Dial("/ws")
//		ann.Open(`"id":7,"type":"driver"`)
//		caddy.Push(`{"to":{"ids":[7]},"data":{"hello":"world"}}`)
//		ann.Expect(`{"hello":"world"}`)
//	}
//
// The Caddyfile takes its address from the environment, with {$SITE}; further
// variables are options of Start. The admin endpoint is moved to a free port by
// itself, unless the Caddyfile sets it.
//
// The program is built from the source tree around the test, or is the one that
// the environment variable CADDY names. When a test ends, the process must hold
// no more goroutines and descriptors than after its start.
package integration
