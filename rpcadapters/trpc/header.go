package trpc

import (
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Call types.
const (
	callUnary  = 0
	callOneWay = 1 // no answer but perhaps an error
)

// Bits of message_type.
const (
	messageDyeing = 1
	messageEnv    = 4
)

// request is RequestProtocol. What a parsed one refers to is part of the data it was parsed from.
type request struct {
	version, callType     uint32
	id                    uint32
	timeout               uint32 // milliseconds; 0: none
	caller, callee, fn    []byte
	messageType           uint32
	info                  transInfo
	contentType, encoding uint32
	attachment            uint32 // bytes behind the body
}

// response is ResponseProtocol; as request.
type response struct {
	version, callType     uint32
	id                    uint32
	ret, funcRet          int32
	message               []byte
	messageType           uint32
	info                  transInfo
	contentType, encoding uint32
	attachment            uint32
}

// initMeta is TrpcStreamInitMeta; as request.
type initMeta struct {
	hasRequest, hasResponse bool
	caller, callee, fn      []byte
	messageType             uint32
	info                    transInfo
	ret                     int32
	message                 []byte
	window                  uint32 // 0: no flow control
	contentType, encoding   uint32
}

// closeMeta is TrpcStreamCloseMeta; as request.
type closeMeta struct {
	reset       int32 // 0: an end, else an error
	ret         int32
	message     []byte
	messageType uint32
	info        transInfo
	funcRet     int32
}

// closeReset is the type of a CLOSE that says that the stream has failed.
const closeReset = 1

// Where trans_info stands in each message.
const (
	requestInfo  = 9
	responseInfo = 8
	initInfo     = 5
	closeInfo    = 5
)

// appendBack appends what stands behind trans_info.
func (r *request) appendBack(dst []byte) []byte {
	dst = appendUint(dst, 10, r.contentType)
	dst = appendUint(dst, 11, r.encoding)
	return appendUint(dst, 12, r.attachment)
}

// appendFront appends what stands before trans_info.
func (r *response) appendFront(dst []byte) []byte {
	dst = appendUint(dst, 1, r.version)
	dst = appendUint(dst, 2, r.callType)
	dst = appendUint(dst, 3, r.id)
	dst = appendInt(dst, 4, r.ret)
	dst = appendInt(dst, 5, r.funcRet)
	dst = appendBytes(dst, 6, r.message)
	return appendUint(dst, 7, r.messageType)
}

// appendBack appends what stands behind trans_info.
func (r *response) appendBack(dst []byte) []byte {
	dst = appendUint(dst, 9, r.contentType)
	dst = appendUint(dst, 10, r.encoding)
	return appendUint(dst, 12, r.attachment)
}

func (m *initMeta) append(dst []byte) []byte {
	if m.hasRequest {
		at := len(dst)
		dst = m.info.append(m.appendRequest(dst), initInfo)
		dst = prefixed(dst, at, 1)
	}
	return m.appendRest(dst)
}

// appendRequest appends the fields of request_meta but trans_info; prefixed makes a field of them.
func (m *initMeta) appendRequest(dst []byte) []byte {
	dst = appendBytes(dst, 1, m.caller)
	dst = appendBytes(dst, 2, m.callee)
	dst = appendBytes(dst, 3, m.fn)
	return appendUint(dst, 4, m.messageType)
}

// appendRest appends what stands behind request_meta.
func (m *initMeta) appendRest(dst []byte) []byte {
	if m.hasResponse {
		at := len(dst)
		dst = appendInt(dst, 1, m.ret)
		dst = appendBytes(dst, 2, m.message)
		dst = prefixed(dst, at, 2)
	}
	dst = appendUint(dst, 3, m.window)
	dst = appendUint(dst, 4, m.contentType)
	return appendUint(dst, 5, m.encoding)
}

func (m *closeMeta) append(dst []byte) []byte {
	return m.appendBack(m.info.append(m.appendFront(dst), closeInfo))
}

// appendFront appends what stands before trans_info.
func (m *closeMeta) appendFront(dst []byte) []byte {
	dst = appendInt(dst, 1, m.reset)
	dst = appendInt(dst, 2, m.ret)
	dst = appendBytes(dst, 3, m.message)
	return appendUint(dst, 4, m.messageType)
}

// appendBack appends what stands behind trans_info.
func (m *closeMeta) appendBack(dst []byte) []byte { return appendInt(dst, 6, m.funcRet) }

// appendFeedback appends TrpcStreamFeedBackMeta.
func appendFeedback(dst []byte, increment uint32) []byte { return appendUint(dst, 1, increment) }

func appendUint(dst []byte, n protowire.Number, v uint32) []byte {
	if v == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, n, protowire.VarintType), uint64(v))
}

