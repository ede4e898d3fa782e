package tarswire

import (
	"bytes"
	"encoding/base64"
	"math"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	tarsv1 "github.com/causeway-gateway/causeway/protos/causeway/tars/v1"
)

// ReturnName is the name of a return value in JSON, and the second one in TUP.
const ReturnName = "tars_ret"

// AppendJSON appends to dst the JSON object by which the SDKs of TARS exchange the parameters m whose wire form is given
// (packets of version 5): names of the IDL, every member written but optional structs that are not given, 64-bit integers and
// enums as numbers, vector<byte> as an array of numbers from -128 to 127, keys of maps as strings; a key that is no number or
// string is the text of its JSON. It is else as AppendTARS.
func AppendJSON(dst, wire []byte, m *Message, o *Options) ([]byte, error) {
	e := newEncoder(dst, wire, o)
	defer e.release()
	if !e.root() || !e.object(m, 0, 1) || !e.bounded() {
		return dst, e.err
	}
	return e.out, nil
}

// object writes the members of m, as members does.
func (e *encoder) object(m *Message, lo, hi int) bool {
	base := len(e.occs)
	if !e.index(m, lo, hi) {
		return false
	}
	i := base
	e.out = append(e.out, '{')
	first := true
	for _, f := range m.fields {
		j := e.run(i, f)
		e.steps += 1 + j - i
		if i == j && f.kind == tarsv1.Type_STRUCT && f.shape == single && !m.required.has(f.tag) {
			continue // it may have members that are required
		}
		if !first {
			e.out = append(e.out, ',')
		}
		first = false
		name := f.name
		if f == m.ret {
			name = ReturnName
		}
		e.out = append(appendQuoted(e.out, name), ':')
		if !e.jsonMember(m, f, i, j) {
			return e.inField(f)
		}
		i = j
	}
	e.out = append(e.out, '}')
	e.occs = e.occs[:base]
	return true
}

func (e *encoder) jsonMember(m *Message, f *field, i, j int) bool {
	if !e.unset(f, i, j) {
		return e.jsonValue(f, i, j)
	}
	switch {
	case f.def != nil:
		return e.count(1) && e.jsonDefault(f)
	case m.required.has(f.tag) && !f.part && !e.zeros && f.shape == single && f.kind != tarsv1.Type_BYTES && i == j:
		return e.failf("is required and not given")
	}
	return e.count(1) && e.jsonZero(f)
}

// jsonDefault writes the default, of which there is the form in TARS.
func (e *encoder) jsonDefault(f *field) bool {
	_, t, at := head(f.def, 0)
	switch {
	case f.kind == tarsv1.Type_STRING:
		start, end := str(f.def, at, t)
		return e.jsonString(f.def[start:end])
	case t == Float:
		r := NewReader(f.def[at:])
		return e.jsonNumber(f, r.bits(4))
	case t == Double:
		r := NewReader(f.def[at:])
		return e.jsonNumber(f, r.bits(8))
	}
	v, _ := integer(f.def, at, t, Long)
	if f.zigzag {
		return e.jsonNumber(f, protowire.EncodeZigZag(v))
	}
	return e.jsonNumber(f, uint64(v))
}

// bits reads n bytes.
func (r *Reader) bits(n int) (v uint64) {
	for range n {
		v = v<<8 | uint64(r.in[r.pos])
		r.pos++
	}
	return v
}

// jsonZero writes the value that nothing in protobuf stands for.
func (e *encoder) jsonZero(f *field) bool {
	switch {
	case f.shape == list, f.shape == single && f.kind == tarsv1.Type_BYTES:
		e.out = append(e.out, "[]"...)
	case f.shape != single:
		e.out = append(e.out, "{}"...)
	case f.kind == tarsv1.Type_STRUCT:
		return e.jsonStruct(f, 0, 0)
	case f.kind == tarsv1.Type_WRAPPED:
		return e.jsonWrapped(f, 0, 0)
	case f.kind == tarsv1.Type_STRING:
		e.out = append(e.out, `""`...)
	default:
		return e.jsonNumber(f, 0)
	}
	return true
}

func (e *encoder) jsonValue(f *field, i, j int) bool {
	switch f.shape {
	case list:
		return e.jsonList(f, i, j)
	case mapping, pairs:
		return e.jsonMap(f, i, j)
	}
	if f.message != nil {
		return e.jsonElement(f, i, j)
	}
	return e.jsonElement(f, j-1, j)
}

func (e *encoder) jsonElement(f *field, i, j int) bool {
	o := e.occs[i]
	switch f.kind {
	case tarsv1.Type_STRUCT:
		return e.jsonStruct(f, i, j)
	case tarsv1.Type_WRAPPED:
		return e.jsonWrapped(f, i, j)
	case tarsv1.Type_STRING:
		start, end := e.span(o)
		return e.jsonString(e.in[start:end])
	case tarsv1.Type_BYTES:
		start, end := e.span(o)
		return e.jsonBytes(e.in[start:end])
	}
	v, _ := number(e.in, int(o.pos), len(e.in), o.typ())
	return e.jsonNumber(f, v)
}

func (e *encoder) jsonStruct(f *field, i, j int) bool {
	if !e.deeper() || !e.object(f.message, i, j) {
		return false
	}
	e.depth--
	return e.bounded()
}

