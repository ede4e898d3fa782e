package envelope

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// The compressions, under the names of IANA's registry of HTTP content codings. Deflate is the zlib format (RFC 1950), as
// that registry and grpc/doc/compression.md have it.
const (
	Gzip    = rpc.Gzip
	Deflate = rpc.Gzip + iota
	Zstd
	Brotli
)

var names = [...]string{rpc.Identity: "identity", Gzip: "gzip", Deflate: "deflate", Zstd: "zstd", Brotli: "br"}

// Names lists the compressions, for headers and errors.
const Names = "gzip, deflate, zstd, br, identity"

// Name is the name of a compression in headers.
func Name(c rpc.Compression) string {
	if int(c) >= len(names) {
		return ""
	}
	return names[c]
}

// ByName finds a compression; no name is identity.
func ByName(name string) (rpc.Compression, bool) {
	if name == "" {
		return rpc.Identity, true
	}
	i := slices.Index(names[:], name)
	return rpc.Compression(max(i, 0)), i >= 0 //nolint:gosec // an index of names
}

// Accepts tells whether a list of names, as in grpc-accept-encoding, has c in it.
func Accepts(list string, c rpc.Compression) bool {
	for list != "" {
		var name string
		if name, list = element(list); name == names[c] {
			return true
		}
	}
	return false
}

// Preferred is the first compression of a list that is known; identity when none is. The list is in the client's order
// (https://connectrpc.com/docs/protocol/#unary-request); a quality of 0 takes a name off it (RFC 9110 section 12.5.3).
func Preferred(list string) rpc.Compression {
	for list != "" {
		var name string
		name, list = element(list)
		if c, ok := ByName(name); ok && name != "" {
			return c
		}
	}
	return rpc.Identity
}

// element cuts the first element off a list: its name, or "" if its quality is 0.
func element(list string) (name, rest string) {
	name, rest, _ = strings.Cut(list, ",")
	name, params, _ := strings.Cut(name, ";")
	if q, ok := strings.CutPrefix(strings.TrimSpace(params), "q="); ok && strings.Trim(q, "0.") == "" {
		return "", rest
	}
	return strings.TrimSpace(name), rest
}

// maxWindow is the largest window of zstd that a message may ask for, in bytes: what RFC 9659 allows on the web. Brotli's is
// 16 MiB by its format.
const maxWindow = 8 << 20

// wide bounds how many messages are decompressed at a time whose format has large windows. Nothing waits for the network
// while it holds a place, so there is no use in more than run at once.
var wide = make(chan struct{}, runtime.GOMAXPROCS(0))

// resetter is a decoder that can begin anew; zlib's has a method of its own for it.
type resetter interface{ Reset(r io.Reader) error }

// unpacker is a decoder with what it reads from; pooled.
type unpacker struct {
	src bytes.Reader
	dec io.Reader
}

// packer is an encoder with what it writes to; pooled.
type packer struct {
	enc interface {
		io.WriteCloser
		Reset(w io.Writer)
	}
	out appender
}

// appender is a writer to a slice.
type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}

var (
	unpackers [len(names)]sync.Pool // of *unpacker
	packers   [len(names)]sync.Pool // of *packer
)

var (
	errPadding = errors.New("there is something behind the compressed message")
	errNone    = errors.New("no such compression")
)

// packs tells whether c is a compression other than identity.
func packs(c rpc.Compression) bool { return c != rpc.Identity && int(c) < len(names) }

// Decompress appends what src unpacks to. More than limit bytes are RESOURCE_EXHAUSTED, bytes that are not of the format
// INTERNAL. What is appended is taken from budget bit by bit; taken says how much, also beside an error: it is the caller's
// to give back. An empty src is an empty message in every format.
func Decompress(dst, src []byte, c rpc.Compression, limit int, budget *rpc.Budget) (out []byte, taken int, err error) {
	if len(src) == 0 {
		return dst, 0, nil
	}
	if !packs(c) {
		return dst, 0, rpc.AsError(errNone)
	}
	if c == Zstd || c == Brotli {
		wide <- struct{}{}
		defer func() { <-wide }()
	}
	u, err := getUnpacker(c, src)
	out = dst
	if err == nil {
		out, taken, err = u.unpack(dst, limit, budget)
	}
	u.src.Reset(nil)
	if u.dec != nil {
		unpackers[c].Put(u)
	}
	if err == nil {
		return out, taken, nil
	}
	if fault, ok := errors.AsType[*rpc.Error](err); ok {
		return out, taken, fault
	}
	return out, taken, malformed("the message is not %s, or is cut", Name(c)).WithCause(err)
}

