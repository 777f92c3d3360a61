package integration

import (
	"net/http"
	"os/exec"
	"strings"
	"testing"
)

// TestBasicAuth takes the identity and the member's fields from a login of Caddy.
func TestBasicAuth(t *testing.T) {
	hash, err := exec.Command(Program(t), "hash-password", "--plaintext", "secret").Output()
	if err != nil {
		t.Fatal(err)
	}
	c := StartText(t, `{$SITE}
basic_auth {
	ann `+strings.TrimSpace(string(hash))+`
}
presence /ws {
	identity {http.auth.user.id}
	member_from {
		type driver
		name "{http.auth.user.id} of {http.request.host}"
		phone {http.auth.user.phone}
	}
}
`)
	if _, res, err := c.TryDial("/ws"); err == nil || res.StatusCode != http.StatusUnauthorized {
		t.Fatalf("without a login: %v, %v", res, err)
	}
	ann := c.Dial("/ws", "Authorization: Basic YW5uOnNlY3JldA==")
	ann.Send(`{"action":"open","id":7}`)
	ann.ExpectError("identity_mismatch")
	ann.Open(`"type":"admin","name":"Eve","phone":"+1","car":"VW"`)
	_, answer := c.Call(http.MethodGet, "/presence/members/ann", "")
	if want := `"member":{"car":"VW","name":"ann of 127.0.0.1","type":"driver","id":"ann"}`; !strings.Contains(answer, want) {
		t.Errorf("the member is %s, want %s", answer, want)
	}
}

// TestForwardAuth takes them from a login service.
func TestForwardAuth(t *testing.T) {
	b := StartBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Cookie") != "session=ann" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Remote-User", "7")
		w.Header().Set("Remote-Role", "driver")
	})
	c := StartText(t, `{$SITE}
forward_auth `+b.Addr+` {
	uri /auth
	copy_headers Remote-User Remote-Role
}
presence /ws {
	identity {http.request.header.Remote-User}
	member_from {
		type {http.request.header.Remote-Role}
	}
}
`)
	if _, res, err := c.TryDial("/ws", "Remote-User: 7"); err == nil || res.StatusCode != http.StatusUnauthorized {
		t.Fatalf("without a login: %v, %v", res, err)
	}
	ann := c.Dial("/ws", "Cookie: session=ann", "Remote-User: 8", "Remote-Role: admin")
	ann.Open(`"type":"admin"`)
	if r := c.Push(`{"to":{"types":["driver"]},"text":"x"}`); r.Sent != 1 {
		t.Errorf("the push: %+v", r)
	}
	ann.Expect("x")
	if got := c.State("7"); got != "online" {
		t.Errorf("user 7 is %s", got)
	}
}
