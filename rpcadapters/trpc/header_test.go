package trpc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/causeway-gateway/causeway/testdata/trpckit"
)

// oracle has the headers as protobuf's own code reads them.
type oracle map[string]protoreflect.MessageDescriptor

func newOracle(t testing.TB) oracle {
	t.Helper()
	o, err := trpckit.Headers()
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// errPanic stands for a panic of protobuf's own code, which has one for an entry of a map with two keys, of which the second is of
// another wire type.
var errPanic = errors.New("the oracle panics")

// read is what protobuf makes of data: the fields that are set, by name, and those of messages as "message.field".
func (o oracle) read(name string, data []byte) (_ map[string]any, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = errPanic
		}
	}()
	m := dynamicpb.NewMessage(o[name])
	if err := proto.Unmarshal(data, m); err != nil {
		return nil, err
	}
	out := map[string]any{}
	collect(out, "", m)
	return out, nil
}

func collect(out map[string]any, prefix string, m protoreflect.Message) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		name := prefix + string(fd.Name())
		switch {
		case fd.IsMap():
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				out[name+"/"+k.String()] = string(v.Bytes())
				return true
			})
		case fd.Kind() == protoreflect.MessageKind:
			out[name] = true
			collect(out, name+".", v.Message())
		case fd.Kind() == protoreflect.BytesKind:
			out[name] = string(v.Bytes())
		case fd.Kind() == protoreflect.Int32Kind:
			out[name] = v.Int()
		default:
			out[name] = v.Uint()
		}
		return true
	})
}

// values is what was parsed, in the form of oracle.read.
type values map[string]any

func (v values) uint(name string, n uint32) {
	if n != 0 {
		v[name] = uint64(n)
	}
}

func (v values) int(name string, n int32) {
	if n != 0 {
		v[name] = int64(n)
	}
}

func (v values) text(name string, b []byte) {
	if len(b) > 0 {
		v[name] = string(b)
	}
}

func (v values) info(name string, t *transInfo) {
	for e := t.entries(); e.next(); {
		v[name+"/"+string(e.key)] = string(e.value)
		if got, ok := t.get(string(e.key)); !ok || got == nil && e.value != nil {
			v[name+"/"+string(e.key)] = "not got"
		}
	}
}

// parsers read each header and give its values and what it is appended as.
var parsers = map[string]func(data []byte) (values, []byte, error){
	"Request": func(data []byte) (values, []byte, error) {
		var r request
		err := r.parse(data)
		v := values{}
		v.uint("version", r.version)
		v.uint("call_type", r.callType)
		v.uint("request_id", r.id)
		v.uint("timeout", r.timeout)
		v.text("caller", r.caller)
		v.text("callee", r.callee)
		v.text("func", r.fn)
		v.uint("message_type", r.messageType)
		v.info("trans_info", &r.info)
		v.uint("content_type", r.contentType)
		v.uint("content_encoding", r.encoding)
		v.uint("attachment_size", r.attachment)
		return v, r.append(nil), err
	},
	"Response": func(data []byte) (values, []byte, error) {
		var r response
		err := r.parse(data)
		v := values{}
		v.uint("version", r.version)
		v.uint("call_type", r.callType)
		v.uint("request_id", r.id)
		v.int("ret", r.ret)
		v.int("func_ret", r.funcRet)
		v.text("error_msg", r.message)
		v.uint("message_type", r.messageType)
		v.info("trans_info", &r.info)
		v.uint("content_type", r.contentType)
		v.uint("content_encoding", r.encoding)
		v.uint("attachment_size", r.attachment)
		return v, r.append(nil), err
	},
	"Init": func(data []byte) (values, []byte, error) {
		var m initMeta
		err := m.parse(data)
		v := values{}
		if m.hasRequest {
			v["request_meta"] = true
			v.text("request_meta.caller", m.caller)
			v.text("request_meta.callee", m.callee)
			v.text("request_meta.func", m.fn)
			v.uint("request_meta.message_type", m.messageType)
			v.info("request_meta.trans_info", &m.info)
		}
		if m.hasResponse {
			v["response_meta"] = true
			v.int("response_meta.ret", m.ret)
			v.text("response_meta.error_msg", m.message)
		}
		v.uint("init_window_size", m.window)
		v.uint("content_type", m.contentType)
		v.uint("content_encoding", m.encoding)
		return v, m.append(nil), err
	},
	"Feedback": func(data []byte) (values, []byte, error) {
		n, err := parseFeedback(data)
		v := values{}
		v.uint("window_size_increment", n)
		return v, appendFeedback(nil, n), err
	},
	"Close": func(data []byte) (values, []byte, error) {
		var m closeMeta
		err := m.parse(data)
		v := values{}
		v.int("close_type", m.reset)
		v.int("ret", m.ret)
		v.text("msg", m.message)
		v.uint("message_type", m.messageType)
		v.info("trans_info", &m.info)
		v.int("func_ret", m.funcRet)
		return v, m.append(nil), err
	},
}

// hold reads data as each header, as protobuf does.
func hold(t *testing.T, o oracle, data []byte) {
	t.Helper()
	for name, parse := range parsers {
		got, again, err := parse(data)
		want, wantErr := o.read(name, data)
		if errors.Is(wantErr, errPanic) {
			continue
		}
		if err != nil && strings.HasSuffix(err.Error(), "is given twice") {
			continue // which is the one thing that is read otherwise
		}
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%s %x: %v, protobuf has %v", name, data, err, wantErr)
		}
		if err != nil {
			continue
		}
		if diff := cmp.Diff(want, map[string]any(got)); diff != "" {
			t.Fatalf("%s %x: %s", name, data, diff)
		}
		if back, err := o.read(name, again); err != nil || !cmp.Equal(back, want) {
			t.Fatalf("%s %x is appended as %x: %v\n%s", name, data, again, err, cmp.Diff(want, back))
		}
	}
}