// appendInt appends an int32, whose negative numbers have ten bytes.
func appendInt(dst []byte, n protowire.Number, v int32) []byte {
	if v == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, n, protowire.VarintType), uint64(int64(v))) //nolint:gosec // that is how they are encoded
}

func appendBytes(dst []byte, n protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return dst
	}
	return protowire.AppendBytes(protowire.AppendTag(dst, n, protowire.BytesType), v)
}

// prefixed makes a field of the bytes from at on.
func prefixed(dst []byte, at int, n protowire.Number) []byte {
	var prefix [12]byte
	p := protowire.AppendVarint(protowire.AppendTag(prefix[:0], n, protowire.BytesType), uint64(len(dst)-at)) //nolint:gosec // a length
	dst = append(dst, p...)
	copy(dst[at+len(p):], dst[at:len(dst)-len(p)])
	copy(dst[at:], p)
	return dst
}

// appendEntry appends an entry of trans_info.
func appendEntry(dst []byte, n protowire.Number, key, value string) []byte {
	size := 0
	if key != "" {
		size += 1 + protowire.SizeBytes(len(key))
	}
	if value != "" {
		size += 1 + protowire.SizeBytes(len(value))
	}
	dst = protowire.AppendVarint(protowire.AppendTag(dst, n, protowire.BytesType), uint64(size))
	if key != "" {
		dst = protowire.AppendString(protowire.AppendTag(dst, 1, protowire.BytesType), key)
	}
	if value != "" {
		dst = protowire.AppendString(protowire.AppendTag(dst, 2, protowire.BytesType), value)
	}
	return dst
}

// transInfo are the entries of a map<string, bytes>, somewhere among other fields. The zero value has none.
type transInfo struct {
	data     []byte
	from, to int // of data, from the first entry to the last
	field    protowire.Number
}

// put notes an entry that stands in data from start to end.
func (t *transInfo) put(data []byte, start, end int, field protowire.Number) {
	if t.field == 0 {
		t.data, t.from, t.field = data, start, field
	}
	t.to = end
}

// entries begins to go over the entries.
func (t *transInfo) entries() entryReader {
	return entryReader{all: t.data[t.from:t.to], field: t.field}
}

// text is all entries as one string, of which pair gives parts: they cost one allocation.
func (t *transInfo) text() string { return string(t.data[t.from:t.to]) }

func (t *transInfo) append(dst []byte, n protowire.Number) []byte {
	for e := t.entries(); e.next(); {
		size := len(dst)
		if len(e.key) > 0 {
			dst = protowire.AppendBytes(protowire.AppendTag(dst, 1, protowire.BytesType), e.key)
		}
		if len(e.value) > 0 {
			dst = protowire.AppendBytes(protowire.AppendTag(dst, 2, protowire.BytesType), e.value)
		}
		dst = prefixed(dst, size, n)
	}
	return dst
}

// entryReader goes over entries that were looked at when they were parsed, in the order of the wire.
type entryReader struct {
	all            []byte
	pos            int
	field          protowire.Number
	key, value     []byte // parts of the data
	keyAt, valueAt int    // where they begin in all
}

func (e *entryReader) next() bool {
	for e.pos < len(e.all) {
		n, t, m := protowire.ConsumeTag(e.all[e.pos:])
		if m < 0 {
			return false
		}
		e.pos += m
		if n == e.field && t == protowire.BytesType {
			entry, m := protowire.ConsumeBytes(e.all[e.pos:])
			if m < 0 {
				return false
			}
			e.pos += m
			e.cut(entry)
			return true
		}
		if m = protowire.ConsumeFieldValue(n, t, e.all[e.pos:]); m < 0 {
			return false
		}
		e.pos += m
	}
	return false
}

