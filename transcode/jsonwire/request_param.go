package jsonwire

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// writeAll writes the parameters of one source.
func (g *merge) writeAll(r *Request, from Source) error {
	grouped := false
	for i := range r.Params {
		a := &r.Params[i]
		if a.From != from {
			continue
		}
		if a.Captured && captureOf(a.Field.Last()).grouped() {
			grouped = true
			continue
		}
		if !g.param(a) {
			return refused(a, g.failMsg)
		}
	}
	if grouped {
		return g.captureGroups(r, from)
	}
	return nil
}

// param writes one parameter.
func (g *merge) param(a *Param) bool {
	outer, ok := g.enter(a.Field)
	if !ok {
		return false
	}
	switch f := a.Field.Last(); {
	case f.Cardinality == schema.Map:
		ok = g.entry(a, f)
	case a.Captured:
		ok = g.namedValue(a, f)
	default:
		ok = g.paramValue(f, a.Value, a.Field)
	}
	if ok {
		g.leave(a.Field, outer)
	}
	return ok
}

// entry writes one entry of map field f.
func (g *merge) entry(a *Param, f *schema.Field) bool {
	g.out = appendVarint(g.out, f.Tag)
	l := g.openLen()
	g.out = appendVarint(g.out, f.MapKey.Tag)
	at := len(g.out)
	if !g.paramScalar(f.MapKey, a.Key) {
		g.failMsg = "the key: " + g.failMsg
		return false
	}
	// Two spellings of a number are one key, so it is compared as written; the path to the map goes before it.
	g.prefix = append(g.prefix[:0], byte(a.From))
	for _, on := range a.Field {
		g.prefix = binary.LittleEndian.AppendUint32(g.prefix, uint32(on.Number))
	}
	g.prefix = append(g.prefix, 0, 0, 0, 0)
	g.prefix = append(g.prefix, g.out[at:]...)
	if _, twice := g.keys.put(scopeKeys, g.prefix, 0); twice {
		return g.fail(0, "it is given twice")
	}
	if !g.paramValue(f.MapValue, a.Value, a.Field) {
		return false
	}
	g.closeLen(l)
	return true
}

// paramValue writes a parameter's text as one value of f, tag included: the field that ends the path, or its map's value.
func (p *parser) paramValue(f *schema.Field, text string, path schema.Path) bool {
	if f.Message == nil {
		p.out = appendVarint(p.out, f.Tag)
		return p.paramScalar(f, text)
	}
	kind := f.Message.WellKnown
	if f.Kind == protoreflect.GroupKind || kind == schema.NotWellKnown || kind == schema.Any {
		return p.fail(0, untold(f, path))
	}
	p.out = appendVarint(p.out, f.Tag)
	g := p.openLen()
	switch {
	case kind.Wrapper():
		p.out = appendVarint(p.out, f.Message.Fields[0].Tag)
		if !p.paramScalar(f.Message.Fields[0], text) {
			return false
		}
	case kind == schema.Empty:
		if text != "" && text != "{}" {
			return p.failf(0, "wanted nothing or {} for google.protobuf.Empty, found %s", quoteText(text))
		}
	case kind == schema.Struct || kind == schema.Value || kind == schema.ListValue || kind == schema.TarsItems || kind == schema.TarsEntry:
		if !p.jsonText(f.Message, text, len(path)) {
			return false
		}
	default:
		p.tmp = append(p.tmp[:0], text...)
		if !p.wellKnownText(f.Message, p.tmp, -1) && !(kind == schema.Duration && p.goDuration(text)) {
			return p.failf(0, "wanted %s, found %s", formOf(f.Message), quoteText(text))
		}
	}
	p.closeLen(g)
	return true
}

// goDuration writes a Duration in the form of Go, 1h30m.
func (p *parser) goDuration(text string) bool {
	d, err := time.ParseDuration(text)
	if err == nil {
		p.secondsNanos(int64(d/time.Second), int32(d%time.Second))
	}
	return err == nil
}

