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
// that is expected or, if that is no JSON, a piece of the error.
func TestAdapt(t *testing.T) {
	files, err := filepath.Glob("testdata/adapt/*.caddyfiletest")
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".caddyfiletest"), func(t *testing.T) { adapt(t, file) })
	}
}

func adapt(t *testing.T, file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	input, want, ok := strings.Cut(string(data), separator)
	if !ok {
		t.Fatal("the fixture has no line of ten dashes")
	}
	want = strings.TrimSpace(want)
	got, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(input+"\n"), map[string]any{"filename": "Caddyfile"})
	for _, w := range warnings {
		t.Errorf("warning: %s", w)
	}
	if !strings.HasPrefix(want, "{") && !*update {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want %s", err, want)
		}
		return
	}
	if err != nil {
		if !*update {
			t.Error(err)
		}
		return
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, got, "", "\t"); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(file, []byte(input+separator+pretty.String()+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if pretty.String() != want {
		t.Errorf("got\n%s", pretty.String())
	}
}
