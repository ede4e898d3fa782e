package jsonwire

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// printer turns wire bytes into JSON. Each message is gone over once for its tags only, which gives a list of the
// occurrences of its fields; sorted by the field table (a stable radix sort, and nothing to do when they came in order),
// the occurrences of one field stand side by side, and the message is written from that list. Plain fields with which a
// message begins are written in the same look, see ahead.
type printer struct {
	in  []byte
	end int // of the root value in in
	out []byte

	occs   []occurrence // of the open messages, outermost first
	places []uint32     // where the sort puts each occurrence
	cuts   []cut
	keys   []mapKey
	groups groupEnds
	stack  []uint32 // numbers and offsets of the groups being passed over

	opts        Options
	depth       int
	elements    int
	steps       int // tags and occurrences looked at: what a print costs
	maxDepth    int
	maxElements int
	partial     int  // above 0: required fields are not checked
	named       bool // names are not all the JSON names
	demand      bool // check asks for required fields too

	err *Error
}

// occurrence is one field on the wire: where its value begins, the field's index and the wire type.
type occurrence struct {
	pos  uint32
	info uint32 // index<<3 | wire type
}

// rootType marks the occurrence that is the whole input: without a length, up to printer.end.
const rootType = 7

func (o occurrence) index() int          { return int(o.info >> 3) }
func (o occurrence) typ() protowire.Type { return protowire.Type(o.info & 7) }

var printers = sync.Pool{New: func() any { return new(printer) }}

func newPrinter(dst, wire []byte, o *Options) *printer {
	p := printers.Get().(*printer)
	if o != nil {
		p.opts = *o
	} else {
		p.opts = Options{}
	}
	p.maxDepth, p.maxElements = p.opts.limits()
	p.named = p.opts.ProtoNames || p.opts.TarsReturn
	p.in, p.out, p.end = wire, dst, len(wire)
	return p
}

func (p *printer) release() {
	p.in, p.out, p.err = nil, nil, nil
	p.occs, p.cuts, p.keys, p.stack = p.occs[:0], p.cuts[:0], p.keys[:0], p.stack[:0]
	p.depth, p.elements, p.steps, p.partial, p.demand = 0, 0, 0, 0, false
	p.groups.reset()
	if p.scratch() > keepScratch {
		p.occs, p.places, p.keys, p.stack, p.cuts, p.groups = nil, nil, nil, nil, nil, groupEnds{}
	}
	printers.Put(p)
}

// scratch is the memory in bytes that p holds besides input and output: at most 16 bytes for each element that it counts,
// and what depth and schema account for.
func (p *printer) scratch() int {
	return cap(p.occs)*8 + cap(p.places)*4 + cap(p.keys)*16 + cap(p.groups.slots)*8 + cap(p.stack)*4 + cap(p.cuts)*16
}

// AppendJSON appends to dst the JSON form of the message m whose wire form is given. Fields stand in the order of
// m.Fields, map keys are sorted, and there is no white space. Unknown fields are passed over; an Any finds its type in
// the schema of the message that holds it. wire is not kept and not changed; o may be nil. The error is an *Error, with
// the path of the field, and dst is then returned as it was.
//
// It is safe for concurrent use and does not allocate beyond the growth of dst.
func AppendJSON(dst, wire []byte, m *schema.Message, o *Options) ([]byte, error) {
	p := newPrinter(dst, wire, o)
	defer p.release()
	if !p.root() || !p.message(m, 0, 1) {
		return dst, p.err
	}
	return p.out, nil
}

// AppendFieldJSON appends to dst the JSON form of one field of the message m whose wire form is given, as AppendJSON
// would write it. A field that is not set gives its default: null for a message, [] and {} for repeated fields and maps.
// The empty path is the whole message. Of the other fields only the frame is checked.
func AppendFieldJSON(dst, wire []byte, m *schema.Message, path schema.Path, o *Options) ([]byte, error) {
	p := newPrinter(dst, wire, o)
	defer p.release()
	if !p.root() || !p.fieldAt(m, path, 0, 1) {
		return dst, p.err
	}
	return p.out, nil
}

