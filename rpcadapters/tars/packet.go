// Package tars is the TARS protocol: packets of requests and answers in length-prefixed frames, whose bodies hold the
// parameters of a function in TARS encoding.
package tars

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/causeway-gateway/causeway/transcode/tarswire"
)

// Versions of a packet: what its body holds.
const (
	VersionTARS = 1 // parameters by tag
	VersionTUP2 = 2 // as 3, with the name of a type around each value; for clients that have it
	VersionTUP  = 3 // parameters by name, and answers laid out as requests
	VersionJSON = 5 // parameters as members of a JSON object
)

// Packet types.
const (
	Normal = 0
	OneWay = 1 // no answer
)

// Reconnect is the description of the packet by which a server asks for no more calls on a connection; its id is 0.
const Reconnect = "_reconnect_"

// The status keys that hold the outcome of a call of version 3.
const (
	statusCode = "STATUS_RESULT_CODE"
	statusDesc = "STATUS_RESULT_DESC"
)

// Request is a request packet. What a parsed one refers to is part of the data it was parsed from.
type Request struct {
	Version         int16
	PacketType      int8
	MessageType     int32 // bits: 0x01 hash, 0x04 dyed, 0x08 sample, 0x80 set name, 0x100 trace
	ID              int32 // 0 is kept for what servers push
	Servant         []byte
	Function        []byte
	Body            []byte
	Timeout         int32 // milliseconds; 0: none
	Context, Status Entries
}

// Response is an answer packet. What a parsed one refers to is part of the data it was parsed from.
type Response struct {
	Version         int16
	PacketType      int8
	ID              int32
	MessageType     int32
	Ret             int32 // 0: the answer is in Body
	Body            []byte
	Status, Context Entries
	Desc            []byte // text of an error
	// Servant and Function are those of the request, which the layout of versions 3 and 2 has room for.
	Servant, Function []byte
}

// Entries are the entries of a map<string, string>, as they are encoded. The zero value has none.
type Entries struct {
	raw []byte
	n   int
}

// Len is the number of entries.
func (e *Entries) Len() int { return e.n }

// Add appends an entry. It copies its strings.
func (e *Entries) Add(key, value string) {
	e.raw = tarswire.AppendString(e.raw, 0, key)
	e.raw = tarswire.AppendString(e.raw, 1, value)
	e.n++
}

// Reset removes all entries and keeps the memory. It is for entries that were added, not for parsed ones.
func (e *Entries) Reset() { e.raw, e.n = e.raw[:0], 0 }

// Read begins to go over the entries.
func (e *Entries) Read() EntryReader { return EntryReader{in: tarswire.NewReader(e.raw)} }

// EntryReader goes over entries, in the order of the wire.
type EntryReader struct {
	in tarswire.Reader
	// Key and Value are parts of the data, and hold until it changes.
	Key, Value []byte
}

// Next reads an entry; it is false when there is none.
func (r *EntryReader) Next() bool {
	if !r.in.More() {
		return false
	}
	_, t := r.in.Head()
	r.Key = r.in.Bytes(t)
	_, t = r.in.Head()
	r.Value = r.in.Bytes(t)
	return r.in.Fault() == ""
}

func (e *Entries) appendTo(dst []byte, tag uint8) []byte {
	return append(tarswire.AppendMapHead(dst, tag, e.n), e.raw...)
}

// AppendRequest appends a request packet with all ten members.
func AppendRequest(dst []byte, r *Request) []byte {
	dst = tarswire.AppendInt(dst, 1, int64(r.Version))
	dst = tarswire.AppendInt(dst, 2, int64(r.PacketType))
	dst = tarswire.AppendInt(dst, 3, int64(r.MessageType))
	dst = tarswire.AppendInt(dst, 4, int64(r.ID))
	dst = appendText(dst, 5, r.Servant)
	dst = appendText(dst, 6, r.Function)
	dst = tarswire.AppendBytes(dst, 7, r.Body)
	dst = tarswire.AppendInt(dst, 8, int64(r.Timeout))
	dst = r.Context.appendTo(dst, 9)
	return r.Status.appendTo(dst, 10)
}

// AppendResponse appends an answer packet; the description and the context are left out when they are empty. The answer to
// a request of version 3 is laid out as a request, and has its outcome among the status.
func AppendResponse(dst []byte, r *Response) []byte {
	if r.Version == VersionTUP || r.Version == VersionTUP2 {
		return appendTUP(dst, r)
	}
	dst = tarswire.AppendInt(dst, 1, int64(r.Version))
	dst = tarswire.AppendInt(dst, 2, int64(r.PacketType))
	dst = tarswire.AppendInt(dst, 3, int64(r.ID))
	dst = tarswire.AppendInt(dst, 4, int64(r.MessageType))
	dst = tarswire.AppendInt(dst, 5, int64(r.Ret))
	dst = tarswire.AppendBytes(dst, 6, r.Body)
	dst = r.Status.appendTo(dst, 7)
	if len(r.Desc) > 0 {
		dst = appendText(dst, 8, r.Desc)
	}
	if r.Context.n > 0 {
		dst = r.Context.appendTo(dst, 9)
	}
	return dst
}

