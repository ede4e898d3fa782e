package grpc

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/http2"
)

// prefixLen is the length of what stands before every message: one byte of flags, four of length.
const prefixLen = 5

const flagCompressed = 1

func putPrefix(p *[prefixLen]byte, m *rpc.Message) {
	p[0] = 0
	if m.Comp != rpc.Identity {
		p[0] = flagCompressed
	}
	binary.BigEndian.PutUint32(p[1:], uint32(len(m.Data))) //nolint:gosec // limits are far below
}

// single tells whether a body is exactly one message, and whether that is compressed.
func single(body []byte, head *http2.Head) (packed bool, e *rpc.Error) {
	switch {
	case len(body) == 0:
		return false, misshapen("no message in the answer to a unary call")
	case len(body) < prefixLen:
		return false, misshapen("an answer of %d bytes, want %d before a message", len(body), prefixLen)
	}
	packed, e = flags(body[0], head)
	if e != nil {
		return false, e
	}
	switch n := int64(binary.BigEndian.Uint32(body[1:])); {
	case n > int64(len(body)-prefixLen):
		return false, misshapen("a message of %d bytes, cut after %d", n, len(body)-prefixLen)
	case n < int64(len(body)-prefixLen):
		return false, misshapen("more than one message in the answer to a unary call")
	}
	return packed, nil
}

// flags reads the first byte before a message.
func flags(b byte, head *http2.Head) (packed bool, e *rpc.Error) {
	switch {
	case b == 0:
		return false, nil
	case b != flagCompressed:
		return false, misshapen("flags 0x%02x before a message, want 0 or 1", b)
	}
	switch enc := head.Fields.Get("grpc-encoding"); enc {
	case "gzip":
		return true, nil
	case "", "identity":
		return false, misshapen("a compressed message without grpc-encoding")
	default:
		return false, misshapen("grpc-encoding %q, which was not asked for", enc)
	}
}

var inflaters sync.Pool

var errTooLarge = errors.New("larger than the limit when unpacked")

// inflate unpacks a message of at most limit bytes, whatever it claims.
func inflate(packed []byte, limit int) (*rpc.Buffer, *rpc.Error) {
	src := bytes.NewReader(packed)
	z, _ := inflaters.Get().(*gzip.Reader)
	var err error
	if z == nil {
		z, err = gzip.NewReader(src)
	} else {
		err = z.Reset(src)
	}
	if err != nil {
		return nil, misshapen("gzip: %v", err)
	}
	defer inflaters.Put(z)
	b := rpc.GetBuffer()
	if err := readLimited(b, z, limit); err != nil {
		b.Free()
		if errors.Is(err, errTooLarge) {
			return nil, tooLarge().WithCause(err)
		}
		return nil, misshapen("gzip: %v", err)
	}
	return b, nil
}

func readLimited(b *rpc.Buffer, r io.Reader, limit int) error {
	for {
		b.B = slices.Grow(b.B, 512)
		n, err := r.Read(b.B[len(b.B):min(cap(b.B), limit+1)])
		b.B = b.B[:len(b.B)+n]
		switch {
		case len(b.B) > limit:
			return errTooLarge
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}
