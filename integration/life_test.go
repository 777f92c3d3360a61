package integration

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore/redistest"
)

// TestReload keeps the connections over reloads, gives them new settings, and
// does nothing for a configuration that cannot be loaded.
func TestReload(t *testing.T) {
	site := func(option string) string {
		return WriteFile(t, "Caddyfile", "{$SITE}\npresence /ws {\n\t"+option+"\n}\n")
	}
	c := Start(t, site("max_message_size 1KiB"))
	const clients = 50
	var all []*Client
	for n := range clients {
		cl := c.Dial("/ws")
		cl.Open(fmt.Sprintf(`"id":%d`, n))
		all = append(all, cl)
	}
	for range 3 {
		c.Reload(site("max_message_size 2KiB"))
	}
	if out, err := c.TryReload(site("max_queue 1KiB")); err == nil || !strings.Contains(out, "max_queue: expected at least 65536 bytes") {
		t.Errorf("a configuration with an option out of bounds: %v, %s", err, out)
	}
	// Its HTTP app cannot start, after ours was provisioned.
	busy := WriteFile(t, "Caddyfile", "{$SITE}\npresence /ws {\n\tmax_message_size 10\n}\nhttp://127.0.0.1:1 {\n\tbind 192.0.2.1\n}\n")
	if out, err := c.TryReload(busy); err == nil {
		t.Errorf("a configuration whose address cannot be bound was loaded: %s", out)
	}
	long := strings.Repeat("x", 1500)
	for n, cl := range all {
		cl.Send(`{"action":"none","text":"` + long + `"}`)
		cl.ExpectError("unknown_action")
		if n == 0 {
			cl.Send(long + long)
			cl.ExpectClosed(1009)
		}
	}
	if r := c.Push(`{"to":{"all":true},"text":"still here"}`); r.Sent != clients-1 {
		t.Errorf("a push after reloads: %+v", r)
	}
	for _, cl := range all[1:] {
		cl.Expect("still here")
	}
}

// TestHubGone reloads without the hub of some connections.
func TestHubGone(t *testing.T) {
	c := StartText(t, "{$SITE}\npresence /a {\n\thub a\n}\npresence /b {\n\thub b\n}\n")
	a, b := c.Dial("/a"), c.Dial("/b")
	a.Open(`"id":7`)
	b.Open(`"id":7`)
	c.Reload(WriteFile(t, "Caddyfile", "{$SITE}\npresence /b {\n\thub b\n}\n"))
	a.ExpectClosed(1001)
	b.ExpectNothing()
	if status, _ := c.Call("GET", "/presence/hubs/a/count", ""); status != 404 {
		t.Errorf("the hub that is gone: status %d", status)
	}
}

func TestSameHubTwice(t *testing.T) {
	c := StartText(t, "{$SITE} {\n\tpresence /ws\n}\nhttp://127.0.0.2:0 {\n\tpresence /ws\n}\n")
	out, err := c.TryReload(WriteFile(t, "Caddyfile", "{$SITE}\npresence /a\npresence /b {\n\tsessions many\n}\n"))
	if err == nil || !strings.Contains(out, `hub \\\"default\\\" is set up twice with different options`) {
		t.Errorf("got %v, %s", err, out)
	}
}

// TestStop drains: all are told to come back, and stay listed for other nodes.
func TestStop(t *testing.T) {
	redis := redistest.Start(t)
	c := StartText(t, "{\n\tpresence {\n\t\tstore redis {$REDIS}\n\t\tdrain 300ms\n\t}\n}\n{$SITE}\npresence /ws\n", "REDIS="+redis.URL())
	var all []*Client
	for n := range 20 {
		cl := c.Dial("/ws")
		cl.Open(fmt.Sprintf(`"id":%d`, n))
		all = append(all, cl)
	}
	c.Stop()
	for _, cl := range all {
		cl.ExpectClosed(1012)
	}
	next := StartText(t, "{\n\tpresence {\n\t\tstore redis {$REDIS}\n\t}\n}\n{$SITE}\npresence /ws\n", "REDIS="+redis.URL())
	if got := next.State("7"); got != "lingering" {
		t.Errorf("a user of the node that stopped is %s", got)
	}
	back := next.Dial("/ws")
	back.Open(`"id":7`)
	if got := next.State("7"); got != "online" {
		t.Errorf("a user who came back is %s", got)
	}
}

