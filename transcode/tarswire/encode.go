package tarswire

import (
	"encoding/binary"
	"fmt"
	"sync"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	tarsv1 "github.com/causeway-gateway/causeway/protos/causeway/tars/v1"
)

// AppendTARS appends to dst the members that the wire form of m stands for, by ascending tags: those of a struct without
// the heads around it, or the parameters of a function. Fields that m does not know are passed over. wire is not kept and
// not changed. o may be nil. The error is an *Error, and dst is then returned as it was.
//
// It is safe for concurrent use and does not allocate beyond the growth of dst.
func AppendTARS(dst, wire []byte, m *Message, o *Options) ([]byte, error) {
	e := newEncoder(dst, wire, o)
	defer e.release()
	if !e.root() || !e.whole(m) {
		return dst, e.err
	}
	return e.out, nil
}

// encoder turns wire bytes into TARS. Where fields come in the order of the table they are written in the look that finds them,
// see ahead. Else each message is gone over once for its tags only, which gives a list of the occurrences of its fields; sorted
// by the field table (a stable radix sort, and nothing to do when they came in order), the occurrences of one field stand side
// by side, and the message is written from that list.
type encoder struct {
	in  []byte
	out []byte

	occs   []occurrence // of the open messages, outermost first
	places []uint32     // where the sort puts each occurrence
	keys   []mapKey

	depth, maxDepth       int
	elements, maxElements int
	steps                 int // tags and occurrences looked at: what a translation costs
	base, maxOutput       int // base: length of out at the beginning
	zeros, replaceUTF8    bool
	charset               Charset

	trial bool // ahead is at work: what is wrong is told later
	err   *Error
}

// occurrence is one field on the wire: where its value begins, the field's index and the wire type.
type occurrence struct {
	pos  uint32
	info uint32 // index<<3 | wire type
}

// rootType marks the occurrence that is the whole input: without a length.
const rootType = 7

func (o occurrence) index() int          { return int(o.info >> 3) }
func (o occurrence) typ() protowire.Type { return protowire.Type(o.info & 7) }

var encoders = sync.Pool{New: func() any { return new(encoder) }}

func newEncoder(dst, in []byte, o *Options) *encoder {
	e := encoders.Get().(*encoder)
	e.maxDepth, e.maxElements, e.maxOutput = o.limits(len(in))
	e.zeros, e.replaceUTF8, e.charset = o != nil && o.Zeros, o != nil && o.ReplaceUTF8, UTF8
	if o != nil {
		e.charset = o.Charset
	}
	e.in, e.out, e.base = in, dst, len(dst)
	return e
}

func (e *encoder) release() {
	e.in, e.out, e.err = nil, nil, nil
	e.occs, e.keys = e.occs[:0], e.keys[:0]
	e.depth, e.elements, e.steps, e.trial = 0, 0, 0, false
	if e.scratch() > keepScratch {
		e.occs, e.places, e.keys = nil, nil, nil
	}
	encoders.Put(e)
}

// scratch is the memory in bytes that e holds besides input and output: at most 28 bytes for each element that it counts.
func (e *encoder) scratch() int { return cap(e.occs)*8 + cap(e.places)*4 + cap(e.keys)*16 }

// fail notes a fault; the path is put before it on the way out.
func (e *encoder) fail(msg string) bool {
	if e.err == nil && !e.trial {
		e.err = &Error{Message: msg}
	}
	return false
}

func (e *encoder) failf(format string, args ...any) bool {
	if e.err == nil && !e.trial {
		e.err = &Error{Message: fmt.Sprintf(format, args...)}
	}
	return false
}

// inField puts a field's name before the path of the fault, if it was noted.
func (e *encoder) inField(f *field) bool {
	if e.err != nil {
		e.err.inside(f.name)
	}
	return false
}

func (e *encoder) inElement(i int) bool {
	if e.err != nil {
		e.err.element(i)
	}
	return false
}

// root makes the whole input the first occurrence.
func (e *encoder) root() bool {
	if len(e.in) > maxInput {
		return e.fail("wanted a message of at most 256 MiB, found a larger one")
	}
	e.occs = append(e.occs, occurrence{info: rootType})
	return true
}

