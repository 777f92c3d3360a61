package presence_test

import (
	"bytes"
	"compress/flate"
	"io"
	"strings"
	"testing"

	"github.com/seed-57c14f3c/caddy-presence/presence"
)

func TestDeflatedFrame(t *testing.T) {
	for _, text := range []string{"", "short", strings.Repeat("a", 200), strings.Repeat("compress me ", 100), strings.Repeat("long ", 100_000)} {
		m := presence.NewMessage([]byte(text))
		frame := m.Frame(true)
		if frame[0] == 0x81 {
			if len(text) >= 200 {
				t.Errorf("%d bytes are not compressed", len(text))
			}
			if !bytes.Equal(frame, m.Frame(false)) {
				t.Errorf("a frame that is not compressed is another one")
			}
			continue
		}
		if frame[0] != 0xc1 || len(frame) >= len(m.Frame(false)) {
			t.Errorf("first byte %x, %d bytes for %d", frame[0], len(frame), len(text))
		}
		in := append(bytes.Clone(payloadOf(frame)), 0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff)
		got, err := io.ReadAll(flate.NewReader(bytes.NewReader(in)))
		if err != nil || string(got) != text {
			t.Errorf("%d bytes became %d, %v", len(text), len(got), err)
		}
	}
}
