package tarswire

import (
	"math"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	tarsv1 "github.com/causeway-gateway/causeway/protos/causeway/tars/v1"
)

// AppendJSONWire appends to dst the wire form of the parameters m that a JSON object has, in the forms that SDKs of TARS
// write: see AppendJSON. Taken as well are numbers in strings, bytes in base64, null for what is not given, and "" as the
// name of a return value. Names that m does not know are passed over. It is else as AppendWire.
func AppendJSONWire(dst, json []byte, m *Message, o *Options) ([]byte, error) {
	d := newDecoder(dst, json, o)
	defer d.release()
	if !d.fits() || !d.document(m) || !d.bounded() {
		return dst, d.err
	}
	d.spread()
	return d.out, nil
}

// JSONMember finds a member of a JSON object and gives the text of its value; the first of names that is there counts.
func JSONMember(json []byte, names ...string) ([]byte, error) {
	d := newDecoder(nil, json, nil)
	defer d.release()
	var found []byte
	best := len(names)
	if !d.fits() || !d.expect('{') {
		return nil, d.err
	}
	for first := true; ; first = false {
		name, more := d.nextName(first)
		if d.err != nil {
			return nil, d.err
		}
		if !more {
			break
		}
		d.space()
		start := d.pos
		if !d.skipJSON() {
			return nil, d.err
		}
		for i, n := range names[:best] {
			if n == string(name) {
				found, best = json[start:d.pos], i
				break
			}
		}
	}
	if !d.end() {
		return nil, d.err
	}
	if found == nil && len(names) > 0 {
		return nil, &Error{Message: "lacks " + strconv.Quote(names[0])}
	}
	return found, nil
}

func (d *decoder) document(m *Message) bool {
	d.space()
	return d.jsonObject(m) && d.end()
}

// end tells that nothing follows.
func (d *decoder) end() bool {
	if d.space(); d.pos < len(d.in) {
		return d.failf("wanted the end of the JSON text at offset %d, found more", d.pos)
	}
	return true
}

func (d *decoder) space() {
	for d.pos < len(d.in) {
		switch d.in[d.pos] {
		case ' ', '\t', '\n', '\r':
			d.pos++
		default:
			return
		}
	}
}

// peek is the next byte behind white space; 0 at the end.
func (d *decoder) peek() byte {
	if d.space(); d.pos < len(d.in) {
		return d.in[d.pos]
	}
	return 0
}

// expect passes over one byte.
func (d *decoder) expect(c byte) bool {
	if d.peek() != c {
		return d.failf("wanted %q at offset %d of the JSON text, found %s", c, d.pos, d.found())
	}
	d.pos++
	return true
}

// found describes what stands at the position.
func (d *decoder) found() string {
	if d.pos >= len(d.in) {
		return "its end"
	}
	return strconv.QuoteRune(rune(d.in[d.pos]))
}

// nextName reads the name of the next member of an object, with the colon; more is false at the end of the object.
func (d *decoder) nextName(first bool) (name []byte, more bool) {
	if d.peek() == '}' {
		d.pos++
		return nil, false
	}
	if !first && (!d.expect(',') || d.peek() == '}') {
		d.failf("wanted a name at offset %d of the JSON text, found %s", d.pos, d.found())
		return nil, false
	}
	name, ok := d.text()
	return name, ok && d.expect(':') && d.count(1)
}

// jsonObject reads the members of m.
func (d *decoder) jsonObject(m *Message) bool {
	if !d.expect('{') {
		return false
	}
	var seen mask
	for first := true; ; first = false {
		name, more := d.nextName(first)
		if d.err != nil {
			return false
		}
		if !more {
			return d.complete(m, &seen)
		}
		f := m.byName[string(name)]
		switch {
		case f == nil || d.null():
			if f == nil && !d.skipJSON() {
				return false
			}
			continue
		case seen.has(f.tag):
			return d.failf("%s is given twice", f.name)
		}
		seen.add(f.tag)
		if !d.jsonValue(f) {
			return d.inField(f)
		}
	}
}

// null passes over a null.
func (d *decoder) null() bool {
	if d.peek() == 'n' && d.pos+4 <= len(d.in) && string(d.in[d.pos:d.pos+4]) == "null" {
		d.pos += 4
		return true
	}
	return false
}

func (d *decoder) jsonValue(f *field) bool {
	switch f.shape {
	case list:
		return d.jsonList(f)
	case mapping, pairs:
		return d.jsonMap(f)
	}
	at := len(d.out)
	if !d.jsonSingle(f) {
		return false
	}
	d.dropZero(f, at)
	return true
}

