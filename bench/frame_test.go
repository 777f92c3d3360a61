package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

// fromServer is a frame without a mask.
func fromServer(head byte, payload string) []byte {
	b := []byte{head}
	switch n := len(payload); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return append(b, payload...)
}

func TestReadFrame(t *testing.T) {
	var buf []byte
	for _, n := range []int{0, 1, 125, 126, 5000, 65535, 65536, 3} {
		want := strings.Repeat("x", n)
		op, got, err := readFrame(bufio.NewReader(bytes.NewReader(fromServer(0x81, want))), buf)
		if err != nil || op != opText || string(got) != want {
			t.Errorf("%d bytes: opcode %d, %d bytes, %v", n, op, len(got), err)
		}
		buf = got
	}
	for name, bad := range map[string][]byte{
		"a fragment":    fromServer(0x01, "x"),
		"a compressed":  fromServer(0xc1, "x"),
		"a masked":      frame(opText, []byte("x")),
		"a cut":         fromServer(0x81, "xyz")[:4],
		"a huge length": {0x81, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	} {
		if _, _, err := readFrame(bufio.NewReader(bytes.NewReader(bad)), nil); err == nil {
			t.Errorf("%s frame is taken", name)
		}
	}
}

func TestFramesOfClientsAreMasked(t *testing.T) {
	if got, want := string(frame(opText, []byte("ping"))), "\x81\x84\x00\x00\x00\x00ping"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := string(frame(opText, make([]byte, 300))[:8]), "\x81\xfe\x01\x2c\x00\x00\x00\x00"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
