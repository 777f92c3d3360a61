package main

import (
	"bytes"
	"fmt"
)

// codec is what a server's clients speak, as far as servers differ in it. Pushed
// messages need no codec: they are told by the mark in their text.
type codec interface {
	// open is the message that puts a user online, and opened tells whether a
	// message says that it is.
	open(user int) string
	opened(message []byte) bool

	// ping is a message that is answered, and pongs counts the answers in one from
	// the server.
	ping() string
	pongs(message []byte) int

	// answer is what a message of the server wants to be answered with, or nothing.
	answer(message []byte) string
}

var codecs = map[string]codec{"presence": presence{}, "centrifuge": centrifuge{}}

// member has the fields of a user.
func member(user int) string {
	return fmt.Sprintf(`"id":%q,"type":"driver","name":"User Name %d","phone":"+86138%08d"`, userID(user), user, user)
}

func userID(user int) string { return fmt.Sprintf("user%d", user) }

// presence is this module's protocol, which the small servers speak as well.
type presence struct{}

func (presence) open(user int) string {
	return `{"action":"open",` + member(user) + `,"ref":1}`
}

func (presence) opened(message []byte) bool { return bytes.Contains(message, []byte(`"ok":true`)) }
func (presence) ping() string               { return "ping" }
func (presence) answer([]byte) string       { return "" }

func (presence) pongs(message []byte) int {
	if string(message) == "pong" {
		return 1
	}
	return 0
}

// centrifuge is the JSON protocol of Centrifuge. A message of the server can hold
// several replies, a line each.
type centrifuge struct{}

func (centrifuge) open(user int) string {
	return `{"id":1,"connect":{"data":{` + member(user) + `}}}`
}

func (centrifuge) opened(message []byte) bool { return bytes.Contains(message, []byte(`"client":`)) }
func (centrifuge) ping() string               { return `{"id":2,"rpc":{"method":"ping"}}` }
func (centrifuge) pongs(message []byte) int   { return bytes.Count(message, []byte(`"rpc":`)) }

// answer answers the server's ping, an empty object.
func (centrifuge) answer(message []byte) string {
	if string(bytes.TrimSpace(message)) == "{}" {
		return "{}"
	}
	return ""
}