// noParameters is a map without entries, with tag 0.
var noParameters = []byte{0x08, 0x0c}

func appendTUP(dst []byte, r *Response) []byte {
	dst = tarswire.AppendInt(dst, 1, int64(r.Version))
	dst = tarswire.AppendInt(dst, 2, int64(r.PacketType))
	dst = tarswire.AppendInt(dst, 3, int64(r.MessageType))
	dst = tarswire.AppendInt(dst, 4, int64(r.ID))
	dst = appendText(dst, 5, r.Servant)
	dst = appendText(dst, 6, r.Function)
	body := r.Body
	if len(body) == 0 {
		body = noParameters // SDKs read it before they look at the code
	}
	dst = tarswire.AppendBytes(dst, 7, body)
	dst = tarswire.AppendInt(dst, 8, 0)
	dst = r.Context.appendTo(dst, 9)
	n := r.Status.n
	if r.Ret != 0 {
		n++
	}
	if len(r.Desc) > 0 {
		n++
	}
	dst = append(tarswire.AppendMapHead(dst, 10, n), r.Status.raw...)
	if r.Ret != 0 {
		var digits [11]byte
		dst = tarswire.AppendString(dst, 0, statusCode)
		dst = appendText(dst, 1, strconv.AppendInt(digits[:0], int64(r.Ret), 10))
	}
	if len(r.Desc) > 0 {
		dst = tarswire.AppendString(dst, 0, statusDesc)
		dst = appendText(dst, 1, r.Desc)
	}
	return dst
}

// appendText appends a string that is held as bytes.
func appendText(dst []byte, tag uint8, s []byte) []byte {
	return append(tarswire.AppendStringHead(dst, tag, len(s)), s...)
}

// ParseRequest reads a request packet into r, which it overwrites; data is what follows the length of a frame. Members may
// stand in any order, those that are not known are passed over, and context and status may be missing.
func ParseRequest(r *Request, data []byte) error {
	p := parser{in: tarswire.NewReader(data)}
	n := p.numbers(4)
	*r = Request{Version: int16(n[1]), PacketType: int8(n[2]), MessageType: int32(n[3]), ID: int32(n[4])} //nolint:gosec // no wider types are read
	for p.more() {
		tag, t := p.tag, p.typ
		switch tag {
		case 1:
			r.Version = int16(p.in.Int(t, tarswire.Short)) //nolint:gosec // no wider type is read
		case 2:
			r.PacketType = int8(p.in.Int(t, tarswire.Byte)) //nolint:gosec // as above
		case 3:
			r.MessageType = p.int()
		case 4:
			r.ID = p.int()
		case 5:
			r.Servant = p.text()
		case 6:
			r.Function = p.text()
		case 7:
			r.Body = p.bytes()
		case 8:
			r.Timeout = p.int()
		case 9:
			r.Context = p.entries()
		case 10:
			r.Status = p.entries()
		default:
			p.in.Skip(t)
		}
	}
	return p.result("request", 1<<1|1<<2|1<<3|1<<4|1<<5|1<<6|1<<7|1<<8)
}

// ParseResponse reads an answer packet into r, which it overwrites; data is what follows the length of a frame. Members may
// stand in any order, those that are not known are passed over, and status, description and context may be missing. An
// answer of version 3 or 2, which is laid out as a request, has its outcome taken from the status.
func ParseResponse(r *Response, data []byte) error {
	if version(data) == VersionTUP || version(data) == VersionTUP2 {
		return parseTUP(r, data)
	}
	p := parser{in: tarswire.NewReader(data)}
	n := p.numbers(5)
	*r = Response{Version: int16(n[1]), PacketType: int8(n[2]), ID: int32(n[3]), MessageType: int32(n[4]), Ret: int32(n[5])} //nolint:gosec // as above
	for p.more() {
		tag, t := p.tag, p.typ
		switch tag {
		case 1:
			r.Version = int16(p.in.Int(t, tarswire.Short)) //nolint:gosec // no wider type is read
		case 2:
			r.PacketType = int8(p.in.Int(t, tarswire.Byte)) //nolint:gosec // as above
		case 3:
			r.ID = p.int()
		case 4:
			r.MessageType = p.int()
		case 5:
			r.Ret = p.int()
		case 6:
			r.Body = p.bytes()
		case 7:
			r.Status = p.entries()
		case 8:
			r.Desc = p.text()
		case 9:
			r.Context = p.entries()
		default:
			p.in.Skip(t)
		}
	}
	return p.result("answer", 1<<1|1<<2|1<<3|1<<4|1<<5|1<<6)
}

// version is that of a packet, or 0 where there is none that can be read.
func version(data []byte) int16 {
	r := tarswire.NewReader(data)
	for r.More() {
		tag, t := r.Head()
		if tag == 1 {
			return int16(r.Int(t, tarswire.Short)) //nolint:gosec // no wider type is read
		}
		r.Skip(t)
	}
	return 0
}

