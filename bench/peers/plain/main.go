// Command plain is the obvious server under net/http.
package main

import (
	"flag"
	"log"
	"net/http"

	"github.com/seed-57c14f3c/caddy-presence/bench/peers/obvious"
)

func main() {
	address := flag.String("listen", "127.0.0.1:8080", "where to listen")
	flag.Parse()
	var server obvious.Server
	http.HandleFunc("GET /ws", server.Connect)
	http.HandleFunc("POST /presence/push", server.Push)
	log.Fatal(http.ListenAndServe(*address, nil))
}