// AppendAny appends to dst the JSON form of an encoded google.protobuf.Any whose type is looked up in types. When it is
// not there, errors.Is tells ErrUnknownType.
func AppendAny(dst, value []byte, types *schema.Schema, o *Options) ([]byte, error) {
	p := newPrinter(dst, value, o)
	defer p.release()
	p.depth++
	if !p.root() || !p.any(types, 0, 1) {
		return dst, p.err
	}
	return p.out, nil
}

// root makes the whole input the first occurrence.
func (p *printer) root() bool {
	if uint64(len(p.in)) > math.MaxUint32 {
		return p.fail("wanted a message below 4 GiB")
	}
	p.occs = append(p.occs, occurrence{info: rootType})
	return true
}

// fail notes a fault; the path is put before it on the way out.
func (p *printer) fail(msg string) bool {
	if p.err == nil {
		p.err = &Error{Message: msg}
	}
	return false
}

func (p *printer) failf(format string, args ...any) bool { return p.fail(fmt.Sprintf(format, args...)) }

// inField puts a field's name before the path of the fault.
func (p *printer) inField(f *schema.Field) bool {
	p.err.Path = joinPath(f.JSONName, p.err.Path)
	return false
}

func (p *printer) inElement(i int) bool {
	p.err.Path = joinPath("["+strconv.Itoa(i)+"]", p.err.Path)
	return false
}

// span gives the bounds of the content of a length-delimited or group occurrence.
func (p *printer) span(o occurrence) (start, end int) {
	if o.typ() == protowire.BytesType && p.in[o.pos] < 0x80 {
		start = int(o.pos) + 1
		return start, start + int(p.in[o.pos])
	}
	return p.longSpan(o)
}

func (p *printer) longSpan(o occurrence) (start, end int) {
	switch o.typ() {
	case protowire.BytesType:
		n, at := varint(p.in, int(o.pos), len(p.in))
		return at, at + int(n)
	case protowire.StartGroupType:
		e, _ := p.groups.get(o.pos)
		return int(o.pos), int(e)
	default:
		return int(o.pos), p.end
	}
}

// tag reads a tag at in[i:end].
func (p *printer) tag(i, end int) (num protowire.Number, typ protowire.Type, next int) {
	return p.tagUpTo(i, end, maxNumber)
}

func (p *printer) tagUpTo(i, end int, top uint64) (num protowire.Number, typ protowire.Type, next int) {
	v, next := varint(p.in, i, end)
	if next < 0 || v>>3 > top || v>>3 == 0 || v&7 > 5 {
		return 0, 0, -1
	}
	return protowire.Number(v >> 3), protowire.Type(v & 7), next
}

// skip passes over the value of a field at in[i:end]; -1 when it is not well formed.
func (p *printer) skip(num protowire.Number, typ protowire.Type, i, end int) int {
	switch typ {
	case protowire.VarintType:
		_, i = varint(p.in, i, end)
		return i
	case protowire.Fixed32Type:
		i += 4
	case protowire.Fixed64Type:
		i += 8
	case protowire.BytesType:
		n, at := varint(p.in, i, end)
		if at < 0 || n > uint64(end-at) {
			return -1
		}
		return at + int(n)
	case protowire.StartGroupType:
		return p.skipGroup(num, i, end)
	default:
		return -1
	}
	if i > end {
		return -1
	}
	return i
}

// skipGroup passes over the group num whose content begins at i. It notes where this group and those inside it end, so
// that a chain of groups is gone over once and not once per level.
func (p *printer) skipGroup(num protowire.Number, i, end int) int {
	if e, ok := p.groups.get(uint32(i)); ok {
		_, next := varint(p.in, int(e), end)
		return next
	}
	base := len(p.stack)
	p.stack = append(p.stack, uint32(num), uint32(i))
	for len(p.stack) > base {
		at := i
		// Like protobuf-go, which checks what it passes over for its frame only.
		p.steps++
		n, typ, next := p.tagUpTo(i, end, math.MaxInt32)
		if next < 0 {
			return -1
		}
		i = next
		switch typ {
		case protowire.StartGroupType:
			if (len(p.stack)-base)/2 >= p.maxDepth {
				return -1
			}
			p.stack = append(p.stack, uint32(n), uint32(i))
		case protowire.EndGroupType:
			top := len(p.stack) - 2
			if p.stack[top] != uint32(n) {
				return -1
			}
			if !p.element() {
				return -1
			}
			p.groups.put(p.stack[top+1], uint32(at))
			p.stack = p.stack[:top]
		default:
			if i = p.skip(n, typ, i, end); i < 0 {
				return -1
			}
		}
	}
	return i
}