// jsonSingle reads one value and writes it with its tag.
func (d *decoder) jsonSingle(f *field) bool {
	if f.kind == tarsv1.Type_BYTES {
		return d.jsonBytes(f)
	}
	d.out = appendVarint(d.out, f.wireTag)
	switch f.kind {
	case tarsv1.Type_STRUCT, tarsv1.Type_WRAPPED:
		if !d.deeper() {
			return false
		}
		g := d.openLen()
		var ok bool
		if f.kind == tarsv1.Type_STRUCT {
			ok = d.jsonObject(f.message)
		} else {
			ok = d.null() || d.jsonValue(f.message.fields[0])
		}
		if !ok {
			return false
		}
		d.closeLen(g)
		d.depth--
		return true
	case tarsv1.Type_STRING:
		s, ok := d.text()
		if ok {
			d.out = protowire.AppendBytes(d.out, s)
		}
		return ok
	}
	return d.jsonNumber(f)
}

func (d *decoder) jsonList(f *field) bool {
	if !d.expect('[') || !d.deeper() {
		return false
	}
	g := -1
	for i := 0; ; i++ {
		if d.peek() == ']' && i == 0 {
			d.pos++
			break
		}
		if i == 0 && f.packed {
			d.out = appendVarint(d.out, f.packedTag)
			g = d.openLen()
		}
		ok := d.count(1)
		if ok && f.packed {
			ok = d.jsonNumber(f)
		} else if ok {
			ok = d.jsonSingle(f)
		}
		if !ok {
			return d.inElement(i)
		}
		if d.peek() == ']' {
			d.pos++
			break
		}
		if !d.expect(',') {
			return false
		}
	}
	if g >= 0 {
		d.closeLen(g)
	}
	d.depth--
	return true
}

// jsonMap reads an object whose names are keys.
func (d *decoder) jsonMap(f *field) bool {
	if !d.expect('{') || !d.deeper() {
		return false
	}
	key, value := f.entry.fields[0], f.entry.fields[1]
	for i := 0; ; i++ {
		name, more := d.nextName(i == 0)
		if d.err != nil {
			return d.inElement(i)
		}
		if !more {
			break
		}
		d.out = appendVarint(d.out, f.wireTag)
		g := d.openLen()
		if !d.jsonKey(key, name) {
			return d.inElement(i)
		}
		if !d.null() && !d.jsonValue(value) {
			return d.inElement(i)
		}
		d.closeLen(g)
	}
	d.depth--
	return true
}

// jsonKey reads a key from the name of a member: a string is itself, all else the text of its JSON.
func (d *decoder) jsonKey(f *field, name []byte) bool {
	if f.kind == tarsv1.Type_STRING && f.shape == single {
		d.out = protowire.AppendBytes(appendVarint(d.out, f.wireTag), name)
		return true
	}
	in, pos := d.in, d.pos
	d.in, d.pos = append([]byte(nil), name...), 0
	ok := d.jsonValue(f) && d.end()
	d.in, d.pos = in, pos
	if !ok {
		d.err.inside("key")
	}
	return ok
}

// jsonBytes reads bytes as an array of numbers or in base64, and writes them with their tag.
func (d *decoder) jsonBytes(f *field) bool {
	var raw []byte
	if d.peek() == '"' {
		s, ok := d.text()
		if !ok {
			return false
		}
		if raw, ok = base64Of(s); !ok {
			return d.failf("wanted an array of numbers, or base64, found text that is not base64 before offset %d", d.pos)
		}
	} else {
		if !d.expect('[') {
			return false
		}
		for i := 0; ; i++ {
			if d.peek() == ']' && i == 0 {
				d.pos++
				break
			}
			v, ok := d.integer(math.MinInt8, math.MaxUint8)
			if !ok || !d.count(1) {
				return d.inElement(i)
			}
			raw = append(raw, byte(v))
			if d.peek() == ']' {
				d.pos++
				break
			}
			if !d.expect(',') {
				return false
			}
		}
	}
	if len(raw) == 0 && f.shape == single {
		return true // what protobuf does not tell from nothing
	}
	d.out = protowire.AppendBytes(appendVarint(d.out, f.wireTag), raw)
	return true
}

