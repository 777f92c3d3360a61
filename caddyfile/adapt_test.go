package caddyfile_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/seed-57c14f3c/caddy-presence"
)

var update = flag.Bool("update", false, "write what Caddyfiles adapt to into the fixtures")

const separator = "\n----------\n"

// TestAdapt adapts each fixture: a Caddyfile, a line of ten dashes, and the JSON
// that is expected or, if that is no JSON, a piece of the error. With -update, the
// JSON is rewritten, also where nothing stands yet; errors are not.
func TestAdapt(t *testing.T) {
	files, err := filepath.Glob("testdata/adapt/*.caddyfiletest")
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".caddyfiletest"), func(t *testing.T) { testAdapt(t, file) })
	}
}

func testAdapt(t *testing.T, file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	input, want, ok := strings.Cut(string(data), separator)
	if !ok {
		t.Fatal("the fixture has no line of ten dashes")
	}
	want = strings.TrimSpace(want)
	if want == "" && !*update { // every error would hold it
		t.Fatal("the fixture expects nothing: run with -update, or write a piece of the error")
	}
	got, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(input+"\n"), map[string]any{"filename": "Caddyfile"})
	for _, w := range warnings {
		t.Errorf("warning: %s", w)
	}
	// A JSON with a mistake is a JSON too: it must not pass for an error's text.
	if want != "" && !strings.HasPrefix(want, "{") {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want %s", err, want)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if pretty := indented(t, got); !*update {
		if want := indented(t, []byte(want)); pretty != want {
			t.Errorf("got\n%s\nwant\n%s", pretty, want)
		}
	} else if err := os.WriteFile(file, []byte(input+separator+pretty+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

func indented(t *testing.T, data []byte) string {
	t.Helper()
	var out bytes.Buffer
	if err := json.Indent(&out, data, "", "\t"); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	return out.String()
}
