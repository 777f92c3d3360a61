// Package socket carries connections over WebSocket (RFC 6455), with
// github.com/coder/websocket. It upgrades a request and leaves ServeHTTP, reads
// messages and gives them to the hub, writes what the hub sends without ever
// blocking it, watches for signs of life, and closes orderly.
//
// # Writing
//
// A message is encoded once, and its frame written whole below the library,
// under the connection's write lock. That is safe because the library itself
// writes only control frames, each in one Write, and that Write is ours: it
// takes the same lock. What the network does not take at once goes to a queue;
// a goroutine that flushes it lives only while the queue holds something.
//
// # Reading
//
// One goroutine reads, and is the only one that calls Hub.Receive and
// Hub.Detach for its connection.
//
// # Locks
//
// wire.mu is taken last: nothing is called under it that takes another lock.
package socket