// literal gives the text of a number, also of one in a string, or of true or false.
func (d *decoder) literal() (string, bool) {
	if d.peek() == '"' {
		s, ok := d.text()
		return string(s), ok
	}
	start := d.pos
	for d.pos < len(d.in) {
		c := d.in[d.pos]
		if c != '-' && c != '+' && c != '.' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && c != 'E' {
			break
		}
		d.pos++
	}
	return string(d.in[start:d.pos]), true
}

// integer reads a whole number.
func (d *decoder) integer(low, high int64) (int64, bool) {
	at := d.pos
	s, ok := d.literal()
	if !ok {
		return 0, false
	}
	v, err := strconv.ParseInt(s, 10, 64)
	if numeric := jsonNumeric(s); err != nil || !numeric {
		f, ferr := strconv.ParseFloat(s, 64)
		if ferr != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 || !numeric {
			return 0, d.failf("wanted a whole number at offset %d of the JSON text, found %.40q", at, s)
		}
		v = int64(f)
	}
	if v < low || v > high {
		return 0, d.failf("wanted %d to %d, found %d", low, high, v)
	}
	return v, true
}

// jsonNumeric tells whether s is a number as JSON writes them.
func jsonNumeric(s string) bool {
	i := 0
	digits := func() bool {
		from := i
		for i < len(s) && s[i] >= '0' && s[i] <= '9' {
			i++
		}
		return i > from
	}
	if i < len(s) && s[i] == '-' {
		i++
	}
	whole := i
	if !digits() || s[whole] == '0' && i > whole+1 {
		return false
	}
	if i < len(s) && s[i] == '.' {
		i++
		if !digits() {
			return false
		}
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		i++
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		if !digits() {
			return false
		}
	}
	return i == len(s)
}

// jsonNumber reads a number or bool and writes it without its tag.
func (d *decoder) jsonNumber(f *field) bool {
	switch f.kind {
	case tarsv1.Type_FLOAT, tarsv1.Type_DOUBLE:
		v := math.NaN()
		if !d.null() {
			at := d.pos
			s, ok := d.literal()
			if !ok {
				return false
			}
			bits := 64
			if f.kind == tarsv1.Type_FLOAT {
				bits = 32
			}
			var err error
			if v, err = strconv.ParseFloat(s, bits); err != nil || !jsonNumeric(s) {
				return d.failf("wanted a number at offset %d of the JSON text, found %.40q", at, s)
			}
		}
		if f.kind == tarsv1.Type_FLOAT {
			d.out = protowire.AppendFixed32(d.out, math.Float32bits(float32(v)))
		} else {
			d.out = protowire.AppendFixed64(d.out, math.Float64bits(v))
		}
		return true
	case tarsv1.Type_BOOL:
		if c := d.peek(); c == 't' || c == 'f' {
			at := d.pos
			s, _ := d.literal()
			switch s {
			case "true":
				d.out = append(d.out, 1)
			case "false":
				d.out = append(d.out, 0)
			default:
				return d.failf("wanted true or false at offset %d of the JSON text, found %.40q", at, s)
			}
			return true
		}
	}
	v, ok := d.integer(f.low, f.high)
	if !ok {
		return false
	}
	switch {
	case f.zigzag:
		d.out = appendVarint(d.out, protowire.EncodeZigZag(v))
	case f.wire == protowire.Fixed32Type:
		d.out = protowire.AppendFixed32(d.out, uint32(v))
	case f.wire == protowire.Fixed64Type:
		d.out = protowire.AppendFixed64(d.out, uint64(v))
	default:
		d.out = appendVarint(d.out, uint64(v))
	}
	return true
}

// skipJSON passes over a value of any type.
func (d *decoder) skipJSON() bool {
	if !d.count(1) {
		return false
	}
	switch c := d.peek(); c {
	case '{', '[':
		if !d.deeper() {
			return false
		}
		d.pos++
		for i := 0; ; i++ {
			if i == 0 && d.peek() == c+2 { // } and ] stand two behind
				d.pos++
				break
			}
			if c == '{' {
				if _, ok := d.text(); !ok || !d.expect(':') {
					return false
				}
			}
			if !d.skipJSON() {
				return false
			}
			if d.peek() == c+2 {
				d.pos++
				break
			}
			if !d.expect(',') {
				return false
			}
		}
		d.depth--
		return true
	case '"':
		_, ok := d.text()
		return ok
	}
	at := d.pos
	s, _ := d.literal()
	if s != "null" && s != "true" && s != "false" && !jsonNumeric(s) {
		return d.failf("wanted a value at offset %d of the JSON text, found %.40q", at, s)
	}
	return true
}