// index appends the occurrences of m's fields in the parts occs[lo:hi], in the order of m.Fields and, within a field, of
// the wire. Fields that m does not know, or that have another wire type than it says, are left out. Where members of one
// oneof meet, only what is in force is left.
func (p *printer) index(m *schema.Message, lo, hi int) bool { return p.indexFrom(m, lo, hi, -1) }

// indexFrom is index from the offset from on in the first part; -1 is its start.
func (p *printer) indexFrom(m *schema.Message, lo, hi, from int) bool {
	base := len(p.occs)
	occs := p.occs
	sorted, last, oneofs := true, 0, uint64(0)
	clash := false
	in := p.in
	for part := lo; part < hi; part++ {
		i, end := p.span(occs[part])
		if from >= 0 {
			i, from = from, -1
		}
		for i < end {
			p.steps++
			if !p.element() {
				return false
			}
			// Most fields have a tag of one byte, and a value that is as short or has a length that is; next takes the others.
			f, typ, at := m.ByNumber(protowire.Number(in[i]>>3)), protowire.Type(in[i]&7), i+1
			switch {
			case f == nil || f.Tag != uint64(in[i]) || in[i] >= 0x80 || at >= end || in[at] >= 0x80:
				f, typ, at, i = p.next(m, i, end)
			case typ == protowire.BytesType:
				i += 2 + int(in[at])
			case typ == protowire.VarintType:
				i += 2
			default:
				f, typ, at, i = p.next(m, i, end)
			}
			if i < 0 || i > end {
				return p.broken(m)
			}
			if f == nil {
				continue
			}
			if f.Index < last {
				sorted = false
			}
			last = f.Index
			if f.Oneof >= 0 {
				bit := uint64(1) << (f.Oneof & 63)
				clash = clash || oneofs&bit != 0
				oneofs |= bit
			}
			if len(occs) == cap(occs) {
				p.occs = occs
				p.room(i, end, part, hi)
				occs = p.occs
			}
			occs = append(occs, occurrence{pos: uint32(at), info: uint32(f.Index)<<3 | uint32(typ)})
		}
	}
	p.occs = occs
	if clash && !p.settle(m, base) {
		return false
	}
	if !sorted {
		p.sort(base, len(m.Fields))
	}
	return true
}

// next finds the field at in[i:end]: its value begins at and ends before stop, which is negative when it is not well formed.
// No field is one that m does not know, or not with this wire type.
func (p *printer) next(m *schema.Message, i, end int) (f *schema.Field, typ protowire.Type, at, stop int) {
	num, typ, at := p.tag(i, end)
	if at < 0 || typ == protowire.EndGroupType {
		return nil, 0, 0, -1
	}
	f = m.ByNumber(num)
	if f != nil && f.Wire != typ && (f.PackedTag == 0 || typ != protowire.BytesType) {
		f = nil
	}
	return f, typ, at, p.skip(num, typ, at, end)
}

// element counts one field, list element or map entry.
func (p *printer) element() bool {
	p.elements++
	return p.elements <= p.maxElements || p.tooMany()
}

func (p *printer) tooMany() bool {
	return p.failf("more than %d fields and elements in one message", p.maxElements)
}

