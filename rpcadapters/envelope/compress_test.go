package envelope

import (
	"bytes"
	stdgzip "compress/gzip"
	stdzlib "compress/zlib"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

var all = []rpc.Compression{Gzip, Deflate, Zstd, Brotli}

func TestNames(t *testing.T) {
	for _, c := range append(all, rpc.Identity) {
		if got, ok := ByName(Name(c)); !ok || got != c {
			t.Errorf("%v: found %v, %v", c, got, ok)
		}
		if !strings.Contains(Names, Name(c)) {
			t.Errorf("%s is not in %s", Name(c), Names)
		}
	}
	if c, ok := ByName(""); !ok || c != rpc.Identity {
		t.Error("want no name to be identity")
	}
	for _, name := range []string{"foo", "GZIP", "gzip ", "x-gzip", "zlib"} {
		if _, ok := ByName(name); ok {
			t.Errorf("want %q not to be known", name)
		}
	}
	if Name(99) != "" {
		t.Error("want no name")
	}
}

func TestAccepts(t *testing.T) {
	for _, tc := range []struct {
		list      string
		gzip      bool
		preferred rpc.Compression
	}{
		{"", false, rpc.Identity},
		{"gzip", true, Gzip},
		{"identity,gzip", true, rpc.Identity},
		{"foo, zstd , gzip", true, Zstd},
		{"gzip;q=0, br", false, Brotli},
		{"gzip;q=0.0,*", false, rpc.Identity},
		{"gzip;q=0.5", true, Gzip},
		{"gzipped", false, rpc.Identity},
		{",,", false, rpc.Identity},
	} {
		if got := Accepts(tc.list, Gzip); got != tc.gzip {
			t.Errorf("%q: accepts gzip %v", tc.list, got)
		}
		if got := Preferred(tc.list); got != tc.preferred {
			t.Errorf("%q: prefers %s", tc.list, Name(got))
		}
	}
}

func samples() [][]byte {
	random := make([]byte, 100_000)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	return [][]byte{{}, {0}, []byte("hello"), bytes.Repeat([]byte("hello "), 100_000), random}
}

// What is packed here is unpacked by the standard library and the libraries' own readers, and by ourselves.
func TestCompressRoundTrip(t *testing.T) {
	for _, c := range all {
		for i, want := range samples() {
			packed, err := Compress([]byte("before"), want, c)
			if err != nil || !bytes.HasPrefix(packed, []byte("before")) {
				t.Fatal(err)
			}
			packed = packed[len("before"):]
			if got, err := io.ReadAll(oracle(t, c, packed)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s, sample %d: the oracle found %d bytes, %v", Name(c), i, len(got), err)
			}
			budget := rpc.NewBudget(1 << 30)
			got, taken, err := Decompress([]byte("before"), packed, c, len(want), budget)
			if err != nil || !bytes.Equal(got[len("before"):], want) || taken != len(want) || budget.Used() != int64(taken) {
				t.Errorf("%s, sample %d: %d bytes, taken %d of %d, %v", Name(c), i, len(got), taken, budget.Used(), err)
			}
		}
	}
}

// oracle unpacks b in another way than the package does.
func oracle(t testing.TB, c rpc.Compression, b []byte) io.Reader {
	t.Helper()
	var r io.Reader
	var err error
	switch c {
	case Gzip:
		r, err = stdgzip.NewReader(bytes.NewReader(b))
	case Deflate:
		r, err = stdzlib.NewReader(bytes.NewReader(b))
	case Zstd:
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20)) // sizes that frames only state
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		out, err := d.DecodeAll(b, nil)
		return io.MultiReader(bytes.NewReader(out), failing{err})
	case Brotli:
		r = brotli.NewReader(bytes.NewReader(b))
	}
	return io.MultiReader(notNil(r), failing{err})
}

func notNil(r io.Reader) io.Reader {
	switch r := r.(type) {
	case *stdgzip.Reader:
		if r == nil {
			return strings.NewReader("")
		}
	case nil:
		return strings.NewReader("")
	}
	return r
}

// failing gives an error, or the end when there is none.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) {
	if f.err == nil {
		return 0, io.EOF
	}
	return 0, f.err
}

