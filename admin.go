package caddypresence

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// AdminAPI serves the API below /presence/ on Caddy's admin endpoint. It has no
// state: Caddy makes one for each configuration, also for those that fail, and
// a second one for the remote admin endpoint.
type AdminAPI struct{}

// CaddyModule returns the Caddy module information.
func (AdminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.presence", New: func() caddy.Module { return new(AdminAPI) }}
}

// Routes returns the routes of the API.
func (AdminAPI) Routes() []caddy.AdminRoute {
	handler := http.StripPrefix("/presence", api)
	return []caddy.AdminRoute{{
		Pattern: "/presence/",
		Handler: caddy.AdminHandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			handler.ServeHTTP(w, r)
			return nil
		}),
	}}
}

// api is the whole API, whichever door a request came by.
var api = newAPI()

// endpoint answers a request about a hub with what becomes JSON.
type endpoint func(h *liveHub, w http.ResponseWriter, r *http.Request) (any, error)

// newAPI puts each call below / for the default hub, and below /hubs/{hub}/ for
// any hub.
func newAPI() *http.ServeMux {
	calls := map[string]map[string]endpoint{
		"/push":         {http.MethodPost: push},
		"/members":      {http.MethodGet: members},
		"/members/{id}": {http.MethodGet: member, http.MethodDelete: kickMember},
		"/conns/{conn}": {http.MethodDelete: kickConn},
		"/count":        {http.MethodGet: count},
		"/stats":        {http.MethodGet: stats},
		"/nodes":        {http.MethodGet: nodes},
		"/events":       {http.MethodGet: events},
		"/ready":        {http.MethodGet: ready},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, apiErrorf(http.StatusNotFound, "no such call: %s", r.URL.Path))
	})
	for path, methods := range calls {
		allow := ""
		for method, call := range methods {
			mux.Handle(method+" "+path, call)
			mux.Handle(method+" /hubs/{hub}"+path, call)
			if allow != "" {
				allow += ", "
			}
			allow += method
		}
		refuse := func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", allow)
			writeError(w, apiErrorf(http.StatusMethodNotAllowed, "method %s is not allowed here, but %s", r.Method, allow))
		}
		mux.HandleFunc(path, refuse)
		mux.HandleFunc("/hubs/{hub}"+path, refuse)
	}
	return mux
}

// crossOrigin keeps pages in an operator's browser from using the API.
var crossOrigin = http.NewCrossOriginProtection()

// ServeHTTP finds the hub, and writes what the endpoint answers.
func (e endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := crossOrigin.Check(r); err != nil {
		writeError(w, apiErrorf(http.StatusForbidden, "%v", err))
		return
	}
	name := r.PathValue("hub")
	if name == "" {
		name = defaultHub
	}
	hub := findHub(name)
	if hub == nil {
		writeError(w, apiErrorf(http.StatusNotFound, "no hub %q is configured", name))
		return
	}
	answer, err := e(hub, w, r)
	if err != nil {
		writeError(w, err)
		return
	}
	if answer != nil {
		writeJSON(w, http.StatusOK, answer)
	}
}

// apiError is an error with its status.
type apiError struct {
	status int
	err    error
}

func (e *apiError) Error() string { return e.err.Error() }

func apiErrorf(status int, format string, args ...any) *apiError {
	return &apiError{status, fmt.Errorf(format, args...)}
}

// statusOf is the status that fits an error, and what the caller is told: what
// is not the caller's doing goes to the log in full, and to the caller without
// addresses.
func statusOf(err error) (int, string) {
	var ae *apiError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &ae):
		return ae.status, ae.Error()
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge, fmt.Sprintf("a request may have %d bytes", tooLarge.Limit)
	case errors.Is(err, presence.ErrPushTooBig):
		return http.StatusRequestEntityTooLarge, err.Error()
	case errors.Is(err, presence.ErrPushInvalid), errors.Is(err, presence.ErrBadCursor):
		return http.StatusBadRequest, err.Error()
	case errors.Is(err, presence.ErrPushConflict), errors.Is(err, presence.ErrPushPending):
		return http.StatusConflict, err.Error()
	case errors.Is(err, presence.ErrStoreUnavailable):
		return http.StatusServiceUnavailable, "the store is not available, try again"
	}
	caddy.Log().Named("presence.api").Error("request not answered", zap.Error(err))
	return http.StatusInternalServerError, "internal error"
}

