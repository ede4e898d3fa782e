package envelope

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pieces gives b at most n bytes at a time, and err at its end, with the last bytes if early.
type pieces struct {
	b     []byte
	n     int
	err   error
	early bool
}

func (p *pieces) Read(to []byte) (int, error) {
	n := copy(to[:min(len(to), p.n)], p.b)
	p.b = p.b[n:]
	if len(p.b) == 0 && (n == 0 || p.early) {
		return n, p.err
	}
	return n, nil
}

func framed(flags byte, payloads ...[]byte) []byte {
	var b []byte
	for _, p := range payloads {
		prefix := Prefix(flags, len(p))
		b = append(append(b, prefix[:]...), p...)
	}
	return b
}

func TestReader(t *testing.T) {
	messages := [][]byte{nil, {1}, bytes.Repeat([]byte{2}, 5000), nil, bytes.Repeat([]byte{3}, 200_000), {4, 5}, nil}
	body := framed(1, messages...)
	for _, size := range []int{1, 3, 5, 1000, 1 << 20} {
		for _, early := range []bool{false, true} {
			budget := rpc.NewBudget(1 << 30)
			var r Reader
			r.Reset(&pieces{body, size, io.EOF, early}, 1<<20, budget)
			for i, want := range messages {
				buf := rpc.GetBuffer()
				flags, err := r.Next(buf)
				if err != nil || flags != 1 || !bytes.Equal(buf.B, framed(1, want)) {
					t.Fatalf("message %d in pieces of %d: %d bytes, flags %d, %v", i, size, len(buf.B), flags, err)
				}
				if budget.Used() < int64(len(buf.B)) {
					t.Errorf("%d bytes of the budget are held for %d", budget.Used(), len(buf.B))
				}
				buf.Free()
				r.Done()
			}
			buf := rpc.GetBuffer()
			for range 2 {
				if _, err := r.Next(buf); !errors.Is(err, io.EOF) {
					t.Errorf("want io.EOF, found %v", err)
				}
			}
			buf.Free()
			r.Close()
			if budget.Used() != 0 {
				t.Errorf("%d bytes of the budget are held", budget.Used())
			}
		}
	}
}

func TestReaderFaults(t *testing.T) {
	broken := errors.New("broken")
	for _, tc := range []struct {
		name   string
		src    pieces
		budget int64
		code   codes.Code
		reason string
	}{
		{"a cut prefix", pieces{[]byte{0, 0}, 9, io.EOF, true}, 100, codes.Internal, "MALFORMED_MESSAGE"},
		{"a cut message", pieces{[]byte{0, 0, 0, 0, 2, 1}, 9, io.EOF, false}, 100, codes.Internal, "MALFORMED_MESSAGE"},
		{"too large", pieces{[]byte{0, 0, 0, 0, 101}, 9, io.EOF, false}, 100, codes.ResourceExhausted, "MESSAGE_TOO_LARGE"},
		{"larger than can be", pieces{[]byte{0, 0xff, 0xff, 0xff, 0xff}, 9, io.EOF, false}, 100, codes.ResourceExhausted, "MESSAGE_TOO_LARGE"},
		{"no budget", pieces{framed(0, make([]byte, 50)), 9, io.EOF, false}, 30, codes.Unavailable, "TRANSLATION_BUDGET"},
		{"a broken connection", pieces{[]byte{0, 0, 0}, 9, broken, false}, 100, codes.Internal, "BODY_INCOMPLETE"},
		{"a deadline", pieces{[]byte{0, 0, 0}, 9, context.DeadlineExceeded, false}, 100, codes.DeadlineExceeded, "DEADLINE_EXCEEDED"},
		{"a departure", pieces{nil, 9, context.Canceled, false}, 100, codes.Canceled, "CANCELLED"},
		{"an error of the engine", pieces{nil, 9, rpc.Refuse(codes.Aborted, "X", "x"), false}, 100, codes.Aborted, "X"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			budget := rpc.NewBudget(tc.budget)
			var r Reader
			r.Reset(&tc.src, 100, budget)
			buf := rpc.GetBuffer()
			defer buf.Free()
			var first error
			for range 2 { // it stays
				_, err := r.Next(buf)
				e, ok := errors.AsType[*rpc.Error](err)
				if !ok || e.Code != tc.code || e.Reason != tc.reason || first != nil && !errors.Is(err, first) {
					t.Errorf("found %v", err)
				}
				first = err
			}
			r.Close()
			if budget.Used() != 0 {
				t.Errorf("%d bytes of the budget are held", budget.Used())
			}
		})
	}
}