// room makes p.occs large enough for one occurrence and for all fields that follow it, at in[i:end] and in the parts
// behind the one at hand. Counting them first costs less than growing by doubling, in time and in memory.
func (p *printer) room(i, end, part, hi int) {
	const least = 64
	n := least
	for {
		for i >= 0 && i < end {
			num, typ, next := p.tag(i, end)
			if next < 0 || p.err != nil {
				break // the walk will find the fault
			}
			p.steps++
			n++
			i = p.skip(num, typ, next, end)
		}
		if part++; part >= hi || n > p.maxElements {
			break
		}
		i, end = p.span(p.occs[part])
	}
	p.grow(min(n, p.maxElements+least))
}

// grow makes room for n more occurrences, or for an eighth of those that are there.
func (p *printer) grow(n int) {
	occs := make([]occurrence, len(p.occs), len(p.occs)+max(n, len(p.occs)/8))
	copy(occs, p.occs)
	p.occs = occs
}

// push adds one occurrence.
func (p *printer) push(o occurrence) {
	if len(p.occs) == cap(p.occs) {
		p.grow(64)
	}
	p.occs = append(p.occs, o)
}

func (p *printer) broken(m *schema.Message) bool {
	return p.failf("wanted the wire form of %s, found bytes that are not", m.Name)
}

// sort orders occs[base:] by field, keeping the order within a field: by insertion when they are few, else by one
// counting pass per byte of the index.
func (p *printer) sort(base, fields int) {
	const few = 12
	occs := p.occs[base:]
	p.steps += len(occs)
	if len(occs) <= few {
		for i := 1; i < len(occs); i++ {
			o := occs[i]
			j := i
			for ; j > 0 && occs[j-1].info>>3 > o.info>>3; j-- {
				occs[j] = occs[j-1]
			}
			occs[j] = o
		}
		return
	}
	if cap(p.places) < len(occs) {
		p.places = make([]uint32, len(occs))
	}
	places := p.places[:len(occs)]
	for shift := 3; (fields-1)>>(shift-3) > 0; shift += 8 {
		p.steps += len(occs)
		var counts [256]uint32
		for _, o := range occs {
			counts[o.info>>shift&0xFF]++
		}
		sum := uint32(0)
		for i, c := range counts {
			counts[i] = sum
			sum += c
		}
		for i, o := range occs {
			d := o.info >> shift & 0xFF
			places[i] = counts[d]
			counts[d]++
		}
		arrange(occs, places)
	}
}

// cut says which member of a oneof is in force, and from which offset on its occurrences count.
type cut struct {
	index int
	pos   uint32
	set   bool
}

// settle drops, from occs[base:] in wire order, the members of oneofs that a later member has replaced, checking them
// first: a decoder would have read them.
func (p *printer) settle(m *schema.Message, base int) bool {
	first := len(p.cuts)
	p.cuts = slices.Grow(p.cuts, len(m.Oneofs))[:first+len(m.Oneofs)]
	for _, o := range p.occs[base:] { // those that are not in the message stay as some other message left them
		if f := m.Fields[o.index()]; f.Oneof >= 0 {
			p.cuts[first+f.Oneof].set = false
		}
	}
	for _, o := range p.occs[base:] {
		if f := m.Fields[o.index()]; f.Oneof >= 0 {
			if c := &p.cuts[first+f.Oneof]; !c.set || c.index != f.Index {
				*c = cut{index: f.Index, pos: o.pos, set: true}
			}
		}
	}
	keep, n := base, len(p.occs)
	for i := base; i < n; i++ {
		o := p.occs[i]
		f := m.Fields[o.index()]
		if f.Oneof >= 0 {
			if c := p.cuts[first+f.Oneof]; c.index != f.Index || o.pos < c.pos {
				if !p.check(f, i, i+1) {
					return p.inField(f)
				}
				continue
			}
		}
		p.occs[keep] = o
		keep++
	}
	p.occs = p.occs[:keep]
	p.cuts = p.cuts[:first]
	return true
}

// run gives the end of the run of one field's occurrences that begins at i.
func (p *printer) run(i, top int) int {
	index := p.occs[i].info >> 3
	for i++; i < top && p.occs[i].info>>3 == index; {
		i++
	}
	return i
}

// raw appends literal JSON.
func (p *printer) raw(s string) bool {
	p.out = append(p.out, s...)
	return true
}