func (u *unpacker) unpack(dst []byte, limit int, budget *rpc.Budget) (out []byte, taken int, err error) {
	start := len(dst)
	for {
		if len(dst) == cap(dst) {
			dst = slices.Grow(dst, min(max(len(dst), 512), limit-(len(dst)-start)+1))
		}
		// One byte more than the limit at most, to see that there is more.
		end := min(cap(dst), start+limit+1)
		n, err := u.dec.Read(dst[len(dst):end])
		dst = dst[:len(dst)+n]
		if len(dst)-start > limit {
			return dst, taken, tooLarge(limit)
		}
		if !budget.Take(n) {
			return dst, taken, overloaded()
		}
		taken += n
		if errors.Is(err, io.EOF) && u.src.Len() > 0 {
			err = u.next()
		} else if errors.Is(err, io.EOF) {
			return dst, taken, nil
		}
		if err != nil {
			return dst, taken, err
		}
	}
}

// next begins the next member of a gzip message (RFC 1952 section 2.2); nothing else has a second one. The decoder left to
// itself would take a member cut within its name for the end.
func (u *unpacker) next() error {
	z, ok := u.dec.(*gzip.Reader)
	if !ok {
		return errPadding
	}
	if err := z.Reset(&u.src); errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	} else if err != nil {
		return err
	}
	z.Multistream(false)
	return nil
}

// getUnpacker returns an unpacker that reads from src.
func getUnpacker(c rpc.Compression, src []byte) (*unpacker, error) {
	u, _ := unpackers[c].Get().(*unpacker)
	if u == nil {
		u = &unpacker{}
	}
	u.src.Reset(src)
	var err error
	switch d := u.dec.(type) {
	case zlib.Resetter:
		err = d.Reset(&u.src, nil)
	case resetter:
		err = d.Reset(&u.src)
	default:
		var made io.Reader
		if made, err = newDecoder(c, &u.src); err == nil {
			u.dec = made
		}
	}
	if z, ok := u.dec.(*gzip.Reader); ok {
		z.Multistream(false)
	}
	return u, err
}

func newDecoder(c rpc.Compression, r io.Reader) (io.Reader, error) {
	switch c {
	case Gzip:
		return gzip.NewReader(r)
	case Deflate:
		return zlib.NewReader(r)
	case Zstd:
		return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	case Brotli:
		return brotli.NewReader(r), nil
	}
	return nil, errNone
}

// Compress appends src packed by c, which is not identity.
func Compress(dst, src []byte, c rpc.Compression) ([]byte, error) {
	if !packs(c) {
		return dst, errNone
	}
	p, _ := packers[c].Get().(*packer)
	if p == nil {
		var err error
		if p, err = newPacker(c); err != nil {
			return dst, err
		}
	}
	p.out.b = dst
	p.enc.Reset(&p.out)
	_, err := p.enc.Write(src)
	if err == nil {
		err = p.enc.Close()
	}
	out := p.out.b
	p.out.b = nil
	if err != nil {
		return dst, err
	}
	packers[c].Put(p)
	return out, nil
}

// newPacker makes an encoder for messages that are packed while a caller waits: fast before small.
func newPacker(c rpc.Compression) (*packer, error) {
	p := &packer{}
	var err error
	switch c {
	case Gzip:
		p.enc, err = gzip.NewWriterLevel(&p.out, gzip.BestSpeed)
	case Deflate:
		p.enc, err = zlib.NewWriterLevel(&p.out, zlib.BestSpeed)
	case Zstd:
		p.enc, err = zstd.NewWriter(&p.out, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true),
			zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(256<<10))
	case Brotli:
		p.enc = brotli.NewWriterOptions(&p.out, brotli.WriterOptions{Quality: 2, LGWin: 18})
	default:
		err = errNone
	}
	return p, err
}
