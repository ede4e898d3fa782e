package tarswire

import tarsv1 "github.com/causeway-gateway/causeway/protos/causeway/tars/v1"

// TUP is the body of packets of version 3 (and 2): a map with tag 0 from the name of each parameter to bytes, which hold
// its value with tag 0. The return value has the name "", and "tars_ret" too.

// lengthRoom is what the length of a value's bytes takes at most.
const lengthRoom = 5

// AppendTUP appends to dst the parameters m whose wire form is given, as TUP of version 3. It is else as AppendTARS.
func AppendTUP(dst, wire []byte, m *Message, o *Options) ([]byte, error) {
	return appendTUP(dst, wire, m, o, false)
}

// AppendTUP2 is AppendTUP for version 2, in which each value stands in a map of one entry, whose key is the name of its type.
// SDKs call types differently; these are the names of the SDK for Node.js, the one that still has this version.
func AppendTUP2(dst, wire []byte, m *Message, o *Options) ([]byte, error) {
	return appendTUP(dst, wire, m, o, true)
}

func appendTUP(dst, wire []byte, m *Message, o *Options, typed bool) ([]byte, error) {
	e := newEncoder(dst, wire, o)
	defer e.release()
	if !e.root() || !e.tup(m, typed) {
		return dst, e.err
	}
	return e.out, nil
}

// AppendTUPType appends what stands before the head of a value's bytes in version 2.
func AppendTUPType(dst []byte, name string) []byte {
	return AppendString(AppendMapHead(dst, 1, 1), 0, name)
}

// tupNames are those of types that are no structs, lists or maps.
var tupNames = map[tarsv1.Type]string{
	tarsv1.Type_BOOL: "bool", tarsv1.Type_BYTE: "char", tarsv1.Type_SHORT: "short", tarsv1.Type_INT: "int32", tarsv1.Type_LONG: "int64",
	tarsv1.Type_UNSIGNED_BYTE: "short", tarsv1.Type_UNSIGNED_SHORT: "int32", tarsv1.Type_UNSIGNED_INT: "int64",
	tarsv1.Type_FLOAT: "float", tarsv1.Type_DOUBLE: "double", tarsv1.Type_STRING: "string", tarsv1.Type_ENUM: "int32",
	tarsv1.Type_BYTES: "list<char>",
}

// tupType is the name of f's type.
func (f *field) tupType() string {
	switch f.shape {
	case mapping, pairs:
		return "map<" + f.entry.fields[0].tupType() + "," + f.entry.fields[1].tupType() + ">"
	case list:
		return "List<" + f.elementType() + ">"
	case single:
	}
	return f.elementType()
}

func (f *field) elementType() string {
	switch f.kind {
	case tarsv1.Type_STRUCT:
		return f.message.Schema.Name
	case tarsv1.Type_WRAPPED:
		return f.message.fields[0].tupType()
	}
	return tupNames[f.kind]
}

func (e *encoder) tup(m *Message, typed bool) bool {
	base := len(e.occs)
	if !e.index(m, 0, 1) {
		return false
	}
	top, n := len(e.occs), 0
	for i, f := base, 0; f < len(m.fields); f++ {
		j := e.run(i, m.fields[f])
		if !e.unset(m.fields[f], i, j) || m.required.has(m.fields[f].tag) {
			n++
		}
		i = j
	}
	e.out = AppendMapHead(e.out, 0, n)
	i := base
	for _, f := range m.fields {
		j := e.run(i, f)
		e.steps += 1 + j - i
		gone := e.unset(f, i, j)
		if gone && !m.required.has(f.tag) {
			i = j
			continue
		}
		name := f.name
		if f == m.ret {
			name = ""
		}
		e.out = AppendString(e.out, 0, name)
		if typed {
			e.out = AppendTUPType(e.out, f.typeName)
		}
		e.out = append(AppendHead(e.out, 1, SimpleList), byte(Byte))
		at := len(e.out)
		e.out = append(e.out, make([]byte, lengthRoom)...)
		if gone {
			if !e.absent(m, f, 0) {
				return e.inField(f)
			}
		} else if !e.value(f, 0, i, j) {
			return e.inField(f)
		}
		size := len(e.out) - at - lengthRoom
		head := AppendInt(e.out[:at], 0, int64(size))
		e.out = e.out[:len(head)+copy(e.out[len(head):], e.out[at+lengthRoom:])]
		i = j
	}
	e.occs = e.occs[:top]
	return true
}