func parseTUP(r *Response, data []byte) error {
	*r = Response{}
	var q Request
	if err := ParseRequest(&q, data); err != nil {
		return err
	}
	*r = Response{
		Version: q.Version, PacketType: q.PacketType, ID: q.ID, MessageType: q.MessageType, Body: q.Body, Status: q.Status, Context: q.Context,
		Servant: q.Servant, Function: q.Function,
	}
	for it := q.Status.Read(); it.Next(); {
		switch string(it.Key) {
		case statusCode:
			n, err := strconv.ParseInt(string(it.Value), 10, 32)
			if err != nil {
				return fmt.Errorf("wanted a number of 32 bits for %s, found %q", statusCode, it.Value[:min(len(it.Value), 32)])
			}
			r.Ret = int32(n)
		case statusDesc:
			r.Desc = it.Value
		}
	}
	return nil
}

// parser reads the members of a packet.
type parser struct {
	in   tarswire.Reader
	seen uint32
	tag  uint8
	typ  tarswire.Type
	err  error
}

// headWidths are the types of the numbers with which packets begin, by tag.
var headWidths = [...]tarswire.Type{1: tarswire.Short, 2: tarswire.Byte, 3: tarswire.Int, 4: tarswire.Int, 5: tarswire.Int}

// numbers reads the members from tag 1 on that are numbers, up to a tag, as long as they come in that order; what else there is
// is read one by one.
func (p *parser) numbers(last uint8) (n [len(headWidths)]int64) {
	for tag := uint8(1); tag <= last; tag++ {
		v, ok := p.in.Number(tag, headWidths[tag])
		if !ok {
			break
		}
		n[tag] = v
		p.seen |= 1 << tag
	}
	return n
}

// more reads the head of the next member.
func (p *parser) more() bool {
	if p.err != nil || !p.in.More() {
		return false
	}
	if p.tag, p.typ = p.in.Head(); p.in.Fault() != "" {
		return false
	}
	if p.typ == tarswire.StructEnd {
		p.err = errors.New("wanted a member, found STRUCT_END")
		return false
	}
	if p.tag < 32 {
		if p.seen>>p.tag&1 != 0 {
			p.err = fmt.Errorf("tag %d is given twice", p.tag)
			return false
		}
		p.seen |= 1 << p.tag
	}
	return true
}

// result is what was wrong, or which of the required members is missing.
func (p *parser) result(what string, required uint32) error {
	switch {
	case p.err != nil:
		return fmt.Errorf("%s packet: %w", what, p.err)
	case p.in.Fault() != "":
		return fmt.Errorf("%s packet: tag %d: %s", what, p.tag, p.in.Fault())
	case required&^p.seen != 0:
		tag := 0
		for (required&^p.seen)>>tag&1 == 0 {
			tag++
		}
		return fmt.Errorf("%s packet: lacks tag %d", what, tag)
	}
	return nil
}

func (p *parser) int() int32 { return int32(p.in.Int(p.typ, tarswire.Int)) } //nolint:gosec // no wider type is read

func (p *parser) text() []byte {
	if p.typ == tarswire.SimpleList {
		p.err = fmt.Errorf("tag %d: wanted a string, found %s", p.tag, p.typ)
		return nil
	}
	return p.in.Bytes(p.typ)
}

// bytes reads a vector<byte>. Written as LIST, which no SDK does, it is copied.
func (p *parser) bytes() []byte {
	switch p.typ {
	case tarswire.SimpleList:
		return p.in.Bytes(p.typ)
	case tarswire.List:
		n := p.in.Len(p.typ)
		b := make([]byte, 0, n)
		for len(b) < n && p.err == nil && p.in.Fault() == "" {
			tag, t := p.in.Head()
			if tag != 0 {
				p.err = fmt.Errorf("tag %d: wanted tag 0 for an element, found %d", p.tag, tag)
			}
			b = append(b, byte(p.in.Int(t, tarswire.Byte))) //nolint:gosec // no wider type is read
		}
		return b
	}
	p.err = fmt.Errorf("tag %d: wanted SIMPLE_LIST or LIST, found %s", p.tag, p.typ)
	return nil
}

// entries reads a map<string, string> and checks it.
func (p *parser) entries() Entries {
	if p.typ != tarswire.Map {
		p.err = fmt.Errorf("tag %d: wanted MAP, found %s", p.tag, p.typ)
		return Entries{}
	}
	n := p.in.Len(p.typ)
	start := p.in.Offset()
	for i := range 2 * n {
		tag, t := p.in.Head()
		if p.in.Fault() != "" {
			return Entries{}
		}
		if int(tag) != i&1 || t != tarswire.String1 && t != tarswire.String4 {
			p.err = fmt.Errorf("tag %d: wanted a string with tag %d in a map, found %s with tag %d", p.tag, i&1, t, tag)
			return Entries{}
		}
		p.in.Bytes(t)
	}
	return Entries{raw: p.in.Since(start), n: n}
}