// untold says how to give a message that has no form as text.
func untold(f *schema.Field, path schema.Path) string {
	switch {
	case f.Message.WellKnown == schema.Any || f != path.Last():
		return f.Message.Name + " cannot be given as text, only in a JSON body"
	case f.Cardinality == schema.Repeated:
		return f.Message.Name + " cannot be given as text, and several of them only in a JSON body"
	case len(f.Message.Fields) == 0:
		return f.Message.Name + " cannot be given as text and has no fields: give {} in a JSON body"
	default:
		return fmt.Sprintf("wanted the fields of %s one by one, as in %s.%s=..., found a value for the whole",
			f.Message.Name, path, f.Message.Fields[0].Name)
	}
}

// jsonText writes a message of JSON values from its JSON text.
func (p *parser) jsonText(m *schema.Message, text string, depth int) bool {
	in, pos, was := p.in, p.pos, p.depth
	p.in, p.pos, p.depth = []byte(text), 0, depth-1
	ok := p.message(m) && p.end()
	if !ok {
		p.failMsg = fmt.Sprintf("wanted JSON text for %s: at byte %d %s", m.Name, p.failAt+1, strings.ReplaceAll(p.failMsg, "end of the body", "end of the text"))
	}
	p.in, p.pos, p.depth = in, pos, was
	return ok
}

// paramScalar writes text as a value of f's kind, without the tag.
func (p *parser) paramScalar(f *schema.Field, text string) bool {
	var ok bool
	switch f.Kind {
	case protoreflect.StringKind:
		return p.paramString(text)
	case protoreflect.BytesKind:
		p.tmp = append(p.tmp[:0], text...)
		ok = p.appendBase64(p.tmp)
	case protoreflect.BoolKind:
		v, err := strconv.ParseBool(text)
		p.out, ok = append(p.out, oneIf(v)), err == nil
	case protoreflect.EnumKind:
		return p.paramEnum(f.Enum, text)
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		v, err := strconv.ParseFloat(text, bitSize(f.Kind))
		p.floatValue(f.Kind, v)
		ok = err == nil
	default:
		var v uint64
		var err error
		if isUnsigned(f.Kind) {
			v, err = strconv.ParseUint(text, 10, bitSize(f.Kind))
		} else {
			var n int64
			n, err = strconv.ParseInt(text, 10, bitSize(f.Kind))
			v = uint64(n)
		}
		p.out, ok = appendNumber(p.out, f, v), err == nil
	}
	if !ok {
		return p.failf(0, "wanted %s, found %s", wanted(f), quoteText(text))
	}
	return true
}

// paramString writes length and content of a string.
func (p *parser) paramString(text string) bool {
	if !p.utf8(text) {
		return false
	}
	p.out = appendVarint(p.out, uint64(len(text)))
	p.out = append(p.out, text...)
	return true
}

func (p *parser) utf8(text string) bool {
	return utf8.ValidString(text) || p.failf(0, "wanted UTF-8, found byte 0x%02x", text[len(validPrefix([]byte(text), len(text)))])
}

func (p *parser) paramEnum(e *schema.Enum, text string) bool {
	n, ok := e.NumberOf(text)
	if !ok {
		v, err := strconv.ParseInt(text, 10, 32)
		if n = int32(v); err == nil {
			_, ok = e.NameOf(n)
		}
	}
	if !ok {
		return p.failf(0, "enum %s has no value %s%s", e.Name, quoteText(text), schema.DidYouMean(text, enumNames(e)))
	}
	p.out = appendVarint(p.out, uint64(int64(n)))
	return true
}

// paramPath is the JSON path of a parameter.
func paramPath(a *Param) string {
	s := jsonPath(a.Field)
	if a.Captured || a.Field.Last().Cardinality == schema.Map {
		var b strings.Builder
		b.WriteString(s)
		writeKey(&b, []byte(quoteText(a.Key)))
		s = b.String()
	}
	return s
}

// quoteText is quoteName for a string.
func quoteText(s string) string { return quoteName([]byte(s[:min(len(s), 256)])) }