// TestReloadToAnotherStore moves the members over.
func TestReloadToAnotherStore(t *testing.T) {
	redis := redistest.Start(t)
	c := StartText(t, "{$SITE}\npresence /ws\n", "REDIS="+redis.URL())
	ann := c.Dial("/ws")
	ann.Open(`"id":7`)
	c.Reload(WriteFile(t, "Caddyfile", "{\n\tpresence {\n\t\tstore redis {$REDIS} {\n\t\t\tmirror members\n\t\t}\n\t}\n}\n{$SITE}\npresence /ws\n"))
	if got := c.State("7"); got != "online" {
		t.Errorf("the user is %s", got)
	}
	if r := c.Push(`{"to":{"ids":[7]},"text":"moved"}`); r.Sent != 1 {
		t.Errorf("a push: %+v", r)
	}
	ann.Expect("moved")
	Eventually(t, func() bool { return redis.Client().HLen(t.Context(), "members").Val() == 1 },
		func() string { return "the mirror is empty" })
	c.Reload(WriteFile(t, "Caddyfile", "{$SITE}\npresence /ws\n"))
	if got := c.State("7"); got != "online" {
		t.Errorf("moved back, the user is %s", got)
	}
	Eventually(t, func() bool { return redis.Client().HLen(t.Context(), "members").Val() == 0 },
		func() string { return "the mirror is not cleaned" })
}

// TestRedisGone loses Redis under connections: they live, others open and close,
// pushes reach who is on this node and say what they could not reach, the log has
// a line, and Redis knows all when it is back.
func TestRedisGone(t *testing.T) {
	redis := redistest.Start(t)
	c := StartText(t, "{\n\tpresence {\n\t\tstore redis {$REDIS}\n\t\tgrace 100ms\n\t}\n}\n{$SITE}\npresence /ws {\n\trate_limit 0 0\n}\n", "REDIS="+redis.URL())
	ann, bob, eve := c.Dial("/ws"), c.Dial("/ws"), c.Dial("/ws")
	ann.Open(`"id":7`)
	eve.Open(`"id":9`)
	redis.Kill()
	bob.Open(`"id":8`)
	for i := range 50 {
		bob.Send(fmt.Sprintf(`{"action":"open","id":8,"n":%d,"ref":1}`, i))
		if reply := bob.Next(); !strings.Contains(reply, `"ok":true`) {
			t.Fatalf("opening without Redis: %s", reply)
		}
	}
	eve.Send(`{"action":"close","ref":2}`)
	eve.Expect(`{"action":"reply","ref":2,"ok":true}`)
	status, answer := c.Call("POST", "/presence/push", `{"to":{"ids":[7,8,10]},"text":"to ids"}`)
	for _, want := range []string{`"sent":2`, `"incomplete":true`, `"unknown":["10"]`, `"offline":[]`} {
		if status != 200 || !strings.Contains(answer, want) {
			t.Errorf("a push to ids without Redis: status %d, %s, want %s", status, answer, want)
		}
	}
	if r := c.Push(`{"to":{"all":true},"text":"to all"}`); r.Sent != 2 {
		t.Errorf("a push to all without Redis: %+v", r)
	}
	ann.Expect("to ids", "to all")
	bob.Expect("to ids", "to all")
	if status, answer := c.Call("GET", "/presence/members", ""); status != 503 {
		t.Errorf("members without Redis: status %d, %s", status, answer)
	}
	if n := strings.Count(c.Log(), "redis does not answer"); n != 1 {
		t.Errorf("the log has %d lines about it", n)
	}
	redis.Restart()
	c.expectMemberCount(2)
	c.ExpectState("8", "online")
	c.ExpectState("7", "online")
	c.ExpectState("9", "offline")
	bob.Cut()
	c.ExpectState("8", "offline")
	Eventually(t, func() bool { return strings.Contains(c.Log(), "redis answers again") },
		func() string { return "the log does not say that Redis is back" })
}

