package jsonwire

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// items reads a vector or map inside another one. The SDK for Go writes null for an empty one.
func (p *parser) items(f *schema.Field) bool {
	return p.null() || p.value(f) != bad
}

// keyed reads a map whose keys protobuf does not allow from an object, as the SDKs of TARS write it: its names are the text
// of the keys' JSON.
func (p *parser) keyed(f *schema.Field) verdict {
	if p.pos++; p.peek() == '}' {
		p.pos++
		return set
	}
	key, value := f.Message.Fields[0], f.Message.Fields[1]
	for more := true; more; {
		p.elements++ // the key
		if !p.element() {
			return bad
		}
		if p.peek() != '"' {
			p.failf(p.pos, "wanted a key in quotes, found %s", p.found(p.pos))
			return bad
		}
		p.out = appendVarint(p.out, f.Tag)
		g := p.openLen()
		if p.depth++; p.depth > p.maxDepth {
			p.tooDeep()
			return bad
		}
		if !p.keyText(key) || !p.want(':', `":" after a key`) {
			return bad
		}
		if p.peek() != 'n' || takesNull(value) || !p.null() {
			if p.value(value) == bad {
				return bad
			}
		}
		p.depth--
		p.closeLen(g)
		var ok bool
		if more, ok = p.more('}'); !ok {
			return bad
		}
	}
	return set
}

// keyText reads the name at pos as a key of any kind, and writes it with its tag.
func (p *parser) keyText(f *schema.Field) bool {
	at := p.pos
	if f.Cardinality != schema.Singular || f.Message != nil {
		raw, ok := p.str()
		return ok && p.keyJSON(f, raw, at)
	}
	switch f.Kind {
	case protoreflect.StringKind:
		return p.value(f) != bad
	case protoreflect.BoolKind:
		raw, ok := p.str()
		v, known := boolKey(raw, true)
		if !ok || !known {
			return p.wrong(at, f)
		}
		if v || p.keepZero || f.Presence {
			p.out = append(appendVarint(p.out, f.Tag), oneIf(v))
		}
		return true
	case protoreflect.BytesKind:
		if raw, ok := p.str(); !ok || len(raw) > 0 && raw[0] == '[' {
			return ok && p.keyJSON(f, raw, at)
		}
		p.pos = at
		return p.value(f) != bad
	case protoreflect.EnumKind:
		raw, ok := p.str()
		if !ok {
			return false
		}
		if len(raw) > 0 && (raw[0] == '-' || '0' <= raw[0] && raw[0] <= '9') {
			return p.keyJSON(f, raw, at)
		}
		p.pos = at
		return p.value(f) != bad
	}
	return p.value(f) != bad // a number may stand in quotes
}

// keyJSON reads a key from its JSON, which is the content of the string at an offset.
func (p *parser) keyJSON(f *schema.Field, raw []byte, at int) bool {
	if p.inKey {
		return p.failf(at, "wanted a list of {key, value} for a map inside a key, found a key inside a key")
	}
	p.keyBuf = append(p.keyBuf[:0], raw...)
	in, pos, anys := p.in, p.pos, p.anys
	p.in, p.pos, p.anys, p.inKey = p.keyBuf, 0, anyIndex{}, true
	p.peek()
	ok := p.value(f) != bad && p.end()
	if !ok {
		p.failMsg = fmt.Sprintf("wanted the JSON of %s as a key: at its byte %d %s", wantedKey(f), p.failAt+1, strings.ReplaceAll(p.failMsg, "end of the body", "end of the key"))
		p.failAt = at
	}
	p.in, p.pos, p.anys, p.inKey = in, pos, anys, false
	return ok
}

// wantedKey describes a key that is no string and no number.
func wantedKey(f *schema.Field) string {
	switch {
	case f.Cardinality == schema.Map:
		return "an object"
	case f.Cardinality == schema.Repeated:
		return "an array of " + wanted(f)
	}
	return wanted(f)
}

// wantedMessage describes the JSON form of a message.
func wantedMessage(m *schema.Message) string {
	switch {
	case m.WellKnown == schema.TarsEntry:
		return "objects with key and value"
	case m.WellKnown == schema.TarsItems && m.Fields[0].Cardinality == schema.Map:
		return "objects"
	case m.WellKnown == schema.TarsItems:
		return "arrays"
	}
	return m.Name
}

// boolKey reads the key of a map of bools; numbers are what the SDK for C++ writes.
func boolKey(raw []byte, numbers bool) (v, ok bool) {
	switch string(raw) {
	case "true":
		return true, true
	case "false":
		return false, true
	case "1":
		return true, numbers
	case "0":
		return false, numbers
	}
	return false, false
}

// byteArray reads bytes as numbers, signed as the SDKs of TARS write them or unsigned, into length and content. Elements are
// not counted: each is a byte or more of text, and one of output.
func (p *parser) byteArray(f *schema.Field, c byte) verdict {
	if c == 'n' && f.Tars && p.null() {
		p.out = append(p.out, 0)
		return zero
	}
	if c != '[' || !f.Tars && !p.opts.BytesAsArray {
		p.wrong(p.pos, f)
		return bad
	}
	p.pos++
	g := p.openLen()
	if p.peek() == ']' {
		p.pos++
		p.closeLen(g)
		return zero
	}
	for more := true; more; {
		c, at := p.peek(), p.pos
		var neg, ok bool
		var mag uint64
		if c == '-' || '0' <= c && c <= '9' {
			if neg, mag, ok = p.plainInteger(c); !ok {
				var tok []byte
				if tok, ok = p.numberToken(); !ok {
					return bad
				}
				neg, mag, ok = integer(tok)
			}
		}
		n, fits := signed(neg, mag, 64)
		if !ok || !fits || n < -128 || n > 255 {
			p.failf(at, "wanted a byte, an integer from -128 to 255, found %s", p.found(at))
			return bad
		}
		p.out = append(p.out, byte(n))
		if more, ok = p.more(']'); !ok {
			return bad
		}
	}
	p.closeLen(g)
	return set
}
