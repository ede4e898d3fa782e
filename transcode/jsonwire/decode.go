package jsonwire

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
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
	if !p.message(m) || !p.end() {
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
	ok := false
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
	if p.peek() != '[' {
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
		if len(p.out) == p.gaps[g].at+1 {
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
	scope := p.scope
	for more := true; more; {
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
		if _, twice := p.keys.put(scope, p.out[key:], 0); twice {
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
			p.keys.dropLast()
			p.dropLen(g, start)
		default:
			p.closeLen(g)
		}
		var ok bool
		if more, ok = p.more('}'); !ok {
			return bad
		}
	}
	return set
}

// mapKey reads the key at pos and writes it without its tag.
func (p *parser) mapKey(f *schema.Field) bool {
	if f.Kind == protoreflect.StringKind {
		return p.stringValue()
	}
	at := p.pos
	raw, ok := p.str()
	if !ok {
		return false
	}
	if f.Kind == protoreflect.BoolKind {
		if s := string(raw); s == "true" || s == "false" {
			p.out = append(p.out, oneIf(s == "true"))
			return true
		}
		return p.wrong(at, f)
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
			p.wrong(p.pos, f)
			return bad
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
		return "a string in base64"
	case protoreflect.EnumKind:
		return "a value of enum " + f.Enum.Name
	case protoreflect.FloatKind:
		return "a number (float)"
	case protoreflect.DoubleKind:
		return "a number (double)"
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return f.Message.Name
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