// A length is not believed: what is held, wherever the message or the body stops, is at most twice what came, beside the room
// that a new buffer has.
func TestReaderBelievesNoLength(t *testing.T) {
	const stated, fresh = 1<<30 - 1, 1024
	for _, came := range []int{0, 1, 100, 1023, 1024, 5000, 65_535, 65_536, 100_000, 1 << 20, 3_000_000} {
		for _, size := range []int{100, 1000, 16 << 10, 1 << 30} {
			body := append([]byte{0, 0x3f, 0xff, 0xff, 0xff}, make([]byte, came)...)
			var r Reader
			r.Reset(&pieces{body, size, io.EOF, false}, 1<<30, nil)
			buf := &rpc.Buffer{B: make([]byte, 0, fresh)} // none that has grown for others
			if _, err := r.Next(buf); err == nil {
				t.Error("want an error")
			}
			if held := cap(buf.B); held > max(2*len(body), fresh) {
				t.Errorf("a message of which %d bytes came, %d at a time: %d bytes are held", came, size, held)
			}
			r.Close()
			body = body[PrefixLen:]
			b := Bare{frames: &Stream{Options: Options{Limit: 1 << 30}}, src: &pieces{body, size, io.ErrUnexpectedEOF, false}, length: stated}
			buf = &rpc.Buffer{B: make([]byte, 0, fresh)}
			if err := b.receive(buf); err == nil {
				t.Error("want an error")
			}
			if held := cap(buf.B); held > max(2*len(body), fresh) {
				t.Errorf("a body of which %d bytes came, %d at a time: %d bytes are held", came, size, held)
			}
		}
	}
}

// A million empty messages cost no memory.
func TestReaderOfEmptyMessages(t *testing.T) {
	const messages = 1_000_000
	body := make([]byte, messages*PrefixLen)
	budget := rpc.NewBudget(64 << 10)
	var r Reader
	r.Reset(&pieces{body, 16 << 10, io.EOF, false}, 1<<20, budget)
	defer r.Close()
	buf := rpc.GetBuffer()
	defer buf.Free()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range messages {
		if _, err := r.Next(buf); err != nil || len(buf.B) != PrefixLen {
			t.Fatalf("message %d: %d bytes, %v", i, len(buf.B), err)
		}
		r.Done()
	}
	if _, err := r.Next(buf); !errors.Is(err, io.EOF) {
		t.Errorf("want io.EOF, found %v", err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > uint64(len(body)) {
		t.Errorf("%d bytes were allocated for %d", n, len(body))
	}
}

// Whatever comes in pieces, a reader gives the messages that a reading of the whole gives.
func FuzzReader(f *testing.F) {
	f.Add(framed(0, []byte("a"), nil, []byte("bcd")), uint8(2))
	f.Add(framed(1, bytes.Repeat([]byte("a"), 300)), uint8(50))
	f.Add([]byte{0, 0, 0, 0, 2, 1}, uint8(0))
	f.Add([]byte{0, 0xff, 0, 0, 0}, uint8(0))
	const limit = 256
	f.Fuzz(func(t *testing.T, body []byte, size uint8) {
		budget := rpc.NewBudget(1 << 30)
		var r Reader
		r.Reset(&pieces{body, int(size) + 1, io.EOF, size%2 == 0}, limit, budget)
		rest := body
		for {
			buf := rpc.GetBuffer()
			flags, err := r.Next(buf)
			r.Done()
			switch {
			case len(rest) == 0:
				if !errors.Is(err, io.EOF) {
					t.Fatalf("want the end, found %v", err)
				}
			case len(rest) < PrefixLen:
				if e, ok := errors.AsType[*rpc.Error](err); !ok || e.Reason != "MALFORMED_MESSAGE" {
					t.Fatalf("want a cut prefix, found %v", err)
				}
			default:
				n := int64(binary.BigEndian.Uint32(rest[1:]))
				e, _ := errors.AsType[*rpc.Error](err)
				switch {
				case n > limit:
					if e == nil || e.Reason != "MESSAGE_TOO_LARGE" {
						t.Fatalf("want too large, found %v", err)
					}
				case int64(len(rest)-PrefixLen) < n:
					if e == nil || e.Reason != "MALFORMED_MESSAGE" {
						t.Fatalf("want a cut message, found %v", err)
					}
				default:
					want := rest[:PrefixLen+n]
					if err != nil || flags != want[0] || !bytes.Equal(buf.B, want) {
						t.Fatalf("want %x, found %x, %v", want, buf.B, err)
					}
					rest = rest[len(want):]
					buf.Free()
					continue
				}
			}
			buf.Free()
			break
		}
		r.Close()
		if budget.Used() != 0 {
			t.Errorf("%d bytes of the budget are held", budget.Used())
		}
	})
}
