package integration

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// startProcess starts a backend of an example, waits until it listens, and
// returns what it prints. It is stopped with the test.
func startProcess(t *testing.T, addr string, cmd *exec.Cmd) *logBuffer {
	t.Helper()
	out := new(logBuffer)
	cmd.Dir, cmd.Stdout, cmd.Stderr = Root(), out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) // its children too
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("output of %s:\n%s", cmd.Path, out)
		}
	})
	Eventually(t, func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, func() string { return "the backend does not listen:\n" + out.String() })
	return out
}

// needed returns the path of a program, or skips the test; in CI it fails.
func needed(t *testing.T, names ...string) string {
	t.Helper()
	for _, name := range names {
		if found, _ := filepath.Glob("/usr/sbin/" + name); len(found) > 0 {
			return found[len(found)-1]
		}
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%v is not installed: run make deps", names)
	}
	t.Skipf("%v is not installed", names)
	return ""
}

// example starts Caddy with an example's Caddyfile.
func example(t *testing.T, name, backend string) *Caddy {
	t.Helper()
	return Start(t, filepath.Join(Root(), "examples", name, "Caddyfile"), "BACKEND="+backend)
}

func TestExamplePHP(t *testing.T) {
	addr := FreeAddr(t)
	conf := WriteFile(t, "php-fpm.conf", strings.Replace(readFile(t, "examples/php/php-fpm.conf"), "127.0.0.1:9000", addr, 1))
	out := startProcess(t, addr, exec.Command(needed(t, "php-fpm*"), "-R", "--fpm-config", conf))
	c := example(t, "php", addr)
	testOrders(t, c, out)
	t.Run("browser", func(t *testing.T) { testOrdersPage(t, c) })
}

func TestExampleNode(t *testing.T) {
	c, out := exampleServer(t, "node", needed(t, "node"), "examples/node/backend.mjs")
	testOrders(t, c, out)
}

func TestExamplePython(t *testing.T) {
	c, out := exampleServer(t, "python", needed(t, "python3"), "examples/python/backend.py")
	testOrders(t, c, out)
}

func exampleServer(t *testing.T, name, program, script string) (*Caddy, *logBuffer) {
	t.Helper()
	addr := FreeAddr(t)
	c := example(t, name, addr)
	cmd := exec.Command(program, script)
	cmd.Env = append(os.Environ(), "PORT="+addr[strings.IndexByte(addr, ':')+1:], "PRESENCE_API="+c.Admin+"/presence")
	return c, startProcess(t, addr, cmd)
}

// testOrders is the scenario of the examples: drivers and riders come online, an
// order is pushed to the drivers, one accepts, the rider is told.
func testOrders(t *testing.T, c *Caddy, out *logBuffer) {
	ann, bob, rita := c.Dial("/ws"), c.Dial("/ws"), c.Dial("/ws")
	ann.Open(`"id":"ann","type":"driver","name":"Ann","phone":"+1"`)
	bob.Open(`"id":"bob","type":"driver"`)
	rita.Open(`"id":7,"type":"rider"`)
	rita.Send(`{"action":"order","ref":1,"from":"Station","to":"Flughafen Köln"}`)
	var push struct {
		Event, Driver string
		Order         struct{ ID, Rider, From, To string }
	}
	for _, driver := range []*Client{ann, bob} {
		if got := driver.Next(); json.Unmarshal([]byte(got), &push) != nil || push.Event != "order" || push.Order.Rider != "7" || push.Order.To != "Flughafen Köln" {
			t.Fatalf("a driver got %s", got)
		}
	}
	rita.expectReply(1, `"drivers":2`)
	rita.Send(fmt.Sprintf(`{"action":"accept","ref":2,"order":%q,"rider":"7"}`, push.Order.ID))
	if got := rita.Next(); !strings.Contains(got, `"code":"refused"`) || !strings.Contains(got, `"status":403`) || !strings.Contains(got, "only drivers") {
		t.Errorf("a rider that accepts is answered %s", got)
	}
	ann.Send(fmt.Sprintf(`{"action":"accept","ref":3,"order":%q,"rider":"7"}`, push.Order.ID))
	if got := rita.Next(); !strings.Contains(got, "accepted") || !strings.Contains(got, push.Order.ID) || !strings.Contains(got, "ann") {
		t.Errorf("the rider got %s", got)
	}
	ann.expectReply(3, `"told":true`)
	ann.Send(`{"action":"otherEvent","n":1}`) // as the PHP program's client sends it
	if got := ann.Next(); !strings.Contains(got, `"ann"`) || !strings.Contains(got, "otherEvent") {
		t.Errorf("otherEvent is answered %s", got)
	}
	bob.Close(1000)
	Eventually(t, func() bool {
		return strings.Contains(out.String(), "driver bob is offline") && strings.Contains(out.String(), "rider 7 is online")
	}, func() string { return "the backend was not told:\n" + out.String() })
}

// expectReply wants the next frame to be a reply that holds a text, spaces aside.
func (c *Client) expectReply(ref int, text string) {
	c.t.Helper()
	got := strings.ReplaceAll(c.Next(), " ", "")
	if !strings.HasPrefix(got, fmt.Sprintf(`{"action":"reply","ref":%d,"ok":true,"data":{`, ref)) || !strings.Contains(got, text) {
		c.t.Fatalf("got %s, want a reply with %s", got, text)
	}
}

// testOrdersPage does the same in two tabs, as the READMEs say.
func testOrdersPage(t *testing.T, c *Caddy) {
	browser := StartBrowser(t)
	driver, rider := browser.Open(t, c.URL+"/"), browser.Open(t, c.URL+"/")
	for tab, who := range map[*Tab]string{driver: "driver", rider: "rider"} {
		tab.Eval(fmt.Sprintf("(type.value = '%s', id.value = 'the %s', login.requestSubmit())", who, who))
		tab.Expect("state.textContent", `"online"`)
	}
	rider.Eval("order.requestSubmit()")
	driver.Expect("news.innerText.includes('the rider: Station → Airport')", "true")
	rider.Expect("news.innerText.includes('drivers were told')", "true")
	driver.Eval("news.querySelector('button').click()")
	rider.Expect("news.innerText.includes('the driver is on the way')", "true")
	driver.Expect("news.innerText.includes('accepted')", "true")
	rider.Screenshot("orders", 390, 600)
}