// count takes n members, elements, keys or values from what may be there.
func (e *encoder) count(n int) bool {
	e.steps += n
	e.elements += n
	return e.elements <= e.maxElements || e.tooMany()
}

func (e *encoder) tooMany() bool {
	return e.failf("more than %d members and elements in one message", e.maxElements)
}

func (e *encoder) deeper() bool {
	e.depth++
	return e.depth <= e.maxDepth || e.tooDeep()
}

func (e *encoder) tooDeep() bool { return e.failf("nested deeper than %d levels", e.maxDepth) }

// span gives the bounds of the content of a length-delimited occurrence.
func (e *encoder) span(o occurrence) (start, end int) {
	if o.typ() == protowire.BytesType {
		n, at := varint(e.in, int(o.pos), len(e.in))
		return at, at + int(n)
	}
	return int(o.pos), len(e.in)
}

// whole writes the members of m, which is the whole input.
func (e *encoder) whole(m *Message) bool {
	e.trial = true
	ok := e.ahead(m, 0, len(e.in))
	if e.trial = false; ok {
		return true
	}
	e.out = e.out[:e.base]
	e.occs, e.keys = e.occs[:1], e.keys[:0]
	e.depth, e.elements = 0, 0
	return e.members(m, 0, 1)
}

// members writes the members of m, whose parts are occs[lo:hi]: several stand for their concatenation, which is how
// protobuf merges a sub-message that was sent in pieces, and none is the empty message.
func (e *encoder) members(m *Message, lo, hi int) bool {
	base := len(e.occs)
	if !e.index(m, lo, hi) {
		return false
	}
	top := len(e.occs)
	i := base
	for _, f := range m.fields {
		j := i
		for j < top && e.occs[j].index() == f.index {
			j++
		}
		e.steps += 1 + j - i
		if e.unset(f, i, j) {
			if !e.absent(m, f, f.tag) {
				return e.inField(f)
			}
			i = j
			continue
		}
		if !e.value(f, f.tag, i, j) {
			return e.inField(f)
		}
		i = j
	}
	e.occs = e.occs[:base]
	return true
}

// unset says that occs[i:j] of a field without presence hold its zero, or no elements, which is as if they were not there.
func (e *encoder) unset(f *field, i, j int) bool {
	switch {
	case i == j:
		return true
	case f.shape == list && f.packedTag != 0:
		for ; i < j; i++ {
			if o := e.occs[i]; o.typ() != protowire.BytesType || !e.empty(o) {
				return false
			}
		}
		return true
	case f.presence || f.shape != single || f.message != nil:
		return false
	}
	o := e.occs[j-1]
	if o.typ() == protowire.BytesType {
		return e.empty(o)
	}
	v, _ := number(e.in, int(o.pos), len(e.in), o.typ())
	return v == 0
}

func (e *encoder) empty(o occurrence) bool {
	start, end := e.span(o)
	return start == end
}

// absent writes what stands for a field that is not there: nothing when it is optional.
func (e *encoder) absent(m *Message, f *field, tag uint8) bool {
	switch {
	case !m.required.has(f.tag):
		return true
	case f.def != nil:
		_, t, next := head(f.def, 0)
		if e.charset == GBK && f.kind == tarsv1.Type_STRING {
			start, end := str(f.def, next, t)
			return e.count(1) && e.gbk(tag, f.def[start:end]) && e.bounded()
		}
		e.out = append(AppendHead(e.out, tag, t), f.def[next:]...)
		return e.count(1) && e.bounded()
	case f.part || e.zeros:
	case f.shape != single || f.kind == tarsv1.Type_BYTES:
		// Protobuf does not tell an empty one from none.
	default:
		return e.failf("is required and not given")
	}
	return e.count(1) && e.zero(f, tag)
}

// bounded holds the output to its limit.
func (e *encoder) bounded() bool {
	return len(e.out)-e.base <= e.maxOutput || e.failf("the message has more than %d bytes with its defaults, the limit", e.maxOutput)
}

