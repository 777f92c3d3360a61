package caddypresence

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/seed-57c14f3c/caddy-presence/caddyfile"
	"github.com/seed-57c14f3c/caddy-presence/presence"
)

// TestOptions sees that each option of a Caddyfile is a JSON field of the same
// name, a line of docs/caddyfile.md, and part of a good and a bad fixture.
func TestOptions(t *testing.T) {
	docs := read(t, "docs/caddyfile.md")
	fixtures := ""
	files, _ := filepath.Glob("caddyfile/testdata/adapt/*.caddyfiletest")
	for _, f := range files {
		fixtures += read(t, f)
	}
	for _, module := range []struct {
		value   any
		options caddyfile.Block
		not     []string // JSON fields that are arguments in a Caddyfile
	}{
		{App{}, new(App).options(), nil},
		{Handler{}, new(Handler).options(), nil},
		{RedisStore{}, new(RedisStore).options(), []string{"urls"}},
	} {
		var fields []string
		for _, f := range reflect.VisibleFields(reflect.TypeOf(module.value)) {
			if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && !slices.Contains(module.not, name) {
				fields = append(fields, name)
			}
		}
		slices.Sort(fields)
		if names := module.options.Names(); !slices.Equal(fields, names) {
			t.Errorf("%T has the JSON fields %v and the options %v", module.value, fields, names)
		}
		for _, name := range module.options.Names() {
			if !strings.Contains(docs, "| `"+name+"` |") {
				t.Errorf("option %s is not in docs/caddyfile.md", name)
			}
			if !strings.Contains(fixtures, "\t"+name+" ") {
				t.Errorf("option %s is in no fixture", name)
			}
		}
	}
}

// TestCodes sees that each code is in docs/protocol.md.
func TestCodes(t *testing.T) {
	docs := read(t, "docs/protocol.md")
	for _, code := range presence.ErrorCodes {
		if !strings.Contains(docs, "| `"+string(code)+"` |") {
			t.Errorf("error code %s is not documented", code)
		}
	}
	source := read(t, "presence/code.go")
	for line := range strings.SplitSeq(source, "\n") {
		if _, rest, ok := strings.Cut(line, "CloseCode = "); ok && !strings.Contains(docs, rest[:4]) {
			t.Errorf("close code %s is not documented", rest[:4])
		}
		if _, rest, ok := strings.Cut(line, `ErrorCode = "`); ok {
			if code := rest[:strings.Index(rest, `"`)]; !slices.Contains(presence.ErrorCodes, presence.ErrorCode(code)) {
				t.Errorf("error code %s is not in ErrorCodes", code)
			}
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
