package trpc

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// TestFrameLies: a head that cannot be is refused with what was found; nothing behind it is looked at.
func TestFrameLies(t *testing.T) {
	good := captures(t)["echo"][0].raw
	change := func(at int, with ...byte) []byte {
		b := bytes.Clone(good[:headLen])
		copy(b[at:], with)
		return b
	}
	for _, c := range []struct {
		name string
		head []byte
		want string
	}{
		{"magic", change(0, 0x09, 0x31), "wanted a frame of tRPC, which begins with 0930, found 0931"},
		{"http", []byte("GET / HTTP/1.1\r\n"), "wanted a frame of tRPC, which begins with 0930, found 4745"},
		{"type", change(2, 2), "wanted a frame of type 0 or 1, found 2"},
		{"length 0", change(4, 0, 0, 0, 0), "wanted a frame with its head and its header of 75 bytes, found a length of 0"},
		{"length below the head", change(4, 0, 0, 0, 15), "wanted a frame with its head and its header of 75 bytes, found a length of 15"},
		{"header longer than the frame", change(8, 0xff, 0xff), "wanted a frame with its head and its header of 65535 bytes, found a length of 98"},
		{"longest", change(4, 0xff, 0xff, 0xff, 0xff), "wanted a frame of at most 10485760 bytes, found a length of 4294967295"},
		{"one too long", change(4, 0, 0xa0, 0, 1), "wanted a frame of at most 10485760 bytes, found a length of 10485761"},
		{"stream of no type", change(2, 1, 0), "wanted a frame of a stream of type 1 to 4, found 0"},
		{"stream of an unknown type", change(2, 1, 5), "wanted a frame of a stream of type 1 to 4, found 5"},
		{"stream shorter than its head", change(2, 1, 2, 0, 0, 0, 15), "wanted a frame with its head, found a length of 15"},
		{"long INIT", change(2, 1, 1, 0, 1, 0, 16), "wanted at most 65535 bytes that open or end a stream, found 65536"},
	} {
		var h head
		if err := h.parse(c.head, defaultMaxFrame); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
	for name, b := range map[string][]byte{
		"longest allowed": change(4, 0, 0xa0, 0, 0),
		"version 0":       change(14, 0),
		"longest DATA":    change(2, 1, 2, 0, 0xa0, 0, 0),
	} {
		var h head
		if err := h.parse(b, defaultMaxFrame); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAttachmentLies: what a header says of its attachment is held against the frame before it is cut.
func TestAttachmentLies(t *testing.T) {
	frame := captures(t)["attachment"][0].raw
	var h head
	if err := h.parse(frame, defaultMaxFrame); err != nil {
		t.Fatal(err)
	}
	rest := len(frame) - headLen - h.header
	for _, size := range []uint32{0, 1, uint32(rest)} {
		body, attached, err := parts(frame, &h, size)
		if err != nil || len(attached) != int(size) || len(body)+len(attached) != rest || cap(body) != len(body) {
			t.Errorf("%d: %d and %d bytes, %v", size, len(body), len(attached), err)
		}
	}
	for _, size := range []uint32{uint32(rest) + 1, 1 << 31, 1<<32 - 1} {
		if _, _, err := parts(frame, &h, size); err == nil {
			t.Errorf("an attachment of %d bytes was cut from %d", size, rest)
		}
	}
}

// FuzzFrame: a head that is taken comes out as the same bytes and names no more than there may be; the parts of a frame stay
// within it.
func FuzzFrame(f *testing.F) {
	for _, steps := range captures(f) {
		for _, s := range steps {
			if s.raw != nil {
				f.Add(s.raw)
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < headLen {
			return
		}
		const limit = 1 << 20
		var h head
		if h.parse(data, limit) != nil {
			return
		}
		if out := h.append(nil); !bytes.Equal(out, data[:headLen]) {
			t.Fatalf("%x became %x", data[:headLen], out)
		}
		if h.size > limit || h.size < headLen || h.frame == frameUnary && h.header+headLen > h.size {
			t.Fatalf("%+v", h)
		}
		if h.size > len(data) || h.frame != frameUnary {
			return
		}
		frame := data[:h.size:h.size]
		var r request
		if r.parse(frame[headLen:headLen+h.header]) == nil {
			if body, attached, err := parts(frame, &h, r.attachment); err == nil {
				if headLen+h.header+len(body)+len(attached) != h.size || len(attached) != int(r.attachment) {
					t.Fatalf("%d and %d bytes", len(body), len(attached))
				}
			}
		}
	})
}

// TestPatch: lengths are filled in where a frame stands.
func TestPatch(t *testing.T) {
	h := head{frame: frameUnary, id: 7, version: 1}
	b := h.append([]byte("before"))
	b = append(b, "header"...)
	at := len(b)
	b = append(b, "body"...)
	patch(b, len("before"), at)
	if size := binary.BigEndian.Uint32(b[6+4:]); int(size) != headLen+len("headerbody") {
		t.Errorf("length %d", size)
	}
	if n := binary.BigEndian.Uint16(b[6+8:]); int(n) != len("header") {
		t.Errorf("header length %d", n)
	}
}
