package rest

import (
	"bytes"
	"io"
	"runtime"
	"testing"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/adaptertest"
)

// A stated length is not believed: what is held for a body that stops is at most twice what came, beside the room that a new
// buffer has.
func TestBodyBelievesNoLength(t *testing.T) {
	const bodies, fresh = 100, 1024
	for _, came := range []int{0, 100, 1023, 1024, 5000, 60_000, 200_000} {
		calls := make([]call, bodies) // at once, so that no buffer has grown for another
		held := 0
		for i := range calls {
			e := &adaptertest.Engine{Cut: io.ErrUnexpectedEOF, Piece: 1 + i*500}
			e.Reset("POST", "/", "HTTP/1.1", nil, make([]byte, came))
			e.X.ContentLength = 1 << 20
			m := &rpcadapters.Matched{Options: &rpcadapters.Options{}}
			m.Options.MaxBody = 4 << 20
			calls[i] = call{x: &e.X, m: m}
			if err := calls[i].receive(t.Context()); err == nil {
				t.Error("want an error")
			}
			held += cap(calls[i].raw.B)
		}
		if most := bodies * max(2*came, fresh); held > most+most/10 { // a few may have grown for other tests
			t.Errorf("%d bytes came of each of %d bodies: %d are held, want %d at most", came, bodies, held, most)
		}
		for i := range calls {
			calls[i].raw.Free()
		}
		runtime.GC()
		runtime.GC() // the pool is empty again
	}
}

// Bodies arrive whole, whatever their length and pieces, with and without a stated length.
func TestBodyIsWhole(t *testing.T) {
	for _, size := range []int{0, 1, 1023, 1024, 1025, 2048, 4096, 70_000} {
		body := bytes.Repeat([]byte("0123456"), size/7+1)[:size]
		for _, stated := range []int64{-1, int64(size)} {
			for _, piece := range []int{0, 1, 1000, 1024} {
				e := &adaptertest.Engine{Piece: piece}
				e.Reset("POST", "/", "HTTP/1.1", nil, body)
				e.X.ContentLength = stated
				m := &rpcadapters.Matched{Options: &rpcadapters.Options{}}
				m.Options.MaxBody = size
				c := call{x: &e.X, m: m}
				raw, err := c.Raw(t.Context())
				if err != nil || !bytes.Equal(raw, body) {
					t.Errorf("%d bytes, %d stated, in pieces of %d: %v, found %d", size, stated, piece, err, len(raw))
				}
				c.raw.Free()
			}
		}
	}
}
