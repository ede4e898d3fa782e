package grpc

import (
	"context"
	"encoding/base64"
	"hash/maphash"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/http2"
)

// constHead is what of a method's header block is the same in every call.
type constHead struct {
	method string
	block  []byte
	size   int
}

// headTable keeps the heads of methods called lately, found by name.
type headTable struct {
	slots [256]atomic.Pointer[constHead]
}

var headSeed = maphash.MakeSeed()

// head returns the constant part of a method's header block.
func (t *transport) head(method string) *constHead {
	slot := &t.heads.slots[maphash.String(headSeed, method)%uint64(len(t.heads.slots))]
	if h := slot.Load(); h != nil && h.method == method {
		return h
	}
	h := &constHead{method: strings.Clone(method)}
	scheme := "http"
	if t.scheme == http2.IndexSchemeHTTPS {
		scheme = "https"
	}
	b := http2.AppendIndexed(nil, http2.IndexMethodPOST)
	b = http2.AppendIndexed(b, t.scheme)
	b = http2.AppendNamed(b, http2.IndexPath, method)
	b = http2.AppendNamed(b, http2.IndexAuthority, t.authority)
	b = http2.AppendNamed(b, http2.IndexContentType, "application/grpc")
	b = http2.AppendField(b, "te", "trailers")
	b = http2.AppendField(b, "grpc-accept-encoding", "gzip")
	for _, f := range [...][2]string{
		{":method", "POST"},
		{":scheme", scheme},
		{":path", method},
		{":authority", t.authority},
		{"content-type", "application/grpc"},
		{"te", "trailers"},
		{"grpc-accept-encoding", "gzip"},
	} {
		h.size += http2.FieldSize(len(f[0]), len(f[1]))
	}
	h.block = b
	slot.Store(h)
	return h
}

const userAgent = "causeway"

// appendHead appends the header block of a call and returns its size as a header list.
func (t *transport) appendHead(ctx context.Context, dst []byte, c *rpc.Call, comp rpc.Compression) ([]byte, int, error) {
	h := t.head(c.Method.Name)
	dst = append(dst, h.block...)
	size := h.size
	left, e := remaining(ctx)
	if e != nil {
		return dst, 0, e
	}
	if left > 0 {
		var buf [16]byte
		v := appendTimeout(buf[:0], left)
		dst = http2.AppendFieldBytes(dst, "grpc-timeout", v)
		size += http2.FieldSize(len("grpc-timeout"), len(v))
	}
	if comp == rpc.Gzip {
		dst = http2.AppendField(dst, "grpc-encoding", "gzip")
		size += http2.FieldSize(len("grpc-encoding"), len("gzip"))
	}
	agent := false
	for i := range c.Header {
		key, value := c.Header[i].Key, c.Header[i].Value
		switch {
		case reserved(key):
			continue
		case !metadataKey(key):
			return dst, 0, rpc.Refuse(codes.InvalidArgument, "INVALID_METADATA", "metadata %q: want letters, digits, - _ and . only", key)
		case strings.HasSuffix(key, "-bin"):
			n := base64.RawStdEncoding.EncodedLen(len(value))
			dst = http2.AppendFieldHead(dst, key, n)
			dst = appendBase64(dst, value)
			size += http2.FieldSize(len(key), n)
			continue
		case !printable(value):
			return dst, 0, rpc.Refuse(codes.InvalidArgument, "INVALID_METADATA", "metadata %q has a byte that gRPC cannot carry: want printable ascii, or a name that ends in -bin", key)
		case key == "user-agent":
			agent = true
			dst = http2.AppendNamed(dst, http2.IndexUserAgent, value)
		default:
			dst = http2.AppendField(dst, key, value)
		}
		size += http2.FieldSize(len(key), len(value))
	}
	if !agent {
		dst = http2.AppendNamed(dst, http2.IndexUserAgent, userAgent)
		size += http2.FieldSize(len("user-agent"), len(userAgent))
	}
	return dst, size, nil
}

// appendBase64 appends s in base64 without padding.
func appendBase64(dst []byte, s string) []byte {
	var in [96]byte
	for len(s) > 0 {
		n := copy(in[:], s) // a multiple of 3, so that pieces join
		dst = base64.RawStdEncoding.AppendEncode(dst, in[:n])
		s = s[n:]
	}
	return dst
}

// appendTimeout appends d in the coarsest unit that loses nothing that matters: at most eight digits, rounded up.
func appendTimeout(dst []byte, d time.Duration) []byte {
	const digits = 100_000_000
	units := [...]struct {
		unit time.Duration
		name byte
	}{{time.Nanosecond, 'n'}, {time.Microsecond, 'u'}, {time.Millisecond, 'm'}, {time.Second, 'S'}, {time.Minute, 'M'}, {time.Hour, 'H'}}
	for _, u := range units {
		if n := (d-1)/u.unit + 1; n < digits {
			return append(strconv.AppendInt(dst, int64(n), 10), u.name)
		}
	}
	return append(dst, "99999999H"...)
}

// reserved tells names that are the protocol's own business: they are made here and never passed on.
func reserved(key string) bool {
	switch key {
	case "", "te", "content-type", "content-length", "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "host":
		return true
	}
	return key[0] == ':' || strings.HasPrefix(key, "grpc-")
}

// metadataKey holds a name against the Header-Name production of grpc/doc/PROTOCOL-HTTP2.md.
func metadataKey(k string) bool {
	for i := range len(k) {
		if !keyTable[k[i]] {
			return false
		}
	}
	return k != ""
}

var keyTable = func() (t [256]bool) {
	for _, c := range "abcdefghijklmnopqrstuvwxyz0123456789-_." {
		t[c] = true
	}
	return t
}()

// printable holds a value against the ASCII-Value production; space around it is cut off by every receiver, so HTTP/2
// does not allow it.
func printable(v string) bool {
	return v == "" || v[0] != ' ' && v[len(v)-1] != ' ' && rpcadapters.Printable(v)
}

// appendMetadata appends what of a head or of trailers is metadata, in its order, with the values of -bin decoded.
func appendMetadata(dst rpc.Metadata, fields rpc.Metadata) (rpc.Metadata, *rpc.Error) {
	for i := range fields {
		key, value := fields[i].Key, fields[i].Value
		if key == "content-type" || strings.HasPrefix(key, "grpc-") {
			continue
		}
		if !strings.HasSuffix(key, "-bin") {
			dst = append(dst, fields[i])
			continue
		}
		for more := true; more; {
			var one string
			one, value, more = strings.Cut(value, ",") // values of one name may come joined
			raw, ok := decodeBin(one)
			if !ok {
				return dst, misshapen("metadata %q is not base64", key)
			}
			dst = append(dst, rpc.Pair{Key: key, Value: raw})
		}
	}
	return dst, nil
}

// decodeBin reads base64 with or without padding, as gRPC asks of receivers.
func decodeBin(v string) (string, bool) {
	v = strings.TrimRight(strings.TrimSpace(v), "=")
	b, err := base64.RawStdEncoding.DecodeString(v)
	return string(b), err == nil
}
