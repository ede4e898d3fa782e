package tarswire

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"sync"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	tarsv1 "github.com/causeway-gateway/causeway/protos/causeway/tars/v1"
)

// AppendWire appends to dst the wire form of m that the members in tars stand for: those of a struct without the heads
// around it, or the parameters of a function. Members that m does not know are passed over; of those that are not there the
// required are missed, and of the others the numbers and strings are written with their defaults. tars is not kept and
// not changed. o may be nil. The error is an *Error, and dst is then returned as it was.
//
// It is safe for concurrent use and does not allocate beyond the growth of dst.
func AppendWire(dst, tars []byte, m *Message, o *Options) ([]byte, error) {
	d := newDecoder(dst, tars, o)
	defer d.release()
	if !d.fits() || !d.members(m, false) || !d.bounded() {
		return dst, d.err
	}
	d.spread()
	return d.out, nil
}

// decoder turns TARS into wire bytes in one pass. Every length-delimited value gets one byte for its length; where that
// turns out too small, a gap is noted, and spread opens all gaps at the end.
type decoder struct {
	in  []byte
	pos int
	out []byte

	gaps  []gap // those still open, and those closed that need more than one byte; ascending
	extra int   // bytes that the closed gaps need beyond the one they have

	depth, maxDepth       int
	elements, maxElements int
	base, maxOutput       int // base: length of out at the beginning
	steps                 int // defaults written, which with elements is what a translation costs
	moved                 int // bytes that spread has moved
	replaceUTF8           bool
	charset               Charset

	err *Error
}

// gap is the place of a length.
type gap struct {
	at     uint32 // of the reserved byte in out
	before uint32 // decoder.extra when it was opened
	size   uint32 // the length, once closed
}

var decoders = sync.Pool{New: func() any { return new(decoder) }}

func newDecoder(dst, in []byte, o *Options) *decoder {
	d := decoders.Get().(*decoder)
	d.maxDepth, d.maxElements, d.maxOutput = o.limits(len(in))
	d.replaceUTF8, d.charset = o != nil && o.ReplaceUTF8, UTF8
	if o != nil {
		d.charset = o.Charset
	}
	d.in, d.out, d.pos, d.base = in, dst, 0, len(dst)
	return d
}

func (d *decoder) release() {
	d.in, d.out, d.err = nil, nil, nil
	d.gaps, d.extra = d.gaps[:0], 0
	d.depth, d.elements, d.steps, d.moved = 0, 0, 0, 0
	if cap(d.gaps)*12 > keepScratch {
		d.gaps = nil
	}
	decoders.Put(d)
}

// fail notes a fault; the path is put before it on the way out.
func (d *decoder) fail(msg string) bool {
	if d.err == nil {
		d.err = &Error{Message: msg}
	}
	return false
}

func (d *decoder) failf(format string, args ...any) bool {
	if d.err == nil {
		d.err = &Error{Message: fmt.Sprintf(format, args...)}
	}
	return false
}

func (d *decoder) inField(f *field) bool {
	d.err.inside(f.name)
	return false
}

func (d *decoder) inElement(i int) bool {
	d.err.element(i)
	return false
}

func (d *decoder) fits() bool {
	return len(d.in) <= maxInput && len(d.out) <= maxInput || d.fail("wanted at most 256 MiB, found more")
}

// bounded holds the output to its limit.
func (d *decoder) bounded() bool {
	return len(d.out)-d.base+d.extra <= d.maxOutput || d.tooLarge()
}

func (d *decoder) tooLarge() bool {
	return d.failf("the message has more than %d bytes with its defaults, the limit", d.maxOutput)
}

func (d *decoder) openLen() int {
	d.gaps = append(d.gaps, gap{at: uint32(len(d.out)), before: uint32(d.extra)})
	d.out = append(d.out, 0)
	return len(d.gaps) - 1
}

func (d *decoder) closeLen(g int) {
	o := &d.gaps[g]
	n := len(d.out) - int(o.at) - 1 + d.extra - int(o.before)
	if n < 0x80 { // then nothing inside needs a gap either: g is the last
		d.out[o.at] = byte(n)
		d.gaps = d.gaps[:g]
		return
	}
	o.size = uint32(n)
	d.extra += varintLen(uint64(n)) - 1
}

// spread opens the gaps, last first, so that each byte moves at most once.
func (d *decoder) spread() {
	if d.extra > 0 {
		end := len(d.out)
		d.out = slices.Grow(d.out, d.extra)[:end+d.extra]
		shift := d.extra
		for _, g := range slices.Backward(d.gaps) {
			at := int(g.at)
			d.moved += end - at - 1
			copy(d.out[at+1+shift:], d.out[at+1:end])
			shift -= varintLen(uint64(g.size)) - 1
			putVarint(d.out[at+shift:], uint64(g.size))
			end = at
		}
	}
	d.gaps, d.extra = d.gaps[:0], 0
}

// count takes n members, elements, keys or values from what may be there.
func (d *decoder) count(n int) bool {
	d.elements += n
	return d.elements <= d.maxElements || d.tooMany()
}

