package framed

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// pieces reads at most n bytes at once.
type pieces struct {
	in *bytes.Reader
	n  int
}

func (p *pieces) Read(b []byte) (int, error) { return p.in.Read(b[:min(len(b), p.n)]) }

// FuzzReader: whatever comes, and in whatever pieces, the frames are those that a plain reading finds; what is held is bounded
// by what has come, and is given back.
func FuzzReader(f *testing.F) {
	seed := unary("hello").AppendFrame(nil, 1)
	seed = (&text{'x', nil}).AppendFrame(seed, 2)
	seed = ofStream(strings.Repeat("s", 6000)).AppendFrame(seed, 3)
	f.Add(seed, uint16(1), uint16(9000))
	f.Add(seed, uint16(5000), uint16(3000))
	f.Add(unary(strings.Repeat("x", 100)).AppendFrame(nil, 9), uint16(7), uint16(50))
	f.Add([]byte("\x7f\xff\xff\xffu\x00\x00\x00\x01"), uint16(4), uint16(100))
	f.Add([]byte("\x00\x00\x00\x03"), uint16(4), uint16(100))
	f.Fuzz(func(t *testing.T, data []byte, piece, most uint16) {
		budget := rpc.NewBudget(1 << 30)
		r := newReader(&pieces{bytes.NewReader(data), int(piece) + 1}, framing{}, int(most), budget, nil)
		rest := data
		for {
			var got frame
			err := r.next(&got)
			if budget.Used() > int64(len(data)) {
				t.Fatalf("%d bytes are held of %d that came", budget.Used(), len(data))
			}
			n := 0
			if len(rest) >= 4 {
				n = int(binary.BigEndian.Uint32(rest))
			}
			if err != nil {
				whole := len(rest) >= headLen && n >= headLen && n <= len(rest) && n <= int(most)
				if _, bad := (framing{}).Label(append(slices.Clip(rest), make([]byte, headLen)...)); whole && bad == nil {
					t.Fatalf("want a frame of %d bytes, found %v", n, err)
				}
				break
			}
			if n > int(most) {
				if got.why != TooLarge || got.buf != nil && !bytes.HasPrefix(rest, got.buf.B) {
					t.Fatalf("want a frame that is too large, found %+v", got)
				}
				rest = rest[min(n, len(rest)):]
				got.free(budget)
				continue
			}
			if n > len(rest) || got.why != Taken {
				t.Fatalf("found a frame of %d bytes where %d are left", n, len(rest))
			}
			want, err := framing{}.Label(rest[:n])
			if err != nil || got.label != want {
				t.Fatalf("want %+v, %v, found %+v", want, err, got.label)
			}
			if want.Kind == Noise || want.Kind == Leave {
				if got.buf != nil {
					t.Fatal("what is passed over is held")
				}
			} else if !bytes.Equal(got.buf.B, rest[:n]) {
				t.Fatalf("want %x, found %x", rest[:n], got.buf.B)
			}
			rest = rest[n:]
			got.free(budget)
		}
		r.drop()
		if budget.Used() != 0 {
			t.Fatalf("%d bytes are held at the end", budget.Used())
		}
	})
}

func TestReaderRest(t *testing.T) {
	var in []byte
	for range 1000 {
		in = unary(strings.Repeat("x", 1000)).AppendFrame(in, 1)
	}
	r := newReader(bytes.NewReader(in), framing{}, 1<<20, nil, nil)
	for range 1000 {
		var f frame
		if err := r.next(&f); err != nil {
			t.Fatal(err)
		}
		f.free(nil)
	}
	if len(r.buf) != readBufferMax {
		t.Errorf("the buffer has %d bytes under load", len(r.buf))
	}
	if err := r.next(&frame{}); err != io.EOF { //nolint:errorlint // a reader's
		t.Errorf("found %v", err)
	}
}
