package presence

import (
	"bytes"
	"compress/flate"
	"sync"
)

// minDeflate is the size of a frame from which on compressing it may pay.
const minDeflate = 128

// deflaters are large, and used for a moment.
var deflaters = sync.Pool{New: func() any {
	w, err := flate.NewWriter(nil, flate.BestSpeed)
	if err != nil {
		panic(err) // the level is valid
	}
	return w
}}

// deflateFrame returns the frame of a text message with its payload compressed
// (RFC 7692, section 7.2.1), or the frame itself if that is not larger.
func deflateFrame(frame []byte) []byte {
	var out bytes.Buffer
	w := deflaters.Get().(*flate.Writer)
	defer deflaters.Put(w)
	w.Reset(&out)
	_, _ = w.Write(framePayload(frame)) // a Buffer takes all
	_ = w.Flush()
	// The end of a flush is always the same, and left out.
	payload := bytes.TrimSuffix(out.Bytes(), []byte{0, 0, 0xff, 0xff})
	if small := encodeFrame(finText|compressed, payload); len(small) < len(frame) {
		return small
	}
	return frame
}

// framePayload returns the payload of a frame that encodeFrame has made.
func framePayload(frame []byte) []byte {
	switch frame[1] {
	case 126:
		return frame[4:]
	case 127:
		return frame[10:]
	}
	return frame[2:]
}
