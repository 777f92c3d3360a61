package integration

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(Root(), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestDocumentedCurl runs each curl line of the README and the API's page.
func TestDocumentedCurl(t *testing.T) {
	c := StartText(t, "{$SITE}\npresence /ws {\n\tsessions many\n}\n")
	lines := regexp.MustCompile(`(?m)^(printf .*\| )?curl .*localhost:2019.*$`)
	found := 0
	for _, file := range []string{"README.md", "docs/api.md"} {
		for _, line := range lines.FindAllString(readFile(t, file), -1) {
			found++
			ann := c.Dial("/ws")
			conn := ann.Open(`"id":7,"type":"driver"`)
			command := strings.ReplaceAll(line, "localhost:2019", strings.TrimPrefix(c.Admin, "http://"))
			command = strings.ReplaceAll(command, "aknth6epa2ht.1", conn)
			command = strings.Replace(command, "curl", "curl --fail-with-body --silent --show-error", 1)
			command, stream := strings.CutSuffix(command, "/events")
			if stream { // which does not end
				command += "/events --max-time 1 || true"
			}
			out, err := exec.Command("bash", "-c", command).CombinedOutput()
			begins := map[bool]string{false: "{", true: "id: "}[stream]
			if err != nil || !bytes.HasPrefix(out, []byte(begins)) || bytes.Contains(out, []byte(`"error"`)) {
				t.Errorf("%s: %s\n%v\n%s", file, line, err, out)
			}
			ann.Cut()
		}
	}
	if found < 10 {
		t.Errorf("only %d lines were found", found)
	}
}

// TestDocumentedCaddyfiles adapts the Caddyfiles of the documents.
func TestDocumentedCaddyfiles(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```(?:caddyfile)?\n((?:\\{\n\tpresence|app.example.com).*?)```")
	for _, file := range []string{"README.md", "docs/caddyfile.md", "docs/actions.md"} {
		found := blocks.FindAllStringSubmatch(readFile(t, file), -1)
		if len(found) == 0 {
			t.Errorf("%s has no Caddyfile", file)
		}
		for _, block := range found {
			path := WriteFile(t, "Caddyfile", block[1])
			if out, err := exec.Command(Program(t), "adapt", "--config", path, "--adapter", "caddyfile").CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s\n%s", file, err, block[1], out)
			}
			if out, err := exec.Command(Program(t), "fmt", "--diff", path).CombinedOutput(); err != nil {
				t.Errorf("%s is not formatted: %s\n%s", file, out, block[1])
			}
		}
	}
}

// TestLinks sees that what the documents link to is there.
func TestLinks(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(Root(), "docs/*.md"))
	for _, file := range append(files, filepath.Join(Root(), "README.md"), filepath.Join(Root(), "xcaddy.md")) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range regexp.MustCompile(`\]\(([^)#]+)`).FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), link[1])); err != nil {
				t.Errorf("%s links to %s", file, link[1])
			}
		}
	}
}

// TestImports keeps the domain free of Caddy, and the store contract of stores.
func TestImports(t *testing.T) {
	for pkg, not := range map[string][]string{
		"./presence":            {"caddyserver", "coder/websocket", "redis"},
		"./presence/memstore":   {"caddyserver", "coder/websocket", "redis"},
		"./presence/redisstore": {"caddyserver", "coder/websocket"},
		"./presence/socket":     {"caddyserver", "go-redis"},
		"./presence/storetest":  {"caddyserver", "go-redis", "memstore", "redisstore"},
		"./caddyfile":           {"seed-57c14f3c/caddy-presence/presence"},
	} {
		cmd := exec.Command("go", "list", "-deps", pkg)
		cmd.Dir = Root()
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		for dep := range strings.SplitSeq(string(out), "\n") {
			for _, n := range not {
				if strings.Contains(dep, n) && !strings.HasSuffix(dep, strings.TrimPrefix(pkg, ".")) {
					t.Errorf("%s imports %s: the domain must be usable, and testable, without it", pkg, dep)
				}
			}
		}
	}
}
