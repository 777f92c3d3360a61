package socket

import "time"

// Renew says that the identity of the connection expires at another time. It may
// be called concurrently.
func (c *Conn) Renew(expires time.Time) { c.expires.Store(expires.UnixMilli()) }
