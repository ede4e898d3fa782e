package tarswire

import (
	"sync"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/transform"
)

// Charset is what strings are written in. In protobuf they are UTF-8.
type Charset uint8

// The charsets.
const (
	UTF8 Charset = iota
	GBK          // as extended by GB 18030 in one and two bytes: what older services write
)

var (
	gbkDecoders = sync.Pool{New: func() any { return simplifiedchinese.GBK.NewDecoder() }}
	gbkEncoders = sync.Pool{New: func() any { return simplifiedchinese.GBK.NewEncoder() }}
)

// appendFromGBK appends s in UTF-8. What is not GBK becomes U+FFFD; ok is then false.
func appendFromGBK(dst, s []byte) (_ []byte, ok bool) {
	d := gbkDecoders.Get().(*encoding.Decoder)
	defer gbkDecoders.Put(d)
	start := len(dst)
	dst, _ = appendTransformed(dst, s, d.Transformer)
	for rest := dst[start:]; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		if r == utf8.RuneError {
			return dst, false
		}
		rest = rest[n:]
	}
	return dst, true
}

// appendToGBK appends s, which is UTF-8, in GBK; false: it has a character that GBK has not.
func appendToGBK(dst, s []byte) (_ []byte, ok bool) {
	e := gbkEncoders.Get().(*encoding.Encoder)
	defer gbkEncoders.Put(e)
	return appendTransformed(dst, s, e.Transformer)
}

func appendTransformed(dst, s []byte, t transform.Transformer) ([]byte, bool) {
	t.Reset()
	for len(s) > 0 {
		if cap(dst)-len(dst) < 2*len(s)+8 {
			grown := make([]byte, len(dst), len(dst)+2*len(s)+64)
			copy(grown, dst)
			dst = grown
		}
		n, read, err := t.Transform(dst[len(dst):cap(dst)], s, true)
		dst, s = dst[:len(dst)+n], s[read:]
		if err != nil && err != transform.ErrShortDst { //nolint:errorlint // transformers return it as it is
			return dst, false
		}
	}
	return dst, true
}

// FromCharset appends the text s in UTF-8; what it cannot be becomes U+FFFD.
func FromCharset(dst, s []byte, c Charset) []byte {
	switch {
	case c == GBK:
		dst, _ = appendFromGBK(dst, s)
		return dst
	case utf8.Valid(s):
		return append(dst, s...)
	}
	return appendReplaced(dst, s)
}

// ToCharset appends the text s, which is UTF-8, in a charset; a character that it does not have becomes a question mark.
func ToCharset(dst, s []byte, c Charset) []byte {
	if c != GBK {
		return append(dst, s...)
	}
	for len(s) > 0 {
		_, n := utf8.DecodeRune(s)
		at := len(dst)
		var ok bool
		if dst, ok = appendToGBK(dst, s[:n]); !ok {
			dst = append(dst[:at], '?')
		}
		s = s[n:]
	}
	return dst
}