// zero writes the value that nothing in protobuf stands for.
func (e *encoder) zero(f *field, tag uint8) bool {
	switch {
	case f.shape == list:
		e.out = append(AppendHead(e.out, tag, List), byte(Zero))
	case f.shape != single:
		e.out = append(AppendHead(e.out, tag, Map), byte(Zero))
	case f.kind == tarsv1.Type_STRUCT:
		return e.structure(f, tag, 0, 0)
	case f.kind == tarsv1.Type_WRAPPED:
		return e.wrapped(f, tag, 0, 0)
	case f.kind == tarsv1.Type_STRING:
		e.out = AppendString(e.out, tag, "")
	case f.kind == tarsv1.Type_BYTES:
		e.out = AppendBytes(e.out, tag, nil)
	default:
		return e.number(f, tag, 0)
	}
	return true
}

// value writes the value of a field with a tag from its occurrences occs[i:j].
func (e *encoder) value(f *field, tag uint8, i, j int) bool {
	switch f.shape {
	case list:
		return e.list(f, tag, i, j)
	case mapping:
		return e.mapping(f, tag, i, j)
	case pairs:
		return e.pairs(f, tag, i, j)
	}
	if f.message != nil {
		return e.element(f, tag, i, j)
	}
	return e.element(f, tag, j-1, j)
}

// element writes one value with a tag. A message may be in pieces, occs[i:j]; all else is occs[i].
func (e *encoder) element(f *field, tag uint8, i, j int) bool {
	o := e.occs[i]
	switch f.kind {
	case tarsv1.Type_STRUCT:
		return e.structure(f, tag, i, j)
	case tarsv1.Type_WRAPPED:
		return e.wrapped(f, tag, i, j)
	case tarsv1.Type_STRING:
		start, end := e.span(o)
		return e.str(tag, e.in[start:end])
	case tarsv1.Type_BYTES:
		start, end := e.span(o)
		e.out = AppendBytes(e.out, tag, e.in[start:end])
		return true
	}
	v, _ := number(e.in, int(o.pos), len(e.in), o.typ())
	return e.number(f, tag, v)
}

func (e *encoder) structure(f *field, tag uint8, i, j int) bool {
	if !e.deeper() {
		return false
	}
	e.out = AppendHead(e.out, tag, StructBegin)
	if !e.members(f.message, i, j) {
		return false
	}
	e.out = append(e.out, byte(StructEnd))
	e.depth--
	return true
}

// wrapped writes the one field of a wrapper in the wrapper's place.
func (e *encoder) wrapped(f *field, tag uint8, i, j int) bool {
	base := len(e.occs)
	if !e.index(f.message, i, j) {
		return false
	}
	top, items := len(e.occs), f.message.fields[0]
	var ok bool
	switch items.shape {
	case list:
		ok = e.list(items, tag, base, top)
	case mapping:
		ok = e.mapping(items, tag, base, top)
	default:
		ok = e.pairs(items, tag, base, top)
	}
	e.occs = e.occs[:base]
	return ok
}

// list writes a list with a tag.
func (e *encoder) list(f *field, tag uint8, i, j int) bool {
	if !e.deeper() {
		return false
	}
	n := j - i
	if f.packedTag != 0 {
		n = 0
		for k := i; k < j; k++ {
			c := e.elementsIn(f, e.occs[k])
			if c < 0 {
				return e.notPacked(f)
			}
			n += c
		}
		if !e.count(n) {
			return false
		}
	}
	e.out = AppendInt(AppendHead(e.out, tag, List), 0, int64(n))
	n = 0
	for ; i < j; i++ {
		o := e.occs[i]
		if f.packedTag == 0 || o.typ() != protowire.BytesType {
			if !e.element(f, 0, i, i+1) {
				return e.inElement(n)
			}
			n++
			continue
		}
		for at, end := e.span(o); at < end; n++ {
			v, next := number(e.in, at, end, f.wire)
			if !e.number(f, 0, v) {
				return e.inElement(n)
			}
			at = next
		}
	}
	e.depth--
	return true
}

// elementsIn counts the numbers in an occurrence of a list; it is negative when they are not well formed.
func (e *encoder) elementsIn(f *field, o occurrence) int {
	if o.typ() != protowire.BytesType {
		return 1
	}
	at, end := e.span(o)
	switch f.wire {
	case protowire.Fixed32Type, protowire.Fixed64Type:
		size := 4
		if f.wire == protowire.Fixed64Type {
			size = 8
		}
		if (end-at)%size != 0 {
			return -1
		}
		return (end - at) / size
	}
	n := 0
	for at < end {
		if _, at = varint(e.in, at, end); at < 0 {
			return -1
		}
		n++
	}
	return n
}