func writeError(w http.ResponseWriter, err error) {
	status, text := statusOf(err)
	if status == http.StatusServiceUnavailable || errors.Is(err, presence.ErrPushPending) {
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, status, map[string]string{"error": text})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(mustJSON(v), '\n')) // the caller may be gone
}

// mustJSON encodes what always can be.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// maxPushBody is how large a request with one push may be, and one line of a
// stream.
const maxPushBody = 1 << 20

func push(h *liveHub, w http.ResponseWriter, r *http.Request) (any, error) {
	if mt, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); mt == "application/x-ndjson" {
		return nil, pushStream(h, w, r)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPushBody))
	if err != nil {
		return nil, err
	}
	p, err := presence.DecodePush(body)
	if err != nil {
		return nil, err
	}
	d, err := h.Start(r.Context(), p)
	if err != nil {
		return nil, err
	}
	result := d.Result(r.Context())
	if p.Detached() {
		writeJSON(w, http.StatusAccepted, accepted{result.ID, result.Matched})
		return nil, nil
	}
	return result, nil
}

// accepted is the answer to a push that is delivered behind it.
type accepted struct {
	ID      string `json:"id"`
	Matched int    `json:"matched"`
}

// userJSON is a user as the API shows it.
type userJSON struct {
	ID     presence.UserID `json:"id"`
	Type   string          `json:"type"`
	State  string          `json:"state"` // online or lingering
	Since  time.Time       `json:"since"`
	Member json.RawMessage `json:"member"` // of the newest connection
	Conns  []connJSON      `json:"conns"`  // newest first
}

type connJSON struct {
	Conn   presence.ConnID `json:"conn"`
	Since  time.Time       `json:"since"`
	Member json.RawMessage `json:"member,omitempty"` // unless it is the user's
}

func showUser(u *presence.User) userJSON {
	out := userJSON{
		ID: u.ID, Type: u.Member.Type, State: "online", Since: time.UnixMilli(u.Since).UTC(),
		Member: u.Member.JSON, Conns: []connJSON{},
	}
	if u.Lingering {
		out.State = "lingering"
	}
	for _, c := range u.Conns {
		shown := connJSON{Conn: c.ID, Since: time.UnixMilli(c.At).UTC()}
		if string(c.Member.JSON) != string(u.Member.JSON) {
			shown.Member = c.Member.JSON
		}
		out.Conns = append(out.Conns, shown)
	}
	return out
}

func showUsers(users []presence.User) []userJSON {
	out := make([]userJSON, 0, len(users))
	for i := range users {
		out = append(out, showUser(&users[i]))
	}
	return out
}

type pageJSON struct {
	Members []userJSON `json:"members"`
	Next    string     `json:"next,omitempty"`

	// Position, of a first page, is from where events follow what is listed.
	Position string `json:"position,omitempty"`
}

const (
	defaultPage = 100
	maxPage     = 1000
)

func members(h *liveHub, _ http.ResponseWriter, r *http.Request) (any, error) {
	query := r.URL.Query()
	for name := range query {
		switch name {
		case "type", "id", "limit", "cursor":
		default:
			return nil, apiErrorf(http.StatusBadRequest, "unknown parameter %q; expected type, id, limit or cursor", name)
		}
	}
	limit := defaultPage
	if text := query.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxPage {
			return nil, apiErrorf(http.StatusBadRequest, "limit must be a number from 1 to %d", maxPage)
		}
		limit = n
	}
	if ids := query["id"]; len(ids) > 0 {
		return membersByID(h, r, ids, query.Get("type"))
	}
	position := ""
	if query.Get("cursor") == "" {
		at, err := h.Store().Position(r.Context(), h.Name()) // before anybody is listed
		if err != nil {
			return nil, err
		}
		position = at.String()
	}
	page, err := h.Store().Members(r.Context(), h.Name(), presence.MemberQuery{
		Type: query.Get("type"), Limit: limit, Cursor: query.Get("cursor"),
	})
	if err != nil {
		return nil, err
	}
	return pageJSON{showUsers(page.Users), page.Next, position}, nil
}

