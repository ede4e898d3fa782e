package jsonwire

import (
	"encoding/binary"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// AppendRequest appends to dst the wire form of the message that one HTTP request stands for: its body, then the
// parameters of its query, then those of its path, so that by protobuf's rule that the last one wins the path overrides
// the body.
//
// A parameter is text in the form that grpc-gateway takes: numbers in base 10, bools as strconv.ParseBool has them, enum
// values by name or known number, bytes in either base64 alphabet, and Timestamp, Duration, FieldMask and the wrappers in
// their JSON form without quotes. A repeated field is given by repetition. Refused are: a parameter for a map or another
// message; two for one singular field, for a message and a part of it, or for two members of one oneof; one of the query
// for what the body or the path gives.
//
// Nothing of r is kept. o may be nil. The error is an *Error, and dst is then returned as it was.
func AppendRequest(dst []byte, r *Request, o *Options) ([]byte, error) {
	p := newParser(dst, r.Body, o)
	defer p.release()
	if len(r.Params) == 0 && r.BodyField == nil {
		if len(r.Body) == 0 {
			if !p.complete(r.Message, 0, 0, &seenSet{wide: -1}) {
				return dst, &Error{Message: p.failMsg}
			}
			return dst, nil
		}
		if !p.fits() || !p.message(r.Message) || !p.end() {
			return dst, p.fault("")
		}
		p.spread()
		return p.out, nil
	}
	p.keepZero = len(r.Params) > 0
	p.partial = 1
	if err := p.body(r, len(dst)); err != nil {
		return dst, err
	}
	if err := p.params(r, len(dst)); err != nil {
		return dst, err
	}
	p.spread()
	if r.Message.HasRequired {
		if err := checkRequired(p.out[len(dst):], r.Message, o); err != nil {
			return dst, err
		}
	}
	return p.out, nil
}

// checkRequired says whether a message that was put together from several sources has all its required fields.
func checkRequired(wire []byte, m *schema.Message, o *Options) error {
	p := newPrinter(nil, wire, o)
	defer p.release()
	p.demand = true
	if !p.root() || !p.checkMessage(m, 0, 1) {
		return p.err
	}
	return nil
}

// The scopes of parser.keys while a request is put together; those of maps count up from 1.
const (
	scopeParams uint32 = 0
	scopeBody   uint32 = 1<<32 - 1
)

// body writes what the body gives and notes it for the parameters to be held against.
func (p *parser) body(r *Request, start int) error {
	if len(r.Body) == 0 {
		return nil
	}
	if !p.fits() {
		return p.fault("")
	}
	if r.BodyField == nil {
		if !p.message(r.Message) || !p.end() {
			return p.fault("")
		}
		p.spread()
		if hasQuery(r) {
			p.noteBody(start)
		}
		return nil
	}
	v := p.bodyField(r.BodyField)
	if v == bad || !p.end() {
		return p.fault(jsonPath(r.BodyField))
	}
	p.spread()
	if v != dropped {
		p.note(r.BodyField, fromBody)
	}
	return nil
}

func hasQuery(r *Request) bool {
	for i := range r.Params {
		if r.Params[i].From == FromQuery {
			return true
		}
	}
	return false
}

// bodyField reads the text into one field, wrapped in the messages that lead to it.
func (p *parser) bodyField(path schema.Path) verdict {
	f := path.Last()
	p.depth += len(path)
	if p.depth > p.maxDepth {
		p.tooDeep()
		return bad
	}
	if p.peek() == 'n' && !takesNull(f) && p.null() {
		return dropped
	}
	start := len(p.out)
	outer, ok := p.enter(path)
	if !ok {
		return bad
	}
	at := len(p.out)
	v := p.value(f)
	if v == bad {
		return bad
	}
	if len(p.out) == at && len(path) > 1 {
		if outer >= 0 {
			p.dropLen(outer, start)
		}
		p.out = p.out[:start]
		return v
	}
	p.leave(path, outer)
	return v
}

// enter writes the tags of the messages that lead to the end of a path, and opens their lengths; the result is the first
// gap.
func (p *parser) enter(path schema.Path) (outer int, ok bool) {
	outer = -1
	for _, f := range path[:len(path)-1] {
		if f.Cardinality != schema.Singular || f.Message == nil {
			return outer, p.failf(p.pos, "field %q is %s and has no fields of its own", f.Name, f.Shape())
		}
		p.out = appendVarint(p.out, f.Tag)
		if f.Kind == protoreflect.MessageKind {
			if g := p.openLen(); outer < 0 {
				outer = g
			}
		}
	}
	return outer, true
}

func (p *parser) leave(path schema.Path, outer int) {
	g := outer
	for _, f := range path[:len(path)-1] {
		if f.Kind == protoreflect.MessageKind {
			g++
		}
	}
	for i := len(path) - 2; i >= 0; i-- {
		if path[i].Kind == protoreflect.GroupKind {
			p.out = appendVarint(p.out, path[i].EndTag)
			continue
		}
		g--
		p.closeLen(g)
	}
}

// Where a field comes from: the sources of parameters, and the body.
const fromBody = Source(2)

// What the table of given fields holds for one of them, beside its source.
const (
	part  = 0      // a message that something in it was given for
	whole = 1 << 8 // the field itself was given
)

// note keeps in p.keys that a field is given, and which member of their oneofs the fields on the way to it are. When that
// goes against what was noted before, it says how.
func (p *parser) note(path schema.Path, from Source) (against string) {
	p.tmp = p.tmp[:0]
	for i, f := range path {
		if f.Oneof >= 0 {
			n := len(p.tmp)
			p.tmp = append(p.tmp, 'o')
			p.tmp = binary.LittleEndian.AppendUint32(p.tmp, uint32(f.Oneof))
			was, found := p.keys.put(scopeParams, p.tmp, uint32(f.Number)<<2|uint32(from))
			if Source(*was&3) != fromBody || from != FromPath {
				if found && *was>>2 != uint32(f.Number) {
					return "another member of oneof " + strconv.Quote(f.Parent.Oneofs[f.Oneof].Name) + " is given by the " + Source(*was&3).String()
				}
			}
			p.tmp = p.tmp[:n]
		}
		p.tmp = append(p.tmp, 'f')
		p.tmp = binary.LittleEndian.AppendUint32(p.tmp, uint32(f.Number))
		kind := uint32(part)
		if i == len(path)-1 {
			kind = whole
		}
		was, found := p.keys.put(scopeParams, p.tmp, kind|uint32(from))
		before := Source(*was & 0xFF)
		switch {
		case !found || before == fromBody && from == FromPath:
			*was = kind | uint32(from)
		case *was&whole == 0 && kind == part:
		case *was&whole != 0 && kind == whole && f.Cardinality == schema.Repeated && before == from:
		case *was&whole != 0 && kind == whole && before == from:
			return "it is given twice"
		case *was&whole != 0:
			return "the " + before.String() + " gives " + strconv.Quote(path[:i+1].String())
		default:
			return "the " + before.String() + " gives a part of it"
		}
	}
	return ""
}

// String names the source as messages do.
func (s Source) String() string {
	switch s {
	case FromPath:
		return "path"
	case FromQuery:
		return "query"
	default:
		return "body"
	}
}

// noteBody keeps the top-level fields of the body just written, each with the offset of its value.
func (p *parser) noteBody(start int) {
	for i := start; i < len(p.out); {
		num, typ, n := protowire.ConsumeTag(p.out[i:])
		var key [4]byte
		binary.LittleEndian.PutUint32(key[:], uint32(num))
		p.keys.put(scopeBody, key[:], uint32(i+n-start))
		i += n + protowire.ConsumeFieldValue(num, typ, p.out[i+n:])
	}
}

// bodyHas says whether the whole message read from the body gives the field at the end of a path, or another member of a
// oneof on the way. The body's own fields come from the table, so that many parameters beside a large body stay cheap.
func (p *parser) bodyHas(path schema.Path, start int) bool {
	wire := p.out[start:]
	for i, f := range path {
		at, ok := p.valueAt(wire, f, i == 0)
		if f.Oneof >= 0 {
			for _, other := range f.Parent.Oneofs[f.Oneof].Fields {
				if _, given := p.valueAt(wire, other, i == 0); given && other != f {
					return true
				}
			}
		}
		if !ok || i == len(path)-1 {
			return ok
		}
		if f.Kind == protoreflect.GroupKind {
			wire, _ = protowire.ConsumeGroup(f.Number, wire[at:])
		} else {
			wire, _ = protowire.ConsumeBytes(wire[at:])
		}
	}
	return false
}

// valueAt finds the value of field f in the wire bytes of a message; top says that it is the whole body.
func (p *parser) valueAt(wire []byte, f *schema.Field, top bool) (at int, ok bool) {
	if !top {
		return findField(wire, f.Number)
	}
	var key [4]byte
	binary.LittleEndian.PutUint32(key[:], uint32(f.Number))
	v, ok := p.keys.get(scopeBody, key[:])
	return int(v), ok
}

// findField finds the value of a field in well-formed wire bytes.
func findField(wire []byte, want protowire.Number) (at int, ok bool) {
	for i := 0; i < len(wire); {
		num, typ, n := protowire.ConsumeTag(wire[i:])
		if num == want {
			return i + n, true
		}
		i += n + protowire.ConsumeFieldValue(num, typ, wire[i+n:])
	}
	return 0, false
}

// params writes the parameters, those of the query before those of the path; the path's are noted first.
func (p *parser) params(r *Request, start int) error {
	end := len(p.out)
	for _, from := range [...]Source{FromPath, FromQuery} {
		for i := range r.Params {
			if a := &r.Params[i]; a.From == from {
				if against := p.admit(a, r, start, end); against != "" {
					return &Error{Path: jsonPath(a.Field), Message: "a parameter of the " + from.String() + " is refused: " + against}
				}
			}
		}
	}
	for _, from := range [...]Source{FromQuery, FromPath} {
		for i := range r.Params {
			if a := &r.Params[i]; a.From == from && !p.param(a) {
				return &Error{Path: jsonPath(a.Field), Message: "a parameter of the " + from.String() + " is refused: " + p.failMsg}
			}
		}
	}
	return nil
}

// admit says why a parameter may not stand beside the others and the body; "" when it may. The body is out[start:end].
func (p *parser) admit(a *Param, r *Request, start, end int) string {
	if p.elements++; p.elements > p.maxElements {
		return "more than " + strconv.Itoa(p.maxElements) + " fields and elements in one message"
	}
	if len(a.Field) > p.maxDepth {
		return "nested deeper than " + strconv.Itoa(p.maxDepth) + " levels"
	}
	if against := p.note(a.Field, a.From); against != "" {
		return against
	}
	if a.From == FromQuery && r.BodyField == nil && end > start && p.bodyHas(a.Field, start) {
		return "the body gives it, or another member of its oneof"
	}
	return ""
}

// param writes one parameter.
func (p *parser) param(a *Param) bool {
	outer, ok := p.enter(a.Field)
	if !ok {
		return false
	}
	f := a.Field.Last()
	p.tmp = append(p.tmp[:0], a.Value...)
	switch {
	case f.Cardinality == schema.Map:
		return p.fail(0, "a map cannot be given as a parameter")
	case f.Message == nil:
		p.out = appendVarint(p.out, f.Tag)
		ok = p.paramScalar(f, a.Value)
	case f.Kind == protoreflect.MessageKind && f.Message.WellKnown.Wrapper():
		p.out = appendVarint(p.out, f.Tag)
		g := p.openLen()
		p.out = appendVarint(p.out, f.Message.Fields[0].Tag)
		ok = p.paramScalar(f.Message.Fields[0], a.Value)
		if ok {
			p.closeLen(g)
		}
	case f.Kind == protoreflect.MessageKind && textual(f.Message):
		p.out = appendVarint(p.out, f.Tag)
		g := p.openLen()
		if ok = p.wellKnownText(f.Message, p.tmp, -1); ok {
			p.closeLen(g)
		} else {
			p.failf(0, "wanted %s, found %s", formOf(f.Message), quoteName(p.tmp))
		}
	default:
		return p.failf(0, "%s cannot be given as a parameter, only its fields can", f.Message.Name)
	}
	if ok {
		p.leave(a.Field, outer)
	}
	return ok
}

// textual says that a well-known type is a string in JSON.
func textual(m *schema.Message) bool {
	return m.WellKnown == schema.Timestamp || m.WellKnown == schema.Duration || m.WellKnown == schema.FieldMask
}

// paramScalar writes text as a value of f's kind, without the tag. p.tmp holds the text too.
func (p *parser) paramScalar(f *schema.Field, text string) bool {
	ok := true
	switch f.Kind {
	case protoreflect.StringKind:
		if !utf8.ValidString(text) {
			return p.failf(0, "wanted UTF-8, found byte 0x%02x", text[len(validPrefix(p.tmp, len(p.tmp)))])
		}
		p.out = appendVarint(p.out, uint64(len(text)))
		p.out = append(p.out, text...)
	case protoreflect.BytesKind:
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
		return p.failf(0, "wanted %s, found %s", wanted(f), quoteName(p.tmp))
	}
	return true
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
		return p.failf(0, "enum %s has no value %s%s", e.Name, quoteName(p.tmp), schema.DidYouMean(text, enumNames(e)))
	}
	p.out = appendVarint(p.out, uint64(int64(n)))
	return true
}

// jsonPath is a path with JSON names.
func jsonPath(path schema.Path) string {
	s := ""
	for _, f := range path {
		s = joinPath(s, f.JSONName)
	}
	return s
}