func (e *encoder) notPacked(f *field) bool {
	return e.failf("wanted packed values of %s, found bytes that are not", f.kind)
}

// number writes a number from its bits on the wire.
func (e *encoder) number(f *field, tag uint8, v uint64) bool {
	if f.zigzag {
		v = uint64(protowire.DecodeZigZag(v))
	}
	n := int64(v)
	switch f.kind {
	case tarsv1.Type_FLOAT:
		e.out = binary.BigEndian.AppendUint32(AppendHead(e.out, tag, Float), uint32(v))
		return true
	case tarsv1.Type_DOUBLE:
		e.out = binary.BigEndian.AppendUint64(AppendHead(e.out, tag, Double), v)
		return true
	case tarsv1.Type_LONG:
	case tarsv1.Type_BOOL:
		n = int64(min(v, 1))
	case tarsv1.Type_UNSIGNED_BYTE, tarsv1.Type_UNSIGNED_SHORT, tarsv1.Type_UNSIGNED_INT:
		n = int64(uint32(v))
	default:
		n = int64(int32(v))
	}
	if n < f.low || n > f.high {
		return e.failf("wanted %d to %d, found %d", f.low, f.high, n)
	}
	e.out = AppendInt(e.out, tag, n)
	return true
}

func (e *encoder) str(tag uint8, s []byte) bool {
	if e.charset == GBK {
		return e.gbk(tag, s)
	}
	if utf8.Valid(s) {
		e.out = append(AppendStringHead(e.out, tag, len(s)), s...)
		return true
	}
	if !e.replaceUTF8 {
		i := invalid(s)
		return e.failf("wanted UTF-8, found byte 0x%02x", s[i])
	}
	at := len(e.out)
	e.out = appendReplaced(e.out, s)
	n := len(e.out) - at
	// The head comes behind the text and is then turned round with it.
	e.out = AppendStringHead(e.out, tag, n)
	rotate(e.out[at:], n)
	return true
}

// gbk writes a string in GBK.
func (e *encoder) gbk(tag uint8, s []byte) bool {
	at := len(e.out)
	out, ok := appendToGBK(e.out, s)
	if !ok {
		return e.failf("has text that GBK cannot hold")
	}
	n := len(out) - at
	e.out = AppendStringHead(out, tag, n)
	rotate(e.out[at:], n)
	return true
}

// rotate puts what stands from n on, a few bytes, in front of what stands before.
func rotate(b []byte, n int) {
	var head [8]byte
	size := copy(head[:], b[n:])
	copy(b[size:], b[:n])
	copy(b, head[:size])
}

// pairs writes a map whose entries are messages, in the order of the wire.
func (e *encoder) pairs(f *field, tag uint8, i, j int) bool {
	if !e.deeper() {
		return false
	}
	e.out = AppendMapHead(e.out, tag, j-i)
	for n := 0; i < j; i, n = i+1, n+1 {
		if !e.members(f.entry, i, i+1) {
			return e.inElement(n)
		}
	}
	e.depth--
	return true
}

// mapping writes a map of protobuf, sorted by key; of several entries with one key the last.
func (e *encoder) mapping(f *field, tag uint8, i, j int) bool {
	if !e.deeper() {
		return false
	}
	base := len(e.keys)
	if n := base + j - i; n > cap(e.keys) {
		keys := make([]mapKey, base, max(n, cap(e.keys)+cap(e.keys)/8))
		copy(keys, e.keys)
		e.keys = keys
	}
	for ; i < j; i++ {
		k, ok := e.entryKey(f, e.occs[i])
		if !ok {
			return false
		}
		e.keys = append(e.keys, k)
	}
	n := e.sortKeys(f, base)
	e.out = AppendMapHead(e.out, tag, n)
	lo := len(e.occs)
	for k := range n {
		e.push(occurrence{pos: e.keys[base+k].pos, info: uint32(protowire.BytesType)})
		if !e.members(f.entry, lo, lo+1) {
			return e.inElement(k)
		}
		e.occs = e.occs[:lo]
	}
	e.keys = e.keys[:base]
	e.depth--
	return true
}
