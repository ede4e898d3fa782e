package jsonwire

import (
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// AppendWire appends to dst the wire form of m that the JSON text stands for. The text must be one value in the form
// that m has in protobuf's JSON mapping, with nothing behind it; it is not kept and not changed. Fields stand in the
// order of the text. o may be nil. The error is an *Error, and dst is then returned as it was.
//
// It is safe for concurrent use and does not allocate beyond the growth of dst.
func AppendWire(dst, json []byte, m *schema.Message, o *Options) ([]byte, error) {
	p := newParser(dst, json, o)
	defer p.release()
	if !p.fits() || !p.message(m) || !p.end() {
		return dst, p.fault("")
	}
	p.spread()
	return p.out, nil
}

// verdict is what became of a value.
type verdict uint8

const (
	bad     verdict = iota // refused: the fault is noted
	set                    // written
	zero                   // written, and the zero of its kind
	dropped                // read and not written: null, or an enum name ignored
)

// message reads a value of type m and writes its content.
func (p *parser) message(m *schema.Message) bool {
	if p.depth++; p.depth > p.maxDepth {
		return p.tooDeep()
	}
	var ok bool
	if m.WellKnown == schema.NotWellKnown {
		ok = p.object(m, false)
	} else {
		ok = p.wellKnown(m)
	}
	p.depth--
	return ok
}

// object reads the fields of m. With inAny, a member "@type" is passed over.
func (p *parser) object(m *schema.Message, inAny bool) bool {
	if p.peek() != '{' {
		return p.failf(p.pos, "wanted an object for %s, found %s", m.Name, p.found(p.pos))
	}
	open := p.pos
	p.pos++
	s := seenSet{wide: -1}
	if p.peek() == '}' {
		p.pos++
		return p.complete(m, 0, open, &s)
	}
	next, required := 0, 0
	for more := true; more; {
		if !p.element() {
			return false
		}
		at, f, ok := p.key(m, next, inAny)
		if !ok {
			return false
		}
		if f != nil {
			next = f.Index + 1
			v := p.member(m, f, at, &s)
			switch {
			case v == bad:
				return false
			case f.Required && v != dropped:
				required++
			}
		}
		if more, ok = p.more('}'); !ok {
			return false
		}
	}
	if !p.complete(m, required, open, &s) {
		return false
	}
	if s.wide >= 0 {
		p.seen = p.seen[:s.wide]
	}
	return true
}

// key reads a key and its colon. The field is nil when the member was passed over whole. next is the index of the field
// that follows the last one, which is the likeliest.
func (p *parser) key(m *schema.Message, next int, inAny bool) (at int, f *schema.Field, ok bool) {
	if p.peek() != '"' {
		return 0, nil, p.failf(p.pos, "wanted a key in quotes, found %s", p.found(p.pos))
	}
	if next < len(m.Fields) && !inAny {
		if f := m.Fields[next]; p.literal(f.JSONKey) {
			at = p.pos
			p.pos += len(f.JSONKey)
			return at, f, true
		}
	}
	at = p.pos
	name, ok := p.str()
	if !ok {
		return 0, nil, false
	}
	isType := inAny && string(name) == "@type"
	if !isType {
		if f = m.ByName(name); f == nil && !p.opts.IgnoreUnknown {
			return at, nil, p.unknown(at, m, string(name))
		}
	}
	if !p.want(':', `":" after a key`) {
		return at, nil, false
	}
	if isType {
		if at != p.anys.typeKey {
			return at, nil, p.fail(at, `"@type" is given twice`)
		}
		p.peek()
		_, ok := p.str()
		return at, nil, ok
	}
	if f == nil {
		return at, nil, p.skipValue()
	}
	return at, f, true
}

// unknown refuses a key that names no field.
func (p *parser) unknown(at int, m *schema.Message, name string) bool {
	names := make([]string, len(m.Fields))
	for i, f := range m.Fields {
		names[i] = f.JSONName
	}
	return p.failf(at, "%s has no field %q%s", m.Name, string(validPrefix([]byte(name), 64)), schema.DidYouMean(name, names))
}

// member reads the value of field f, whose key stands at an offset.
func (p *parser) member(m *schema.Message, f *schema.Field, at int, s *seenSet) verdict {
	if p.mark(s, m, f.Index) {
		p.failf(at, "field %q is given twice", f.Name)
		return bad
	}
	if c := p.peek(); c == 'n' && !takesNull(f) && p.null() {
		return dropped
	}
	if f.Oneof >= 0 && p.mark(s, m, len(m.Fields)+f.Oneof) {
		p.failf(at, "oneof %q has a member already, so %q cannot be given too", m.Oneofs[f.Oneof].Name, f.Name)
		return bad
	}
	return p.value(f)
}

// takesNull says that null is a value of the field and does not mean "unset".
func takesNull(f *schema.Field) bool {
	if f.Cardinality == schema.Map {
		return false
	}
	return f.Message != nil && f.Message.WellKnown == schema.Value || f.Enum != nil && f.Enum.Null
}

// complete checks that the required fields of the object at an offset were given.
func (p *parser) complete(m *schema.Message, given, at int, s *seenSet) bool {
	if given == len(m.Required) || p.partial > 0 {
		return true
	}
	return p.fail(at, lacks(m, func(f *schema.Field) bool { return p.has(s, f.Index) }))
}

// lacks says which required fields are not there. A field that was given as null counts as given to has: then all are
// named.
func lacks(m *schema.Message, has func(*schema.Field) bool) string {
	var names []string
	for _, f := range m.Required {
		if !has(f) {
			names = append(names, strconv.Quote(f.Name))
		}
	}
	if len(names) == 0 {
		for _, f := range m.Required {
			names = append(names, strconv.Quote(f.Name))
		}
	}
	return m.Name + " lacks what is required: " + strings.Join(names, ", ")
}

// seenSet tells which fields and oneofs of one object were given: the first 64 in a word, the rest from wide on in
// parser.seen.
type seenSet struct {
	word uint64
	wide int
}

// mark adds index i of m's fields and oneofs; it says whether it was there.
func (p *parser) mark(s *seenSet, m *schema.Message, i int) bool {
	word := &s.word
	if i >= 64 {
		if s.wide < 0 {
			s.wide = len(p.seen)
			for range (len(m.Fields) + len(m.Oneofs) - 1) / 64 {
				p.seen = append(p.seen, 0)
			}
		}
		word = &p.seen[s.wide+i/64-1]
	}
	bit := uint64(1) << (i % 64)
	if *word&bit != 0 {
		return true
	}
	*word |= bit
	return false
}

// has says whether index i was marked.
func (p *parser) has(s *seenSet, i int) bool {
	switch {
	case i < 64:
		return s.word>>i&1 != 0
	case s.wide < 0:
		return false
	default:
		return p.seen[s.wide+i/64-1]>>(i%64)&1 != 0
	}
}

// value reads the value of a field of any cardinality and writes it with its tag.
func (p *parser) value(f *schema.Field) verdict {
	switch f.Cardinality {
	case schema.Repeated:
		return p.list(f)
	case schema.Map:
		return p.mapping(f)
	}
	start := len(p.out)
	v := p.single(f)
	if v == dropped || v == zero && !f.Presence && !p.keepZero {
		p.out = p.out[:start]
	}
	return v
}

// single reads one value of f, tag included.
func (p *parser) single(f *schema.Field) verdict {
	p.out = appendVarint(p.out, f.Tag)
	switch f.Kind {
	case protoreflect.MessageKind:
		g := p.openLen()
		if !p.message(f.Message) {
			return bad
		}
		p.closeLen(g)
		return set
	case protoreflect.GroupKind:
		if !p.message(f.Message) {
			return bad
		}
		p.out = appendVarint(p.out, f.EndTag)
		return set
	}
	return p.scalar(f)
}

func (p *parser) list(f *schema.Field) verdict {
	if c := p.peek(); c != '[' {
		if c == '{' && f.Kind == protoreflect.MessageKind && f.Message.WellKnown == schema.TarsEntry {
			return p.keyed(f)
		}
		p.wrongList(f)
		return bad
	}
	p.pos++
	if p.peek() == ']' {
		p.pos++
		return set
	}
	start, g := len(p.out), -1
	if f.Packed {
		p.out = appendVarint(p.out, f.PackedTag)
		g = p.openLen()
	}
	for more := true; more; {
		if !p.element() {
			return bad
		}
		var v verdict
		at := len(p.out)
		if f.Packed {
			v = p.scalar(f)
		} else {
			v = p.single(f)
		}
		switch v {
		case bad:
			return bad
		case dropped:
			p.out = p.out[:at]
		}
		var ok bool
		if more, ok = p.more(']'); !ok {
			return bad
		}
	}
	if g >= 0 {
		if p.nothingIn(g) {
			p.dropLen(g, start)
		} else {
			p.closeLen(g)
		}
	}
	return set
}

func (p *parser) wrongList(f *schema.Field) bool {
	return p.failf(p.pos, "wanted an array of %s, found %s", wanted(f), p.found(p.pos))
}

// mapping reads an object into the entries of map field f.
func (p *parser) mapping(f *schema.Field) verdict {
	if !p.want('{', "an object for a map") {
		return bad
	}
	if p.peek() == '}' {
		p.pos++
		return set
	}
	p.scope++
	scope := p.names.open(p.scope, f.MapKey.Wire)
	for more := true; more; {
		p.elements++ // the key
		if !p.element() {
			return bad
		}
		if p.peek() != '"' {
			p.failf(p.pos, "wanted a key in quotes, found %s", p.found(p.pos))
			return bad
		}
		start := len(p.out)
		p.out = appendVarint(p.out, f.Tag)
		g := p.openLen()
		at := p.pos
		p.out = appendVarint(p.out, f.MapKey.Tag)
		key := len(p.out)
		if !p.mapKey(f.MapKey) {
			return bad
		}
		if p.names.put(p.out, uint32(key), scope) {
			p.failf(at, "map key %s is given twice", p.found(at))
			return bad
		}
		if !p.want(':', `":" after a key`) {
			return bad
		}
		p.peek()
		switch p.single(f.MapValue) {
		case bad:
			return bad
		case dropped:
			p.names.drop(p.out, uint32(key), scope)
			p.dropLen(g, start)
		default:
			p.closeLen(g)
		}
		var ok bool
		if more, ok = p.more('}'); !ok {
			return bad
		}
	}
	p.names.close()
	return set
}

// mapKey reads the key at pos and writes it without its tag, with its length where it has one: nameSet reads it there.
func (p *parser) mapKey(f *schema.Field) bool {
	at := p.pos
	raw, ok := p.str()
	if !ok {
		return false
	}
	if f.Kind == protoreflect.StringKind {
		p.out = appendVarint(p.out, uint64(len(raw)))
		p.out = append(p.out, raw...)
		return true
	}
	if f.Kind == protoreflect.BoolKind {
		v, ok := boolKey(raw, f.Tars)
		if !ok {
			return p.wrong(at, f)
		}
		p.out = append(p.out, oneIf(v))
		return true
	}
	width := bitSize(f.Kind)
	if isUnsigned(f.Kind) {
		v, err := strconv.ParseUint(view(raw), 10, width)
		if err != nil {
			return p.wrong(at, f)
		}
		p.out = appendNumber(p.out, f, v)
		return true
	}
	v, err := strconv.ParseInt(view(raw), 10, width)
	if err != nil {
		return p.wrong(at, f)
	}
	p.out = appendNumber(p.out, f, uint64(v))
	return true
}