// headers are those of the captures, and some with what encoders leave out.
func headers(t testing.TB) [][]byte {
	t.Helper()
	var out [][]byte
	for _, steps := range captures(t) {
		for _, s := range steps {
			for raw := s.raw; len(raw) >= headLen; {
				size, header := int(binary.BigEndian.Uint32(raw[4:])), int(binary.BigEndian.Uint16(raw[8:]))
				if raw[2] == frameStream {
					header = size - headLen
				}
				out = append(out, raw[headLen:headLen+header])
				raw = raw[size:]
			}
		}
	}
	slices.SortFunc(out, bytes.Compare)
	full := request{
		version: 1, callType: 1, id: math.MaxUint32, timeout: 5, caller: []byte("a"), callee: []byte("b"), fn: []byte("/c/d"), messageType: 0xffff,
		contentType: 2, encoding: 1, attachment: 9,
	}
	b := full.appendFront(nil)
	b = appendEntry(b, requestInfo, "", "")
	b = appendEntry(b, requestInfo, "k", "")
	b = full.appendBack(b)
	b = appendEntry(b, requestInfo, "", "v")
	b = appendEntry(b, requestInfo, "k", "again")
	negative := closeMeta{reset: -1, ret: math.MinInt32, funcRet: -7}
	return append(out, b, negative.append(nil),
		[]byte{0x1b, 0x08, 0x01, 0x1c},                                  // a group that nobody knows
		[]byte{0x1a, 0x01, 0x61, 0x18, 0x07},                            // an id of another type before it
		[]byte{0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, // more bits than the field
		[]byte{0x4a, 0x04, 0x0a, 0x02, 0xc3, 0x28},                      // a key that is not UTF-8
		[]byte{0x0a, 0x02, 0x0a, 0x00, 0x0a, 0x02, 0x12, 0x00},          // a message twice
		[]byte{0x42, 0x05, 0x0a, 0x01, 0x61, 0x08, 0x61},                // an entry with a key, and one of another type
		[]byte{0x4a, 0x05, 0x0a, 0x01, 0x61, 0x08, 0x61},
		[]byte{0xf8, 0xff, 0xff, 0xff, 0x0f, 0x00}, // the greatest number of a field
		[]byte{0x80, 0x80, 0x80, 0x80, 0x10, 0x00}, // one more
	)
}

func TestHeadersAsProtobuf(t *testing.T) {
	o := newOracle(t)
	for _, data := range headers(t) {
		hold(t, o, data)
		for i := range data {
			hold(t, o, data[:i])
		}
	}
}

func FuzzHeader(f *testing.F) {
	for _, data := range headers(f) {
		f.Add(data)
	}
	o := newOracle(f)
	f.Fuzz(func(t *testing.T, data []byte) { hold(t, o, data) })
}

// TestHeaderAllocs: headers are read and written in place.
func TestHeaderAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	var data []byte
	for _, steps := range captures(t) {
		if len(steps[0].raw) > len(data) && steps[0].raw[2] == frameUnary {
			data = steps[0].raw
		}
	}
	var h head
	var r request
	buf := make([]byte, 0, 1024)
	n := testing.AllocsPerRun(100, func() {
		if h.parse(data, defaultMaxFrame) != nil || r.parse(data[headLen:headLen+h.header]) != nil {
			t.Fatal("it does not parse")
		}
		buf = r.append(h.append(buf[:0]))
		buf = appendEntry(buf, requestInfo, "key", "value")
	})
	if n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// TestPrefixed: a message becomes a field, whatever its length.
func TestPrefixed(t *testing.T) {
	for _, size := range []int{0, 1, 127, 128, 16383, 16384, 70000} {
		value := bytes.Repeat([]byte{7}, size)
		got := prefixed(append([]byte("before"), value...), len("before"), 2)
		want := protowire.AppendBytes(protowire.AppendTag([]byte("before"), 2, protowire.BytesType), value)
		if !bytes.Equal(got, want) {
			t.Errorf("%d bytes: %x", size, got[:min(len(got), 20)])
		}
	}
}

// What the product has no need of: it appends a call's metadata where trans_info goes.

func (r *request) append(dst []byte) []byte {
	return r.appendBack(r.info.append(r.appendFront(dst), requestInfo))
}

func (r *response) append(dst []byte) []byte {
	return r.appendBack(r.info.append(r.appendFront(dst), responseInfo))
}

// get is the value of a key, as that of its last entry, which counts by the rules of protobuf.
func (t *transInfo) get(key string) (value []byte, ok bool) {
	for e := t.entries(); e.next(); {
		if string(e.key) == key {
			value, ok = e.value, true
		}
	}
	return value, ok
}

// appendFront appends what stands before trans_info.
func (r *request) appendFront(dst []byte) []byte {
	dst = appendUint(dst, 1, r.version)
	dst = appendUint(dst, 2, r.callType)
	dst = appendUint(dst, 3, r.id)
	dst = appendUint(dst, 4, r.timeout)
	dst = appendBytes(dst, 5, r.caller)
	dst = appendBytes(dst, 6, r.callee)
	dst = appendBytes(dst, 7, r.fn)
	return appendUint(dst, 8, r.messageType)
}