// run gives the end of the run of f's occurrences that begins at i, or i when it is not there.
func (e *encoder) run(i int, f *field) int {
	for i < len(e.occs) && e.occs[i].index() == f.index {
		i++
	}
	return i
}

// AppendTUPWire appends to dst the wire form of the parameters m that are given as TUP, of version 3 or, with the name of
// a type around each value, of version 2. Names that m does not know are passed over; of values with one meaning the first
// counts. It is else as AppendWire.
func AppendTUPWire(dst, tup []byte, m *Message, o *Options) ([]byte, error) {
	d := newDecoder(dst, tup, o)
	defer d.release()
	if !d.fits() || !d.tup(m) || !d.bounded() {
		return dst, d.err
	}
	d.spread()
	return d.out, nil
}

func (d *decoder) tup(m *Message) bool {
	var seen mask
	if len(d.in) == 0 {
		return d.complete(m, &seen)
	}
	n, ok := d.tupMap(0)
	if !ok {
		return false
	}
	for range n {
		name, ok := d.tupName()
		if !ok {
			return false
		}
		start, end, ok := d.tupValue()
		if !ok {
			return false
		}
		f := m.byName[string(name)]
		if f == nil || seen.has(f.tag) {
			continue
		}
		seen.add(f.tag)
		if !d.tupField(f, start, end) {
			return d.inField(f)
		}
	}
	return d.complete(m, &seen)
}

// tupField reads the value of a parameter in in[start:end].
func (d *decoder) tupField(f *field, start, end int) bool {
	whole, pos := d.in, d.pos
	d.in, d.pos = whole[:end], start
	tag, t, ok := d.head()
	switch {
	case !ok:
		return false
	case tag != 0:
		return d.failf("wanted a value with tag 0, found tag %d at offset %d", tag, start)
	case !d.value(f, t):
		return false
	}
	d.in, d.pos = whole, pos
	return true
}

// tupMap reads the head of a map with a tag, and its number of entries.
func (d *decoder) tupMap(tag uint8) (n int, ok bool) {
	at := d.pos
	got, t, ok := d.head()
	if !ok {
		return 0, false
	}
	if got != tag || t != Map {
		return 0, d.failf("wanted MAP with tag %d, found %s with tag %d at offset %d", tag, t, got, at)
	}
	return d.tupCount()
}

func (d *decoder) tupCount() (n int, ok bool) {
	n, next := length(d.in, d.pos, 2)
	if next < 0 {
		return 0, d.wrongLength("entries")
	}
	d.pos = next
	return n, d.count(2 * n)
}

// tupName reads a key: a string with tag 0.
func (d *decoder) tupName() (name []byte, ok bool) {
	at := d.pos
	tag, t, ok := d.head()
	if !ok {
		return nil, false
	}
	if tag != 0 || t != String1 && t != String4 {
		return nil, d.failf("wanted a string with tag 0 for a name, found %s with tag %d at offset %d", t, tag, at)
	}
	start, end := str(d.in, d.pos, t)
	if end < 0 {
		return nil, d.failf("wanted a string at offset %d, found a length beyond the end of the data", d.pos)
	}
	d.pos = end
	return d.in[start:end], true
}

// tupValue gives the bounds of the bytes of a value; in version 2 of the first type.
func (d *decoder) tupValue() (start, end int, ok bool) {
	at := d.pos
	tag, t, ok := d.head()
	if !ok {
		return 0, 0, false
	}
	if tag == 1 && t == Map {
		n, ok := d.tupCount()
		if !ok {
			return 0, 0, false
		}
		if n == 0 {
			return 0, 0, d.failf("wanted a type and a value, found neither at offset %d", at)
		}
		for i := range n {
			if _, ok := d.tupName(); !ok {
				return 0, 0, false
			}
			s, e, ok := d.tupBytes()
			if !ok {
				return 0, 0, false
			}
			if i == 0 {
				start, end = s, e
			}
		}
		return start, end, true
	}
	d.pos = at
	return d.tupBytes()
}

func (d *decoder) tupBytes() (start, end int, ok bool) {
	at := d.pos
	tag, t, ok := d.head()
	if !ok {
		return 0, 0, false
	}
	if tag != 1 || t != SimpleList {
		return 0, 0, d.failf("wanted SIMPLE_LIST with tag 1 for a value, found %s with tag %d at offset %d", t, tag, at)
	}
	if start, end = simpleList(d.in, d.pos); end < 0 {
		return 0, 0, d.wrongLength("bytes")
	}
	d.pos = end
	return start, end, true
}
