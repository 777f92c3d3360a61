// Command caddy is Caddy with this module built in: the same main that xcaddy
// would generate.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/caddyserver/caddy/v2/modules/standard"
	_ "github.com/seed-57c14f3c/caddy-presence"
)

func main() {
	caddycmd.Main()
}