func membersByID(h *liveHub, r *http.Request, texts []string, typ string) (any, error) {
	if len(texts) > maxPage {
		return nil, apiErrorf(http.StatusBadRequest, "a request may name %d ids", maxPage)
	}
	var ids []presence.UserID
	for _, text := range texts {
		id, err := presence.CheckUserID(text)
		if err != nil {
			return nil, apiErrorf(http.StatusBadRequest, "%v", err)
		}
		ids = append(ids, id)
	}
	users, err := h.Store().Lookup(r.Context(), h.Name(), ids)
	if err != nil {
		return nil, err
	}
	page := pageJSON{Members: []userJSON{}}
	for i := range users {
		if typ == "" || users[i].Member.Type == typ {
			page.Members = append(page.Members, showUser(&users[i]))
		}
	}
	return page, nil
}

// userID is the id in the path of a request.
func userID(r *http.Request) (presence.UserID, error) {
	id, err := presence.CheckUserID(r.PathValue("id"))
	if err != nil {
		return "", apiErrorf(http.StatusBadRequest, "%v", err)
	}
	return id, nil
}

func member(h *liveHub, _ http.ResponseWriter, r *http.Request) (any, error) {
	id, err := userID(r)
	if err != nil {
		return nil, err
	}
	users, err := h.Store().Lookup(r.Context(), h.Name(), []presence.UserID{id})
	if err != nil {
		return nil, err
	}
	if len(users) == 0 {
		return nil, apiErrorf(http.StatusNotFound, "user %q is not online", id)
	}
	return showUser(&users[0]), nil
}

// kicked is how many connections were ended, and how many are on nodes that
// have not confirmed it.
type kicked struct {
	Kicked      int `json:"kicked"`
	Unconfirmed int `json:"unconfirmed"`
}

func kickMember(h *liveHub, _ http.ResponseWriter, r *http.Request) (any, error) {
	id, err := userID(r)
	if err != nil {
		return nil, err
	}
	ended, unconfirmed, err := h.Kick(r.Context(), id)
	if err != nil {
		return nil, err
	}
	if ended+unconfirmed == 0 {
		return nil, apiErrorf(http.StatusNotFound, "user %q has no connection", id)
	}
	return kicked{ended, unconfirmed}, nil
}

func kickConn(h *liveHub, _ http.ResponseWriter, r *http.Request) (any, error) {
	id, err := presence.ParseConnID(r.PathValue("conn"))
	if err != nil {
		return nil, apiErrorf(http.StatusBadRequest, "%v", err)
	}
	ended, unconfirmed := h.KickByID(r.Context(), id)
	if ended+unconfirmed == 0 {
		return nil, apiErrorf(http.StatusNotFound, "there is no connection %s", id)
	}
	return kicked{ended, unconfirmed}, nil
}

func count(h *liveHub, _ http.ResponseWriter, r *http.Request) (any, error) {
	n, err := h.Store().Count(r.Context(), h.Name(), r.URL.Query().Get("type"))
	if err != nil {
		return nil, err
	}
	return map[string]int{"count": n}, nil
}

func stats(h *liveHub, _ http.ResponseWriter, _ *http.Request) (any, error) {
	return struct {
		Hub  string          `json:"hub"`
		Node presence.NodeID `json:"node"`
		presence.StatsSnapshot
	}{h.Name(), h.Store().Node(), h.Stats()}, nil
}

var _ caddy.AdminRouter = (*AdminAPI)(nil)