// cut takes an entry apart that ends at pos.
func (e *entryReader) cut(entry []byte) {
	e.key, e.value = nil, nil
	f := fields{data: entry}
	for f.next() {
		if f.typ != protowire.BytesType {
			continue
		}
		at := e.pos - len(entry) + f.pos - len(f.bytes)
		switch f.num {
		case 1:
			e.key, e.keyAt = f.bytes, at
		case 2:
			e.value, e.valueAt = f.bytes, at
		}
	}
}

// pair is the entry as parts of text, see transInfo.text.
func (e *entryReader) pair(text string) (key, value string) {
	return text[e.keyAt : e.keyAt+len(e.key)], text[e.valueAt : e.valueAt+len(e.value)]
}

// checkEntry looks at an entry of a map.
func checkEntry(b []byte) error {
	f := fields{data: b}
	for f.next() {
		if f.typ == protowire.BytesType && f.num == 1 && !utf8.Valid(f.bytes) {
			return errors.New("a key of trans_info is not UTF-8")
		}
	}
	return f.err
}

// fields goes over the fields of a message.
type fields struct {
	data       []byte
	start, pos int // where the field begins, and where the next one does
	num        protowire.Number
	typ        protowire.Type
	varint     uint64 // its value, of VarintType
	bytes      []byte // as above, of BytesType; part of the data
	err        error
}

func (f *fields) next() bool {
	if f.pos == len(f.data) {
		return false
	}
	f.start = f.pos
	num, typ, n := protowire.ConsumeTag(f.data[f.pos:])
	if n < 0 || num > protowire.MaxValidNumber {
		f.err = fmt.Errorf("wanted a field at offset %d, found bytes that are none", f.start)
		return false
	}
	f.num, f.typ = num, typ
	rest := f.data[f.pos+n:]
	var m int
	switch typ {
	case protowire.VarintType:
		f.varint, m = protowire.ConsumeVarint(rest)
	case protowire.BytesType:
		f.bytes, m = protowire.ConsumeBytes(rest)
		f.bytes = slices.Clip(f.bytes)
	default:
		m = protowire.ConsumeFieldValue(num, typ, rest)
	}
	if m < 0 {
		f.err = fmt.Errorf("wanted the value of field %d at offset %d, found bytes that are none: %w", num, f.start, protowire.ParseError(m))
		return false
	}
	f.pos += n + m
	return true
}

// uint32 and int32 are a varint cut to what the field holds, as protobuf has it.
func (f *fields) uint32() uint32 { return uint32(f.varint) } //nolint:gosec // as said
func (f *fields) int32() int32   { return int32(f.varint) }  //nolint:gosec // as said

// entry checks an entry of trans_info and notes where it stands.
func (f *fields) entry(t *transInfo) {
	if err := checkEntry(f.bytes); err != nil {
		f.err = fmt.Errorf("field %d at offset %d: %w", f.num, f.start, err)
		f.pos = len(f.data)
		return
	}
	t.put(f.data, f.start, f.pos, f.num)
}

// parse reads a request's header into r, which it overwrites.
func (r *request) parse(data []byte) error {
	*r = request{}
	f := fields{data: data}
	for f.next() {
		switch f.typ {
		case protowire.VarintType:
			switch f.num {
			case 1:
				r.version = f.uint32()
			case 2:
				r.callType = f.uint32()
			case 3:
				r.id = f.uint32()
			case 4:
				r.timeout = f.uint32()
			case 8:
				r.messageType = f.uint32()
			case 10:
				r.contentType = f.uint32()
			case 11:
				r.encoding = f.uint32()
			case 12:
				r.attachment = f.uint32()
			}
		case protowire.BytesType:
			switch f.num {
			case 5:
				r.caller = f.bytes
			case 6:
				r.callee = f.bytes
			case 7:
				r.fn = f.bytes
			case requestInfo:
				f.entry(&r.info)
			}
		}
	}
	return f.fault("header of a request")
}

