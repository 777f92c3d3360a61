package integration

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore/redistest"
)

// TestQuickstart does what the README tells a person to do: two tabs, and the
// curl line that the page shows.
func TestQuickstart(t *testing.T) {
	browser := StartBrowser(t)
	t.Run("memory", func(t *testing.T) { quickstart(t, browser, Start(t, Root()+"/examples/quickstart/Caddyfile")) })
	t.Run("redis", func(t *testing.T) {
		redis := redistest.Start(t)
		quickstart(t, browser, Start(t, Root()+"/examples/redis/Caddyfile", "REDIS_URL="+redis.URL()+"/5"))
	})
}

func quickstart(t *testing.T, browser *Browser, c *Caddy) {
	ann, bob := browser.Open(t, c.URL+"/"), browser.Open(t, c.URL+"/")
	for n, tab := range []*Tab{ann, bob} {
		tab.Eval(fmt.Sprintf("(id.value = 'user%d', document.getElementById('name').value = 'Name %d', id.dispatchEvent(new Event('input')), go.click())", n, n))
		tab.Expect("state.dataset.state", `"online"`)
	}
	for _, tab := range []*Tab{ann, bob} {
		tab.Expect("members.innerText.includes('Name 0') && members.innerText.includes('Name 1')", "true")
	}
	// The line as it stands on the page, but for the port of this test.
	line := strings.Trim(ann.Eval("curl.textContent"), `"`)
	line = strings.ReplaceAll(strings.ReplaceAll(line, `\"`, `"`), "localhost:2019", strings.TrimPrefix(c.Admin, "http://"))
	if out, err := exec.Command("bash", "-c", line).CombinedOutput(); err != nil || !strings.Contains(string(out), `"sent":1`) {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	ann.Expect("pushes.innerText.includes('hello')", "true")
	if got := bob.Eval("pushes.innerText"); got != `""` {
		t.Errorf("the other tab shows %s", got)
	}
	ann.Screenshot("quickstart-wide", 1100, 800)
	ann.Screenshot("quickstart-phone", 390, 844)
	bob.Close()
	ann.Expect("members.innerText.includes('lost')", "true")
}