// TestRedisWrong starts with a Redis that cannot be used, and is told so.
func TestRedisWrong(t *testing.T) {
	redis := redistest.Start(t, "--requirepass", "right")
	for url, want := range map[string]string{
		"redis://" + redis.Addr:                 "NOAUTH",
		"redis://:wrong@" + redis.Addr:          "WRONGPASS",
		"redis://:right@" + redis.Addr + "/99":  "DB index is out of range",
		"http://:secret@" + redis.Addr:          "is no Redis URL such as redis://localhost:6379/0",
		"redis://:secret@" + redis.Addr + "/db": "is no Redis URL such as redis://localhost:6379/0",
	} {
		cmd := exec.Command(Program(t), "run", "--adapter", "caddyfile", "--config",
			WriteFile(t, "Caddyfile", "{\n\tadmin off\n\tpresence {\n\t\tstore redis {env.REDIS}\n\t}\n}\n:0\npresence\n"))
		cmd.Env = append(cmd.Environ(), "REDIS="+url, "HOME="+t.TempDir())
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: got %v\n%s", url, err, out)
		}
		for _, secret := range []string{"wrong@", "secret", ":right"} {
			if strings.Contains(string(out), secret) {
				t.Errorf("%s: the log tells the password\n%s", url, out)
			}
		}
	}
	addr := FreeAddr(t)
	c := StartText(t, "{\n\tpresence {\n\t\tstore redis redis://"+addr+"\n\t}\n}\n{$SITE}\npresence /ws\nrespond ok\n")
	if !strings.Contains(c.Log(), "redis does not answer") || !strings.Contains(c.Log(), addr) {
		t.Errorf("a Redis that cannot be reached: the log does not say so\n%s", c.Log())
	}
}

// TestSecretsStayPlaceholders sees that the admin API shows no password that was
// given as a placeholder.
func TestSecretsStayPlaceholders(t *testing.T) {
	redis := redistest.Start(t, "--requirepass", "right")
	c := StartText(t, "{\n\tpresence {\n\t\tstore redis redis://"+redis.Addr+" {\n\t\t\tpassword {env.SECRET}\n\t\t}\n\t}\n}\n{$SITE}\npresence /ws\n",
		"SECRET=right")
	c.Dial("/ws").Open(`"id":7`)
	if _, config := c.Call("GET", "/config/", ""); strings.Contains(config, "right") || !strings.Contains(config, "{env.SECRET}") {
		t.Errorf("the configuration is shown as %s", config)
	}
}

// TestCommands sees that Caddy's own commands know the module.
func TestCommands(t *testing.T) {
	caddy := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(Program(t), args...)
		cmd.Dir = Root()
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("caddy %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	modules := caddy("list-modules")
	for _, id := range []string{"presence", "http.handlers.presence", "http.handlers.presence_client", "admin.api.presence", "presence.stores.memory", "presence.stores.redis"} {
		if !strings.Contains(modules, id+"\n") {
			t.Errorf("module %s is not listed", id)
		}
	}
	for _, example := range []string{"quickstart", "redis"} {
		file := "examples/" + example + "/Caddyfile"
		if out := caddy("adapt", "--config", file); !strings.Contains(out, `"handler":"presence"`) {
			t.Errorf("%s adapts to %s", file, out)
		}
		caddy("validate", "--config", file)
		caddy("fmt", "--diff", file)
	}
}