// parse reads an answer's header into r, which it overwrites.
func (r *response) parse(data []byte) error {
	*r = response{}
	f := fields{data: data}
	for f.next() {
		switch f.typ {
		case protowire.VarintType:
			switch f.num {
			case 1:
				r.version = f.uint32()
			case 2:
				r.callType = f.uint32()
			case 3:
				r.id = f.uint32()
			case 4:
				r.ret = f.int32()
			case 5:
				r.funcRet = f.int32()
			case 7:
				r.messageType = f.uint32()
			case 9:
				r.contentType = f.uint32()
			case 10:
				r.encoding = f.uint32()
			case 12:
				r.attachment = f.uint32()
			}
		case protowire.BytesType:
			switch f.num {
			case 6:
				r.message = f.bytes
			case responseInfo:
				f.entry(&r.info)
			}
		}
	}
	return f.fault("header of an answer")
}

// parse reads what opens a stream into m, which it overwrites. Either of its messages given twice is refused, which no
// encoder does.
func (m *initMeta) parse(data []byte) error {
	*m = initMeta{}
	f := fields{data: data}
	for f.next() {
		switch {
		case f.typ == protowire.VarintType && f.num == 3:
			m.window = f.uint32()
		case f.typ == protowire.VarintType && f.num == 4:
			m.contentType = f.uint32()
		case f.typ == protowire.VarintType && f.num == 5:
			m.encoding = f.uint32()
		case f.typ == protowire.BytesType && f.num == 1:
			if m.hasRequest {
				return errors.New("INIT of a stream: request_meta is given twice")
			}
			m.hasRequest = true
			if err := m.parseRequest(f.bytes); err != nil {
				return err
			}
		case f.typ == protowire.BytesType && f.num == 2:
			if m.hasResponse {
				return errors.New("INIT of a stream: response_meta is given twice")
			}
			m.hasResponse = true
			if err := m.parseResponse(f.bytes); err != nil {
				return err
			}
		}
	}
	return f.fault("INIT of a stream")
}

func (m *initMeta) parseRequest(data []byte) error {
	f := fields{data: data}
	for f.next() {
		switch {
		case f.typ == protowire.VarintType && f.num == 4:
			m.messageType = f.uint32()
		case f.typ != protowire.BytesType:
		case f.num == 1:
			m.caller = f.bytes
		case f.num == 2:
			m.callee = f.bytes
		case f.num == 3:
			m.fn = f.bytes
		case f.num == initInfo:
			f.entry(&m.info)
		}
	}
	return f.fault("request_meta of a stream")
}

func (m *initMeta) parseResponse(data []byte) error {
	f := fields{data: data}
	for f.next() {
		switch {
		case f.typ == protowire.VarintType && f.num == 1:
			m.ret = f.int32()
		case f.typ == protowire.BytesType && f.num == 2:
			m.message = f.bytes
		}
	}
	return f.fault("response_meta of a stream")
}

// parse reads what ends a stream into m, which it overwrites.
func (m *closeMeta) parse(data []byte) error {
	*m = closeMeta{}
	f := fields{data: data}
	for f.next() {
		switch {
		case f.typ == protowire.VarintType && f.num == 1:
			m.reset = f.int32()
		case f.typ == protowire.VarintType && f.num == 2:
			m.ret = f.int32()
		case f.typ == protowire.BytesType && f.num == 3:
			m.message = f.bytes
		case f.typ == protowire.VarintType && f.num == 4:
			m.messageType = f.uint32()
		case f.typ == protowire.BytesType && f.num == closeInfo:
			f.entry(&m.info)
		case f.typ == protowire.VarintType && f.num == 6:
			m.funcRet = f.int32()
		}
	}
	return f.fault("CLOSE of a stream")
}

// parseFeedback reads by how much a peer enlarges the window.
func parseFeedback(data []byte) (increment uint32, err error) {
	f := fields{data: data}
	for f.next() {
		if f.typ == protowire.VarintType && f.num == 1 {
			increment = f.uint32()
		}
	}
	return increment, f.fault("FEEDBACK of a stream")
}

func (f *fields) fault(what string) error {
	if f.err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, f.err)
}