func TestDecompressFaults(t *testing.T) {
	for _, c := range all {
		good, err := Compress(nil, bytes.Repeat([]byte("hello "), 1000), c)
		if err != nil {
			t.Fatal(err)
		}
		for name, src := range map[string][]byte{
			"cut":       good[:len(good)-1],
			"cut early": good[:3],
			"none":      []byte("this is no such thing at all"),
			"more":      append(bytes.Clone(good), 1),
		} {
			_, _, err := Decompress(nil, src, c, 1<<20, nil)
			if e, ok := errors.AsType[*rpc.Error](err); !ok || e.Code != codes.Internal || e.Reason != "MALFORMED_MESSAGE" {
				t.Errorf("%s, %s: found %v", Name(c), name, err)
			}
		}
		// The decoder is good for the next all the same.
		if got, _, err := Decompress(nil, good, c, 6000, nil); err != nil || len(got) != 6000 {
			t.Errorf("%s after faults: %d bytes, %v", Name(c), len(got), err)
		}
		_, taken, err := Decompress(nil, good, c, 5999, nil)
		if e, ok := errors.AsType[*rpc.Error](err); !ok || e.Code != codes.ResourceExhausted {
			t.Errorf("%s, beyond the limit: taken %d, %v", Name(c), taken, err)
		}
		budget := rpc.NewBudget(1000)
		_, taken, err = Decompress(nil, good, c, 6000, budget)
		if e, ok := errors.AsType[*rpc.Error](err); !ok || e.Code != codes.Unavailable || int64(taken) != budget.Used() {
			t.Errorf("%s, beyond the budget: taken %d of %d, %v", Name(c), taken, budget.Used(), err)
		}
	}
	if _, _, err := Decompress(nil, []byte("x"), 7, 10, nil); err == nil {
		t.Error("want a compression that is none to be refused")
	}
	if _, err := Compress(nil, []byte("x"), rpc.Identity); err == nil {
		t.Error("want identity to be refused")
	}
}

