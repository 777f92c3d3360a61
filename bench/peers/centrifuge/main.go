// Command centrifuge is a small server on the library Centrifuge, with its broker
// in memory: each user is subscribed to a channel of its own and to a common one.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net/http"

	"github.com/centrifugal/centrifuge"
)

// common is the channel that all users have.
const common = "all"

func main() {
	address := flag.String("listen", "127.0.0.1:8080", "where to listen")
	flag.Parse()
	node, err := centrifuge.New(centrifuge.Config{})
	if err != nil {
		log.Fatal(err)
	}
	node.OnConnecting(connecting)
	node.OnConnect(func(client *centrifuge.Client) {
		// The library's protocol has no ping from a client: an empty call is the
		// smallest message that is answered.
		client.OnRPC(func(_ centrifuge.RPCEvent, done centrifuge.RPCCallback) {
			done(centrifuge.RPCReply{}, nil)
		})
	})
	if err := node.Run(); err != nil {
		log.Fatal(err)
	}
	http.Handle("GET /ws", centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{}))
	http.HandleFunc("POST /presence/push", func(w http.ResponseWriter, r *http.Request) { push(node, w, r) })
	log.Fatal(http.ListenAndServe(*address, nil))
}

// connecting takes who the user is from what the client connects with.
func connecting(_ context.Context, e centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
	var member struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(e.Data, &member); err != nil || member.ID == "" {
		return centrifuge.ConnectReply{}, centrifuge.ErrorBadRequest
	}
	return centrifuge.ConnectReply{
		Credentials: &centrifuge.Credentials{UserID: member.ID, Info: e.Data},
		Subscriptions: map[string]centrifuge.SubscribeOptions{
			"user:" + member.ID: {},
			common:              {EmitPresence: true},
		},
	}, nil
}

// push publishes the text of a request to the channels of the users it names.
func push(node *centrifuge.Node, w http.ResponseWriter, r *http.Request) {
	var push struct {
		To struct {
			IDs []string `json:"ids"`
			All bool     `json:"all"`
		} `json:"to"`
		Text json.RawMessage `json:"text"`
	}
	if err := json.NewDecoder(r.Body).Decode(&push); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var channels []string
	if push.To.All {
		channels = []string{common}
	}
	for _, id := range push.To.IDs {
		channels = append(channels, "user:"+id)
	}
	for _, channel := range channels {
		if _, err := node.Publish(channel, push.Text); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"channels":%d}`, len(channels))
}
