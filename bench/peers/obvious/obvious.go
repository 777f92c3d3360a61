// Package obvious is the presence server that one writes first with
// coder/websocket: a goroutine that reads for each connection, a map of who is
// there, and Write in a loop to reach them.
package obvious

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/coder/websocket"
)

// Server knows who is online.
type Server struct {
	mu      sync.Mutex // guards the field below
	members map[string]*member
}

type member struct {
	conn *websocket.Conn
	info json.RawMessage // the open frame
}

// Connect serves a WebSocket until it ends.
func (s *Server) Connect(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered
	}
	defer conn.CloseNow()
	var id string
	for {
		_, text, err := conn.Read(r.Context())
		if err != nil {
			break
		}
		if string(text) == "ping" {
			err = conn.Write(context.Background(), websocket.MessageText, []byte("pong"))
		} else {
			id, err = s.open(conn, text)
		}
		if err != nil {
			break
		}
	}
	s.leave(id, conn)
}

// open puts a user online, and answers with the frame's ref.
func (s *Server) open(conn *websocket.Conn, text []byte) (string, error) {
	var frame struct {
		Action string          `json:"action"`
		ID     string          `json:"id"`
		Ref    json.RawMessage `json:"ref"`
	}
	if err := json.Unmarshal(text, &frame); err != nil {
		return "", err
	}
	if frame.Action != "open" || frame.ID == "" {
		return "", errors.New("no open frame")
	}
	s.mu.Lock()
	if s.members == nil {
		s.members = make(map[string]*member)
	}
	s.members[frame.ID] = &member{conn, text}
	s.mu.Unlock()
	reply := fmt.Appendf(nil, `{"action":"reply","ref":%s,"ok":true}`, frame.Ref)
	return frame.ID, conn.Write(context.Background(), websocket.MessageText, reply)
}

// leave takes a user offline, unless it came back on another connection.
func (s *Server) leave(id string, conn *websocket.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.members[id]; m != nil && m.conn == conn {
		delete(s.members, id)
	}
}

// Push sends the text of a request to the users it names.
func (s *Server) Push(w http.ResponseWriter, r *http.Request) {
	var push struct {
		To struct {
			IDs []string `json:"ids"`
			All bool     `json:"all"`
		} `json:"to"`
		Text string `json:"text"`
	}
	if err := json.NewDecoder(r.Body).Decode(&push); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	sent := 0
	for _, conn := range s.find(push.To.IDs, push.To.All) {
		if conn.Write(context.Background(), websocket.MessageText, []byte(push.Text)) == nil {
			sent++
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"sent":%d}`, sent)
}

// find copies the connections, so that no lock is held while they are written to.
func (s *Server) find(ids []string, all bool) []*websocket.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	var conns []*websocket.Conn
	if all {
		for _, m := range s.members {
			conns = append(conns, m.conn)
		}
		return conns
	}
	for _, id := range ids {
		if m := s.members[id]; m != nil {
			conns = append(conns, m.conn)
		}
	}
	return conns
}