// A bomb costs what the limit lets it, whatever it would unpack to.
func TestBombs(t *testing.T) {
	const size, limit = 32 << 20, 64 << 10
	for _, c := range all {
		var bomb bytes.Buffer
		w, err := newPacker(c)
		if err != nil {
			t.Fatal(err)
		}
		w.enc.Reset(&bomb)
		zeros := make([]byte, 1<<20)
		for range size / len(zeros) {
			if _, err := w.enc.Write(zeros); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.enc.Close(); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _, err = Decompress(nil, bomb.Bytes(), c, limit, nil)
		runtime.ReadMemStats(&after)
		if e, ok := errors.AsType[*rpc.Error](err); !ok || e.Code != codes.ResourceExhausted {
			t.Errorf("%s: found %v", Name(c), err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 20<<20 {
			t.Errorf("%s: %d bytes for a bomb of %d", Name(c), n, bomb.Len())
		}
	}
}

// A window beyond what is allowed on the web is refused before it is made.
func TestWindows(t *testing.T) {
	for _, tc := range []struct {
		window int
		ok     bool
	}{{8 << 20, true}, {16 << 20, false}} {
		var b bytes.Buffer
		w, err := zstd.NewWriter(&b, zstd.WithWindowSize(tc.window), zstd.WithEncoderConcurrency(1), zstd.WithSingleSegment(false))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 { // flushed, so that the frame states no size
			if _, err := w.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Decompress(nil, b.Bytes(), Zstd, 1<<20, nil); (err == nil) != tc.ok {
			t.Errorf("a window of %d: %v", tc.window, err)
		}
	}
}

func TestCompressionsInParallel(t *testing.T) {
	text := bytes.Repeat([]byte("hello "), 10_000)
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			c := all[i%len(all)]
			for range 10 {
				packed, err := Compress(nil, text, c)
				if err != nil {
					t.Error(err)
				}
				if got, _, err := Decompress(nil, packed, c, len(text), nil); err != nil || !bytes.Equal(got, text) {
					t.Errorf("%s: %d bytes, %v", Name(c), len(got), err)
				}
			}
		})
	}
	wg.Wait()
}

// What unpacks here unpacks the same elsewhere, never beyond the limit; what does not, does not elsewhere.
func FuzzDecompress(f *testing.F) {
	for i, c := range all {
		for _, s := range samples()[:3] {
			packed, err := Compress(nil, s, c)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(i), packed)
			f.Add(uint8(i), packed[:len(packed)/2])
		}
	}
	hello := []byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x01\x05\x00\xfa\xffhello\x86\xa6\x10\x36\x05\x00\x00\x00")
	for _, member := range []string{"", "\x1f", "\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\xffname", "\x1f\x8b\x08\x20\x00\x00\x00\x00\x00\xff", "\x00"} {
		f.Add(uint8(0), slices.Concat(hello, []byte(member)))
		f.Add(uint8(0), slices.Concat([]byte(member), hello))
		f.Add(uint8(0), slices.Concat(hello, hello, []byte(member)))
	}
	f.Add(uint8(2), []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff, 0x01, 0x00, 0x00})
	const limit = 4096
	f.Fuzz(func(t *testing.T, which uint8, src []byte) {
		c := all[int(which)%len(all)]
		budget := rpc.NewBudget(1 << 20)
		got, taken, err := Decompress(nil, src, c, limit, budget)
		if len(got) > limit+1 || int64(taken) != budget.Used() {
			t.Fatalf("%d bytes, taken %d of %d", len(got), taken, budget.Used())
		}
		if len(src) == 0 {
			return
		}
		want, werr := io.ReadAll(io.LimitReader(oracle(t, c, src), limit+1))
		switch {
		case err == nil && (werr != nil || !bytes.Equal(got, want)):
			t.Errorf("%s: found %x where the oracle has %x, %v", Name(c), got, want, werr)
		case err != nil && werr == nil && len(want) <= limit:
			// Zlib's reader looks at nothing behind its end, zstd's takes larger windows, gzip's bits of the header that have to
			// be zero (RFC 1952 section 2.3.1.2).
			if c != Deflate && c != Zstd && !(c == Gzip && reservedFlags(src)) {
				t.Errorf("%s: %v where the oracle has %x", Name(c), err, want)
			}
		}
	})
}

// reservedFlags tells whether a member of a gzip message may have one of the reserved flags.
func reservedFlags(src []byte) bool {
	for i := range src {
		if rest := src[i:]; len(rest) > 3 && bytes.HasPrefix(rest, []byte{0x1f, 0x8b, 0x08}) && rest[3]>>5 != 0 {
			return true
		}
	}
	return false
}

// What is packed unpacks to itself.
func FuzzCompress(f *testing.F) {
	f.Add(uint8(0), []byte("hello"))
	f.Add(uint8(3), bytes.Repeat([]byte("ab"), 1000))
	f.Fuzz(func(t *testing.T, which uint8, src []byte) {
		c := all[int(which)%len(all)]
		packed, err := Compress(nil, src, c)
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := Decompress(nil, packed, c, len(src), nil)
		if err != nil || !bytes.Equal(got, src) {
			t.Errorf("%s: want %x, found %x, %v", Name(c), src, got, err)
		}
	})
}

func BenchmarkCompress(b *testing.B) {
	text := []byte(strings.Repeat(`{"id":"order-1234","state":"OPEN","price":{"units":"12","nanos":500000000}},`, 60))
	for _, c := range all {
		b.Run(Name(c), func(b *testing.B) {
			b.ReportAllocs()
			buf := make([]byte, 0, len(text))
			for b.Loop() {
				var err error
				if buf, err = Compress(buf[:0], text, c); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(text))/float64(len(buf)), "ratio")
		})
	}
}

func BenchmarkDecompress(b *testing.B) {
	text := []byte(strings.Repeat(`{"id":"order-1234","state":"OPEN","price":{"units":"12","nanos":500000000}},`, 60))
	for _, c := range all {
		packed, err := Compress(nil, text, c)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(Name(c), func(b *testing.B) {
			b.ReportAllocs()
			buf := make([]byte, 0, len(text))
			for b.Loop() {
				if buf, _, err = Decompress(buf[:0], packed, c, len(text), nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