func (e *encoder) jsonWrapped(f *field, i, j int) bool {
	base := len(e.occs)
	if !e.index(f.message, i, j) {
		return false
	}
	items := f.message.fields[0]
	var ok bool
	if items.shape == list {
		ok = e.jsonList(items, base, len(e.occs))
	} else {
		ok = e.jsonMap(items, base, len(e.occs))
	}
	e.occs = e.occs[:base]
	return ok
}

func (e *encoder) jsonList(f *field, i, j int) bool {
	if !e.deeper() {
		return false
	}
	e.out = append(e.out, '[')
	for n := 0; i < j; i++ {
		o := e.occs[i]
		if f.packedTag == 0 || o.typ() != protowire.BytesType {
			if n > 0 {
				e.out = append(e.out, ',')
			}
			if !e.jsonElement(f, i, i+1) {
				return e.inElement(n)
			}
			n++
			continue
		}
		if c := e.elementsIn(f, o); c < 0 {
			return e.notPacked(f)
		} else if !e.count(c) {
			return false
		}
		for at, end := e.span(o); at < end; n++ {
			if n > 0 {
				e.out = append(e.out, ',')
			}
			v, next := number(e.in, at, end, f.wire)
			if !e.jsonNumber(f, v) {
				return e.inElement(n)
			}
			at = next
		}
	}
	e.out = append(e.out, ']')
	e.depth--
	return e.bounded()
}

// jsonMap writes a map of either shape, in the order of the wire; of several entries with one key the last counts for most
// readers.
func (e *encoder) jsonMap(f *field, i, j int) bool {
	if !e.deeper() {
		return false
	}
	key, value := f.entry.fields[0], f.entry.fields[1]
	e.out = append(e.out, '{')
	for n := 0; i < j; i, n = i+1, n+1 {
		if n > 0 {
			e.out = append(e.out, ',')
		}
		base := len(e.occs)
		if !e.index(f.entry, i, i+1) {
			return e.inElement(n)
		}
		k := e.run(base, key)
		v := e.run(k, value)
		if !e.jsonKey(key, base, k) {
			return e.inElement(n)
		}
		e.out = append(e.out, ':')
		var ok bool
		if e.unset(value, k, v) {
			ok = e.jsonZero(value)
		} else {
			ok = e.jsonValue(value, k, v)
		}
		if !ok {
			return e.inElement(n)
		}
		e.occs = e.occs[:base]
	}
	e.out = append(e.out, '}')
	e.depth--
	return e.bounded()
}

// jsonKey writes the key of a map as a string.
func (e *encoder) jsonKey(f *field, i, j int) bool {
	at := len(e.out)
	var ok bool
	if e.unset(f, i, j) {
		ok = e.jsonZero(f)
	} else {
		ok = e.jsonValue(f, i, j)
	}
	if !ok || f.kind == tarsv1.Type_STRING && f.shape == single {
		return ok
	}
	raw := bytes.Clone(e.out[at:])
	switch string(raw) {
	case "true":
		raw = []byte("1")
	case "false":
		raw = []byte("0")
	}
	e.out = appendQuoted(e.out[:at], string(raw))
	return true
}

func (e *encoder) jsonBytes(b []byte) bool {
	if !e.count(len(b)) {
		return false
	}
	e.out = append(e.out, '[')
	for i, v := range b {
		if i > 0 {
			e.out = append(e.out, ',')
		}
		e.out = strconv.AppendInt(e.out, int64(int8(v)), 10)
	}
	e.out = append(e.out, ']')
	return true
}

// jsonNumber writes a number from its bits on the wire. What JSON has no number for is null.
func (e *encoder) jsonNumber(f *field, v uint64) bool {
	if f.zigzag {
		v = uint64(protowire.DecodeZigZag(v))
	}
	n := int64(v)
	switch f.kind {
	case tarsv1.Type_FLOAT:
		return e.jsonFloat(float64(math.Float32frombits(uint32(v))), 32)
	case tarsv1.Type_DOUBLE:
		return e.jsonFloat(math.Float64frombits(v), 64)
	case tarsv1.Type_BOOL:
		e.out = strconv.AppendBool(e.out, v != 0)
		return true
	case tarsv1.Type_LONG:
	case tarsv1.Type_UNSIGNED_BYTE, tarsv1.Type_UNSIGNED_SHORT, tarsv1.Type_UNSIGNED_INT:
		n = int64(uint32(v))
	default:
		n = int64(int32(v))
	}
	if n < f.low || n > f.high {
		return e.failf("wanted %d to %d, found %d", f.low, f.high, n)
	}
	e.out = strconv.AppendInt(e.out, n, 10)
	return true
}

func (e *encoder) jsonFloat(v float64, bits int) bool {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		e.out = append(e.out, "null"...)
	} else {
		e.out = strconv.AppendFloat(e.out, v, 'g', -1, bits)
	}
	return true
}

func (e *encoder) jsonString(s []byte) bool {
	if !utf8.Valid(s) {
		if !e.replaceUTF8 {
			i := invalid(s)
			return e.failf("wanted UTF-8, found byte 0x%02x", s[i])
		}
		s = appendReplaced(nil, s)
	}
	e.out = appendQuoted(e.out, string(s))
	return true
}

// appendQuoted appends s, which is UTF-8, as a string of JSON.
func appendQuoted(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	done := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[done:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		done = i + 1
	}
	return append(append(dst, s[done:]...), '"')
}

// base64Of reads bytes that are given in base64, with or without padding.
func base64Of(s []byte) ([]byte, bool) {
	s = bytes.TrimRight(s, "=")
	out, err := base64.RawStdEncoding.AppendDecode(nil, s)
	return out, err == nil
}
