package http2

import (
	"golang.org/x/net/http2/hpack"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// requestDecoder decodes the header blocks of a client's requests (RFC 7541), in their order, and checks them as
// headerDecoder does. What x/net's decoder does with a string for each literal and each entry of its table takes a third
// of what a call costs here; so a block's literals are put behind each other and become one string, of which values are
// parts, and an entry of the table becomes a string when it is first referred to.
type requestDecoder struct {
	checks headerDecoder // of pseudo headers
	table  fieldTable
	parts  []fieldPart
	text   []byte // literals of this block
	limit  int    // bytes of a header list, as RFC 9113 6.5.2 counts
	fields int    // how many fields a list may have
}

// fieldPart is a field of a block that is being decoded.
type fieldPart struct {
	name, value       string // where they are strings already
	nameAt, nameLen   int    // else where they are in the block's text
	valueAt, valueLen int
	ok                bool // checked already: from a table
}

func newRequestDecoder(fields int) *requestDecoder {
	return &requestDecoder{table: fieldTable{max: defaultTableSize}, limit: maxHeaderList, fields: fields}
}

const (
	keptText  = 4 << 10
	maxNumber = 1 << 28 // larger numbers mean nothing here
)

// decode fills into, which is reset, but for its list, which it appends to. The error is a *ConnError: the state is lost.
func (d *requestDecoder) decode(block []byte, kind blockKind, into *fields) error {
	into.reset()
	if cap(d.text) > keptText {
		d.text = nil
	}
	d.text, d.parts = d.text[:0], d.parts[:0]
	size, begun := 0, false
	for p := block; len(p) > 0; {
		var err error
		n := len(d.parts)
		if n < cap(d.parts) {
			d.parts = d.parts[:n+1]
			d.parts[n] = fieldPart{}
		} else {
			d.parts = append(d.parts, fieldPart{})
		}
		part := &d.parts[n]
		switch b := p[0]; {
		case b&0x80 != 0:
			p, err = d.indexed(p, part)
		case b&0xc0 == 0x40:
			p, err = d.literal(p, 6, true, part)
		case b&0xe0 == 0x20:
			if begun {
				return errSizeUpdate
			}
			if p, err = d.resize(p); err != nil {
				return err
			}
			d.parts = d.parts[:n]
			continue
		default:
			p, err = d.literal(p, 4, false, part)
		}
		if err != nil {
			return err
		}
		begun = true
		if into.tooLarge {
			d.parts, d.text = d.parts[:0], d.text[:0]
			continue
		}
		size += len(part.name) + len(part.value) + part.nameLen + part.valueLen + 32
		if size > d.limit || n >= d.fields {
			into.tooLarge = true
			d.parts, d.text = d.parts[:0], d.text[:0]
		}
	}
	if !into.tooLarge {
		d.finish(kind, into)
	}
	return nil
}

// finish makes strings of the parts and checks them.
func (d *requestDecoder) finish(kind blockKind, into *fields) {
	text := string(d.text)
	c := &d.checks
	c.into, c.kind, c.seen, c.regular = into, kind, 0, false
	for i := range d.parts {
		p := &d.parts[i]
		name, value := p.name, p.value
		if p.nameLen > 0 {
			name = text[p.nameAt : p.nameAt+p.nameLen]
		}
		if p.valueLen > 0 {
			value = text[p.valueAt : p.valueAt+p.valueLen]
		}
		if into.fault = d.field(name, value, p.ok); into.fault != "" {
			break
		}
	}
	c.into = nil
	if into.fault == "" {
		into.fault = c.missing(into)
	}
}

// field takes one field. What it returns is why it is refused, or "".
func (d *requestDecoder) field(name, value string, ok bool) string {
	c := &d.checks
	if !ok && !validValue(value) {
		return "a header value with a byte that is not allowed"
	}
	if name != "" && name[0] == ':' {
		return c.pseudo(name, value)
	}
	c.regular = true
	if !ok && !validName(name) {
		return "a header name that is no lower-case token"
	}
	if connectionHeader(name, value) {
		return "a header of the connection, which HTTP/2 does not have: " + name
	}
	c.into.list = append(c.into.list, rpc.Pair{Key: name, Value: value})
	return ""
}

var (
	errSizeUpdate = connFault(CompressionError, "a table size update behind a field")
	errTableSize  = connFault(CompressionError, "a table size above what was offered")
	errIndex      = connFault(CompressionError, "an index beyond the table")
	errNumber     = connFault(CompressionError, "a number that is cut short or too large")
	errString     = connFault(CompressionError, "a string that is cut short")
	errHuffman    = connFault(CompressionError, "a Huffman code that is none, or badly padded")
)

// number reads an integer with a prefix of n bits (RFC 7541 section 5.1).
func number(p []byte, n uint) (v int, rest []byte, err error) {
	v = int(p[0]) & (1<<n - 1)
	p = p[1:]
	if v < 1<<n-1 {
		return v, p, nil
	}
	for shift := uint(0); len(p) > 0 && shift <= 28; shift += 7 {
		b := p[0]
		p = p[1:]
		v += int(b&0x7f) << shift
		if v > maxNumber {
			return 0, nil, errNumber
		}
		if b&0x80 == 0 {
			return v, p, nil
		}
	}
	return 0, nil, errNumber
}

// indexed reads a field that is in a table (section 6.1).
func (d *requestDecoder) indexed(p []byte, part *fieldPart) ([]byte, error) {
	i, p, err := number(p, 7)
	switch {
	case err != nil:
		return nil, err
	case i == 0:
		return nil, errIndex
	case i <= len(staticFields):
		f := &staticFields[i-1]
		part.name, part.value, part.ok = f.Key, f.Value, true
		return p, nil
	}
	e := d.table.at(i - len(staticFields) - 1)
	if e == nil {
		return nil, errIndex
	}
	if !e.made {
		e.value, e.made = string(d.table.bytes(e)), true
		e.ok = validName(e.name) && validValue(e.value)
	}
	part.name, part.value, part.ok = e.name, e.value, e.ok
	return p, nil
}

// literal reads a field of its own (section 6.2), and puts it into the table if it is to be.
func (d *requestDecoder) literal(p []byte, prefix uint, index bool, part *fieldPart) ([]byte, error) {
	i, p, err := number(p, prefix)
	if err != nil {
		return nil, err
	}
	switch {
	case i == 0:
		part.nameAt = len(d.text)
		if p, err = d.string(p); err != nil {
			return nil, err
		}
		part.nameLen = len(d.text) - part.nameAt
	case i <= len(staticFields):
		part.name = staticFields[i-1].Key
	default:
		e := d.table.at(i - len(staticFields) - 1)
		if e == nil {
			return nil, errIndex
		}
		part.name = e.name
	}
	part.valueAt = len(d.text)
	if p, err = d.string(p); err != nil {
		return nil, err
	}
	part.valueLen = len(d.text) - part.valueAt
	if index {
		if part.nameLen > 0 {
			// It is likely to come again, by its index: one string for all of them.
			part.name, part.nameLen = internName(d.text[part.nameAt:part.valueAt]), 0
		}
		d.table.add(part.name, d.text[part.valueAt:])
	}
	return p, nil
}

// string reads a string literal (section 5.2) to the end of the block's text.
func (d *requestDecoder) string(p []byte) ([]byte, error) {
	if len(p) == 0 {
		return nil, errString
	}
	huffman := p[0]&0x80 != 0
	n, p, err := number(p, 7)
	if err != nil {
		return nil, err
	}
	if n > len(p) {
		return nil, errString
	}
	if !huffman {
		d.text = append(d.text, p[:n]...)
		return p[n:], nil
	}
	text, ok := appendHuffmanDecoded(d.text, p[:n])
	if !ok {
		return nil, errHuffman
	}
	d.text = text
	return p[n:], nil
}

// resize reads a table size update (section 6.3).
func (d *requestDecoder) resize(p []byte) ([]byte, error) {
	n, p, err := number(p, 5)
	if err != nil {
		return nil, err
	}
	if n > defaultTableSize {
		return nil, errTableSize
	}
	d.table.max = n
	d.table.evict()
	return p, nil
}

// fieldTable is the dynamic table (section 2.3.2). The bytes of its values are kept behind each other.
type fieldTable struct {
	entries []tableEntry // a ring
	first   int          // the oldest
	count   int
	size    int // as RFC 7541 section 4.1 counts
	max     int
	values  []byte
	base    int // how much of the values there have ever been lies before values[0]
}

type tableEntry struct {
	name  string
	value string // once made
	at    int    // of the value, counted from the first there ever was
	len   int
	made  bool
	ok    bool // of one that was made: name and value are valid
}

// at returns the entry of an index; 0 is the newest. nil: there is none.
func (t *fieldTable) at(i int) *tableEntry {
	if i >= t.count {
		return nil
	}
	return &t.entries[(t.first+t.count-1-i)%len(t.entries)]
}

func (t *fieldTable) bytes(e *tableEntry) []byte { return t.values[e.at-t.base:][:e.len] }

// add makes an entry; one that is larger than the table empties it.
func (t *fieldTable) add(name string, value []byte) {
	t.size += len(name) + len(value) + 32
	if len(name)+len(value)+32 > t.max {
		t.size -= len(name) + len(value) + 32
		t.first, t.count, t.size, t.values = 0, 0, 0, t.values[:0]
		clear(t.entries)
		return
	}
	t.evict()
	if t.count == len(t.entries) {
		entries := make([]tableEntry, max(16, 2*t.count))
		for i := range t.count {
			entries[i] = t.entries[(t.first+i)%len(t.entries)]
		}
		t.entries, t.first = entries, 0
	}
	if len(t.values)+len(value) > cap(t.values) {
		t.compact()
	}
	e := &t.entries[(t.first+t.count)%len(t.entries)]
	*e = tableEntry{name: name, at: t.base + len(t.values), len: len(value)}
	t.values = append(t.values, value...)
	t.count++
}

// compact takes the bytes of values that are gone off the front.
func (t *fieldTable) compact() {
	gone := len(t.values)
	if t.count > 0 {
		gone = t.entries[t.first].at - t.base
	}
	t.values = t.values[:copy(t.values, t.values[gone:])]
	t.base += gone
}

// evict takes entries out until the table is within its size.
func (t *fieldTable) evict() {
	for t.size > t.max && t.count > 0 {
		e := &t.entries[t.first]
		t.size -= len(e.name) + e.len + 32
		*e = tableEntry{}
		t.first = (t.first + 1) % len(t.entries)
		t.count--
	}
}

// staticFields is the static table (RFC 7541 appendix A), as x/net has it.
var staticFields = func() (t [61]rpc.Pair) {
	for i := range t {
		f, err := hpack.NewDecoder(0, nil).DecodeFull([]byte{0x80 | byte(i+1)})
		if err != nil || len(f) != 1 {
			continue // a test holds that it does not come to that
		}
		t[i] = rpc.Pair{Key: f[0].Name, Value: f[0].Value}
	}
	return t
}()

// internName makes a string of a name; those that are common are there already.
func internName(b []byte) string {
	if s, ok := commonNames[string(b)]; ok {
		return s
	}
	return string(b)
}

var commonNames = func() map[string]string {
	m := map[string]string{}
	for _, n := range []string{
		"te", "traceparent", "tracestate", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding", "x-request-id", "x-forwarded-for",
		"x-forwarded-proto", "x-real-ip", "x-b3-traceid", "x-b3-spanid", "x-b3-sampled", "origin", "priority", "dnt", "sec-fetch-mode",
		"sec-fetch-site", "sec-fetch-dest", "sec-fetch-user", "sec-ch-ua", "sec-ch-ua-mobile", "sec-ch-ua-platform",
		"upgrade-insecure-requests", "connect-protocol-version", "connect-timeout-ms", "x-grpc-web", "x-user-agent", "pragma",
	} {
		m[n] = n
	}
	return m
}()