func (d *decoder) tooMany() bool {
	return d.failf("more than %d members and elements in one message", d.maxElements)
}

func (d *decoder) deeper() bool {
	d.depth++
	return d.depth <= d.maxDepth || d.tooDeep()
}

func (d *decoder) tooDeep() bool { return d.failf("nested deeper than %d levels", d.maxDepth) }

// head reads a head.
func (d *decoder) head() (tag uint8, t Type, ok bool) {
	tag, t, next := head(d.in, d.pos)
	if next < 0 {
		if d.pos < len(d.in) && d.in[d.pos]&0xF > byte(SimpleList) {
			return 0, 0, d.failf("wanted a type from 0 to %d, found %d at offset %d", SimpleList, d.in[d.pos]&0xF, d.pos)
		}
		return 0, 0, d.cut()
	}
	d.pos = next
	return tag, t, true
}

func (d *decoder) cut() bool {
	return d.failf("the data ends at offset %d, in the middle of a value", len(d.in))
}

// member reads the member whose head was read.
func (d *decoder) member(m *Message, tag uint8, t Type, seen *mask) bool {
	if !d.count(1) {
		return false
	}
	if t == StructEnd {
		return d.failf("wanted a member, found STRUCT_END at offset %d", d.pos-1)
	}
	f := m.tagged(tag)
	if f == nil {
		return d.skip(t)
	}
	if seen.has(tag) {
		return d.failf("tag %d (%s) is given twice", tag, f.name)
	}
	seen.add(tag)
	if !d.value(f, t) {
		return d.inField(f)
	}
	return true
}

func (d *decoder) skip(t Type) bool {
	s := skipper{in: d.in, depth: d.maxDepth - d.depth, left: d.maxElements - d.elements}
	next := s.skip(t, d.pos)
	if !d.count(s.steps) {
		return false
	}
	if next < 0 {
		return d.failf("wanted a value of type %s at offset %d, found bytes that are not, or nested deeper than %d levels", t, d.pos, d.maxDepth)
	}
	d.pos = next
	return true
}

// complete writes the defaults of what is not there, and misses what must be.
func (d *decoder) complete(m *Message, seen *mask) bool {
	for w := range m.words {
		if missing := m.required[w] &^ seen[w]; missing != 0 {
			tag := w<<6 + bits.TrailingZeros64(missing)
			return d.failf("%s lacks tag %d (%s), which is required", m.name(), tag, m.byTag[tag].name)
		}
		for absent := m.filled[w] &^ seen[w]; absent != 0; absent &= absent - 1 {
			f := m.byTag[w<<6+bits.TrailingZeros64(absent)]
			d.steps++
			d.out = append(d.out, f.fill...)
		}
	}
	return d.bounded()
}

func (m *Message) name() string {
	if m.Schema == nil {
		return "a map entry"
	}
	return m.Schema.Name
}

// value reads the value of a field of any shape and writes it with its tag.
func (d *decoder) value(f *field, t Type) bool {
	switch f.shape {
	case list:
		return d.list(f, t)
	case mapping, pairs:
		return d.mapping(f, t)
	}
	at := len(d.out)
	if !d.single(f, t) {
		return false
	}
	d.dropZero(f, at)
	return true
}

// dropZero takes back what was written of a field from at on, if that is zero and as good as nothing.
func (d *decoder) dropZero(f *field, at int) {
	if !f.lean {
		return
	}
	for i := at + varintLen(f.wireTag); i < len(d.out); i++ {
		if d.out[i] != 0 {
			return
		}
	}
	d.out = d.out[:at]
}

// single reads one value and writes it with its tag.
func (d *decoder) single(f *field, t Type) bool {
	if f.kind == tarsv1.Type_BYTES {
		return d.bytes(f, t)
	}
	d.out = appendVarint(d.out, f.wireTag)
	switch f.kind {
	case tarsv1.Type_STRUCT:
		if t != StructBegin {
			return d.wrong(f, t)
		}
		g := d.openLen()
		if !d.structure(f.message) {
			return false
		}
		d.closeLen(g)
		return true
	case tarsv1.Type_WRAPPED:
		g := d.openLen()
		if !d.value(f.message.fields[0], t) {
			return false
		}
		d.closeLen(g)
		return true
	case tarsv1.Type_STRING:
		return d.str(f, t)
	}
	return d.number(f, t)
}

// wrong fails with what a single value of the field takes and what stands there.
func (d *decoder) wrong(f *field, t Type) bool { return d.wanted(f.wants(), t) }

func (d *decoder) wanted(what string, t Type) bool {
	return d.failf("wanted %s, found %s at offset %d", what, t, d.pos)
}

// wants describes the types that are read for one value of a field.
func (f *field) wants() string {
	switch f.kind {
	case tarsv1.Type_STRUCT:
		return "STRUCT_BEGIN"
	case tarsv1.Type_STRING:
		return "STRING1 or STRING4"
	case tarsv1.Type_BYTES:
		return "SIMPLE_LIST or LIST"
	case tarsv1.Type_FLOAT:
		return "FLOAT or ZERO"
	case tarsv1.Type_DOUBLE:
		return "DOUBLE, FLOAT or ZERO"
	}
	if f.widest == Byte {
		return "BYTE or ZERO"
	}
	return "an integer up to " + f.widest.String()
}

