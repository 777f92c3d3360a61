package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
)

// Opcodes of RFC 6455.
const (
	opText  = 1
	opClose = 8
	opPing  = 9
	opPong  = 10
)

// frame is a masked frame, with a mask of zeros: what masking costs the client is
// not what is measured.
func frame(opcode byte, payload []byte) []byte {
	b := []byte{0x80 | opcode}
	if len(payload) < 126 {
		b = append(b, 0x80|byte(len(payload)))
	} else {
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(len(payload)))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

// readFrame reads a frame into buf, which grows if it must.
func readFrame(r *bufio.Reader, buf []byte) (opcode byte, payload []byte, err error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:2]); err != nil {
		return 0, buf, err
	}
	if head[0]&0xf0 != 0x80 || head[1] > 127 {
		return 0, buf, errors.New("a frame is fragmented, masked or compressed")
	}
	opcode = head[0] & 0x0f
	n := int(head[1])
	switch n {
	case 126:
		_, err = io.ReadFull(r, head[:2])
		n = int(binary.BigEndian.Uint16(head[:]))
	case 127:
		_, err = io.ReadFull(r, head[:8])
		n = int(binary.BigEndian.Uint64(head[:]))
	}
	if err != nil {
		return 0, buf, err
	}
	if n < 0 || n > 1<<20 {
		return 0, buf, errors.New("a frame is too large")
	}
	if n > cap(buf) {
		buf = make([]byte, n)
	}
	_, err = io.ReadFull(r, buf[:n])
	return opcode, buf[:n], err
}
