package jsonwire

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

func oneIf(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// scalar reads a value of a kind that is no message and writes it without its tag.
func (p *parser) scalar(f *schema.Field) verdict {
	c := p.peek()
	switch f.Kind {
	case protoreflect.StringKind:
		if c != '"' {
			p.wrong(p.pos, f)
			return bad
		}
		return p.text()
	case protoreflect.BoolKind:
		return p.boolean(f)
	case protoreflect.BytesKind:
		if c != '"' {
			return p.byteArray(f, c)
		}
		return p.base64(f)
	case protoreflect.EnumKind:
		return p.enum(f, c)
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return p.float(f, c)
	default:
		return p.integer(f, c)
	}
}

func (p *parser) boolean(f *schema.Field) verdict {
	switch {
	case p.literal("true"):
		p.pos += len("true")
		p.out = append(p.out, 1)
		return set
	case p.literal("false"):
		p.pos += len("false")
		p.out = append(p.out, 0)
		return zero
	}
	p.wrong(p.pos, f)
	return bad
}

// text reads the string at pos into length and content.
func (p *parser) text() verdict {
	at := len(p.out)
	if !p.stringValue() {
		return bad
	}
	if len(p.out) == at+1 {
		return zero
	}
	return set
}

func (p *parser) stringValue() bool {
	start := p.pos + 1
	end, escaped, ok := p.scan(start)
	if !ok {
		return false
	}
	p.pos = end + 1
	if !escaped {
		p.out = appendVarint(p.out, uint64(end-start))
		p.out = append(p.out, p.in[start:end]...)
		return true
	}
	g := p.openLen()
	if p.out, ok = p.unescape(p.out, start, end); !ok {
		return false
	}
	p.closeLen(g)
	return true
}

func (p *parser) base64(f *schema.Field) verdict {
	at := p.pos
	raw, ok := p.str()
	if !ok {
		return bad
	}
	start := len(p.out)
	if !p.appendBase64(raw) {
		p.wrong(at, f)
		return bad
	}
	if len(p.out) == start+1 {
		return zero
	}
	return set
}

// appendBase64 writes length and content of base64 text in either alphabet, padded or not.
func (p *parser) appendBase64(raw []byte) bool {
	url := false
	for _, c := range raw {
		url = url || c == '-' || c == '_'
	}
	enc := base64.StdEncoding
	switch padded := len(raw)%4 == 0; {
	case url && padded:
		enc = base64.URLEncoding
	case url:
		enc = base64.RawURLEncoding
	case !padded:
		enc = base64.RawStdEncoding
	}
	g := p.openLen()
	out, err := enc.AppendDecode(p.out, raw)
	if err != nil {
		return false
	}
	p.out = out
	p.closeLen(g)
	return true
}

func (p *parser) enum(f *schema.Field, c byte) verdict {
	at := p.pos
	switch {
	case c == '"':
		raw, ok := p.str()
		if !ok {
			return bad
		}
		n, ok := f.Enum.Number(raw)
		switch {
		case ok:
			return p.enumNumber(n)
		case p.opts.IgnoreUnknown:
			return dropped
		}
		p.failf(at, "enum %s has no value %q%s", f.Enum.Name, string(validPrefix(raw, 64)), schema.DidYouMean(string(raw), enumNames(f.Enum)))
		return bad
	case c == 'n' && f.Enum.Null && p.null():
		return p.enumNumber(0)
	case c == '-' || '0' <= c && c <= '9':
		tok, ok := p.numberToken()
		if !ok {
			return bad
		}
		neg, mag, ok := integer(tok)
		n, fits := signed(neg, mag, 32)
		if !ok || !fits {
			p.wrong(at, f)
			return bad
		}
		if _, known := f.Enum.NameOf(int32(n)); !known && f.Enum.Closed {
			p.failf(at, "enum %s is closed and has no value %d", f.Enum.Name, n)
			return bad
		}
		return p.enumNumber(int32(n))
	}
	p.wrong(at, f)
	return bad
}

func (p *parser) enumNumber(n int32) verdict {
	p.out = appendVarint(p.out, uint64(int64(n)))
	if n == 0 {
		return zero
	}
	return set
}

// enumNames are the value names of e, for messages.
func enumNames(e *schema.Enum) []string {
	vs := e.Desc.Values()
	names := make([]string, vs.Len())
	for i := range names {
		names[i] = string(vs.Get(i).Name())
	}
	return names
}

// numeric reads the token of a number, bare or in quotes.
func (p *parser) numeric(f *schema.Field, c byte) ([]byte, bool) {
	if c == '"' {
		at := p.pos
		tok, ok := p.str()
		if ok && len(tok) > maxNumberToken {
			return nil, p.failf(at, "wanted a number of at most %d bytes, found one of %d", maxNumberToken, len(tok))
		}
		return tok, ok
	}
	if c != '-' && (c < '0' || c > '9') {
		return nil, p.wrong(p.pos, f)
	}
	return p.numberToken()
}

func (p *parser) integer(f *schema.Field, c byte) verdict {
	at := p.pos
	neg, mag, ok := p.plainInteger(c)
	if !ok {
		var tok []byte
		if tok, ok = p.numeric(f, c); !ok {
			return bad
		}
		neg, mag, ok = integer(tok)
	}
	var v uint64
	if isUnsigned(f.Kind) {
		var fits bool
		v, fits = unsigned(neg, mag, bitSize(f.Kind))
		ok = ok && fits
	} else {
		n, fits := signed(neg, mag, bitSize(f.Kind))
		v, ok = uint64(n), ok && fits
	}
	if !ok {
		p.wrong(at, f)
		return bad
	}
	p.out = appendNumber(p.out, f, v)
	if v == 0 {
		return zero
	}
	return set
}

func (p *parser) float(f *schema.Field, c byte) verdict {
	at := p.pos
	tok, ok := p.numeric(f, c)
	if !ok {
		return bad
	}
	v, ok := parseFloat(tok, c == '"', bitSize(f.Kind))
	if !ok {
		p.wrong(at, f)
		return bad
	}
	return p.floatValue(f.Kind, v)
}

func (p *parser) floatValue(kind protoreflect.Kind, v float64) verdict {
	if kind == protoreflect.FloatKind {
		n := math.Float32bits(float32(v))
		p.out = binary.LittleEndian.AppendUint32(p.out, n)
		if n == 0 {
			return zero
		}
		return set
	}
	n := math.Float64bits(v)
	p.out = binary.LittleEndian.AppendUint64(p.out, n)
	if n == 0 {
		return zero
	}
	return set
}

// parseFloat reads a number token, or in quotes also the names of the values that JSON has no number for.
func parseFloat(tok []byte, quoted bool, width int) (float64, bool) {
	if quoted {
		switch string(tok) {
		case "NaN":
			return math.NaN(), true
		case "Infinity":
			return math.Inf(1), true
		case "-Infinity":
			return math.Inf(-1), true
		}
		if len(tok) > maxNumberToken || !validNumber(tok) {
			return 0, false
		}
	}
	if v, ok := plainFloat(tok); ok && width == 64 {
		return v, true
	}
	v, err := strconv.ParseFloat(view(tok), width)
	return v, err == nil
}

// appendNumber appends an integer in the encoding of f's kind; v holds signed ones sign-extended.
func appendNumber(out []byte, f *schema.Field, v uint64) []byte {
	switch f.Kind {
	case protoreflect.Sint32Kind, protoreflect.Sint64Kind:
		return appendVarint(out, protowire.EncodeZigZag(int64(v)))
	case protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind:
		return binary.LittleEndian.AppendUint32(out, uint32(v))
	case protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind:
		return binary.LittleEndian.AppendUint64(out, v)
	default:
		return appendVarint(out, v)
	}
}

func isUnsigned(k protoreflect.Kind) bool {
	switch k {
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind, protoreflect.Fixed32Kind, protoreflect.Fixed64Kind:
		return true
	}
	return false
}

func bitSize(k protoreflect.Kind) int {
	switch k {
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind, protoreflect.Uint64Kind, protoreflect.Fixed64Kind, protoreflect.DoubleKind:
		return 64
	}
	return 32
}

// wanted describes the JSON forms of one value of f.
func wanted(f *schema.Field) string {
	switch f.Kind {
	case protoreflect.BoolKind:
		return "true or false"
	case protoreflect.StringKind:
		return "a string"
	case protoreflect.BytesKind:
		if f.Tars {
			return "bytes, as a string in base64 or an array of numbers"
		}
		return "a string in base64"
	case protoreflect.EnumKind:
		return "a value of enum " + f.Enum.Name
	case protoreflect.FloatKind:
		return "a number (float)"
	case protoreflect.DoubleKind:
		return "a number (double)"
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return wantedMessage(f.Message)
	}
	switch w := bitSize(f.Kind); {
	case isUnsigned(f.Kind) && w == 32:
		return "an integer from 0 to 4294967295 (" + f.Kind.String() + ")"
	case isUnsigned(f.Kind):
		return "an integer from 0 to 18446744073709551615 (" + f.Kind.String() + ")"
	case w == 32:
		return "an integer from -2147483648 to 2147483647 (" + f.Kind.String() + ")"
	default:
		return "an integer from -9223372036854775808 to 9223372036854775807 (" + f.Kind.String() + ")"
	}
}