// number reads a number, bool or enum and writes it without its tag.
func (d *decoder) number(f *field, t Type) bool {
	switch f.kind {
	case tarsv1.Type_FLOAT:
		v := uint32(0)
		switch {
		case t == Zero:
		case t != Float:
			return d.wrong(f, t)
		case len(d.in)-d.pos < 4:
			return d.cut()
		default:
			v = binary.BigEndian.Uint32(d.in[d.pos:])
			d.pos += 4
		}
		d.out = protowire.AppendFixed32(d.out, v)
		return true
	case tarsv1.Type_DOUBLE:
		v := uint64(0)
		switch {
		case t == Zero:
		case t == Float && len(d.in)-d.pos >= 4:
			v = math.Float64bits(float64(math.Float32frombits(binary.BigEndian.Uint32(d.in[d.pos:]))))
			d.pos += 4
		case t == Double && len(d.in)-d.pos >= 8:
			v = binary.BigEndian.Uint64(d.in[d.pos:])
			d.pos += 8
		case t == Float || t == Double:
			return d.cut()
		default:
			return d.wrong(f, t)
		}
		d.out = protowire.AppendFixed64(d.out, v)
		return true
	}
	v, next := integer(d.in, d.pos, t, f.widest)
	if next < 0 {
		if t <= f.widest {
			return d.cut()
		}
		return d.wrong(f, t)
	}
	if f.isBool && v != 0 {
		v = 1
	}
	if v < f.low || v > f.high {
		return d.failf("wanted %d to %d, found %d at offset %d", f.low, f.high, v, d.pos)
	}
	d.pos = next
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

// str reads a string and writes it without its tag.
func (d *decoder) str(f *field, t Type) bool {
	if t != String1 && t != String4 {
		return d.wrong(f, t)
	}
	start, end := str(d.in, d.pos, t)
	if end < 0 {
		return d.failf("wanted a string at offset %d, found a length beyond the end of the data", d.pos)
	}
	s := d.in[start:end]
	d.pos = end
	if d.charset == GBK {
		g := d.openLen()
		out, ok := appendFromGBK(d.out, s)
		if d.out = out; !ok && !d.replaceUTF8 {
			return d.failf("wanted text in GBK, found bytes that are not before offset %d", end)
		}
		d.closeLen(g)
		return true
	}
	if utf8.Valid(s) {
		d.out = appendVarint(d.out, uint64(len(s)))
		d.out = append(d.out, s...)
		return true
	}
	if !d.replaceUTF8 {
		i := invalid(s)
		return d.failf("wanted UTF-8, found byte 0x%02x at offset %d", s[i], start+i)
	}
	g := d.openLen()
	d.out = appendReplaced(d.out, s)
	d.closeLen(g)
	return true
}

// invalid is where s stops being UTF-8.
func invalid(s []byte) int {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRune(s[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return len(s)
}

// appendReplaced appends s with U+FFFD for each run of bytes that are not UTF-8.
func appendReplaced(dst, s []byte) []byte {
	for run := false; len(s) > 0; {
		r, n := utf8.DecodeRune(s)
		bad := r == utf8.RuneError && n == 1
		if !bad || !run {
			dst = utf8.AppendRune(dst, r)
		}
		run = bad
		s = s[n:]
	}
	return dst
}

// bytes reads a vector<byte> in either form and writes it with its tag.
func (d *decoder) bytes(f *field, t Type) bool {
	if t == List {
		n, next := length(d.in, d.pos, 1)
		if next < 0 {
			return d.wrongLength("elements")
		}
		d.pos = next
		if !d.count(n) {
			return false
		}
		if n == 0 && f.shape == single {
			return true
		}
		d.out = appendVarint(d.out, f.wireTag)
		d.out = appendVarint(d.out, uint64(n))
		for i := range n {
			tag, t, ok := d.head()
			if !ok {
				return d.inElement(i)
			}
			v, next := integer(d.in, d.pos, t, Byte)
			switch {
			case tag != 0:
				d.failf("wanted tag 0 for an element, found %d", tag)
				return d.inElement(i)
			case next < 0:
				d.failf("wanted BYTE or ZERO, found %s at offset %d", t, d.pos)
				return d.inElement(i)
			}
			d.pos = next
			d.out = append(d.out, byte(v))
		}
		return true
	}
	if t != SimpleList {
		return d.wrong(f, t)
	}
	start, end := simpleList(d.in, d.pos)
	if end < 0 {
		return d.wrongLength("bytes")
	}
	d.pos = end
	if start == end && f.shape == single {
		return true // what protobuf does not tell from nothing
	}
	d.out = appendVarint(d.out, f.wireTag)
	d.out = appendVarint(d.out, uint64(end-start))
	d.out = append(d.out, d.in[start:end]...)
	return true
}

func (d *decoder) wrongLength(of string) bool {
	return d.failf("wanted a number of %s at offset %d that the data can hold, found another", of, d.pos)
}
