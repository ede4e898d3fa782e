package tarswire_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/causeway-gateway/causeway/transcode/tarswire"
)

// plainIDL has what is read and written in the look that finds it.
const plainIDL = `module M
{
    struct In { 0 require int x; };
    struct S
    {
        0 optional string text;
        1 optional unsigned byte small;
        2 optional bool flag;
        3 optional double number;
        4 optional In in;
        5 optional vector<string> list;
        6 optional vector<In> ins;
        7 optional int last;
        8 optional float fraction;
        9 optional vector<byte> raw;
    };
};`

// TestPlainText: text that is not UTF-8 is found wherever it stands in a string, alone and in a list, in both directions.
func TestPlainText(t *testing.T) {
	m := table(t, compile(t, plainIDL), "M.S")
	for n := 1; n <= 40; n++ {
		for at := range n {
			good, bad := bytes.Repeat([]byte("x"), n), bytes.Repeat([]byte("x"), n)
			bad[at] = 0xff
			if at+1 < n {
				copy(good[at:], "é")
			}
			for _, tars := range []bool{false, true} {
				for _, list := range []bool{false, true} {
					for i, s := range [][]byte{good, bad} {
						head := []byte{1<<3 | 2, byte(n)}
						if tars {
							head = []byte{6, byte(n)}
						}
						if list && tars {
							head = []byte{5<<4 | 9, 0, 1, 6, byte(n)}
						} else if list {
							head[0] = 6<<3 | 2
						}
						// What follows keeps a text from being the last thing there is.
						in := append(head, s...)
						in = append(in, map[bool]string{true: "\x70\x07", false: "\x40\x07"}[tars]...)
						var err error
						if tars {
							_, err = tarswire.AppendWire(nil, in, m, nil)
						} else {
							_, err = tarswire.AppendTARS(nil, in, m, nil)
						}
						if i == 0 && err != nil {
							t.Fatalf("%x: %v", in, err)
						}
						if i == 1 && (err == nil || !strings.Contains(err.Error(), "wanted UTF-8, found byte 0xff")) {
							t.Fatalf("%x: %v, want what is not UTF-8 to be refused", in, err)
						}
					}
				}
			}
		}
	}
}

// TestPlainRefused: the quick ways have the bounds and checks of the others.
func TestPlainRefused(t *testing.T) {
	m := table(t, compile(t, plainIDL), "M.S")
	two := &tarswire.Options{MaxElements: 2}
	behind := []byte{0x06, 5, 'a', 'b', 'c', 'd', 'e'}
	for _, c := range []struct {
		name string
		tars []byte
		o    *tarswire.Options
		want string // "": it is taken
	}{
		{"a string that ends behind the data", behind[:3], nil, "text: wanted a string at offset 1, found a length beyond the end of the data"},
		{"an element that ends behind the data", append([]byte{0x59, 0, 1}, behind...)[:6], nil, "list[0]: wanted a string at offset 4, found a length beyond the end of the data"},
		{"too large a number", []byte{0x11, 1, 44}, nil, "small: wanted 0 to 255, found 300 at offset 1"},
		{"too small a number", []byte{0x10, 0xff}, nil, "small: wanted 0 to 255, found -1 at offset 1"},
		{"too wide a number", []byte{0x12, 0, 0, 0, 1}, nil, "small: wanted an integer up to SHORT, found INT at offset 1"},
		{"a double that is cut", []byte{0x35, 0, 0, 0}, nil, "number: the data ends at offset 4, in the middle of a value"},
		{"a member twice", []byte{0x10, 1, 0x10, 1}, nil, "tag 1 (small) is given twice"},
		{"a struct twice", []byte{0x4a, 0x0c, 0x0b, 0x4a, 0x0c, 0x0b}, nil, "tag 4 (in) is given twice"},
		{"a struct that does not end", []byte{0x4a, 0x0c}, nil, "in: the data ends at offset 2, in the middle of a value"},
		{"a struct that lacks something", []byte{0x4a, 0x0b}, nil, "in: M.In lacks tag 0 (x), which is required"},
		{"an element that lacks something", []byte{0x69, 0, 1, 0x0a, 0x0b}, nil, "ins[0]: M.In lacks tag 0 (x), which is required"},
		{"two members, the limit", []byte{0x10, 1, 0x20, 1}, two, ""},
		{"a member more", []byte{0x10, 1, 0x20, 1, 0x70, 1}, two, "more than 2 members and elements in one message"},
		{"a struct and its member, the limit", []byte{0x4a, 0x00, 1, 0x0b}, two, ""},
		{"a member more behind a struct", []byte{0x4a, 0x00, 1, 0x0b, 0x70, 1}, two, "more than 2 members and elements in one message"},
	} {
		_, err := tarswire.AppendWire(nil, c.tars, m, c.o)
		if c.want == "" && err != nil || c.want != "" && (err == nil || err.Error() != c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	for _, c := range []struct {
		name string
		wire []byte
		o    *tarswire.Options
		want string
	}{
		{"too large a number", []byte{2 << 3, 0xac, 2}, nil, "small: wanted 0 to 255, found 300"},
		{"a string that ends behind the data", []byte{1<<3 | 2, 2, 'a'}, nil, "wanted the wire form of M.S, found bytes that are not"},
		{"a struct that ends behind the data", []byte{5<<3 | 2, 3, 8, 1}, nil, "wanted the wire form of M.S, found bytes that are not"},
		{"an element that ends behind the data", []byte{6<<3 | 2, 2, 'a'}, nil, "wanted the wire form of M.S, found bytes that are not"},
		{"two fields, the limit", []byte{2 << 3, 1, 3 << 3, 1}, two, ""},
		{"a field more", []byte{2 << 3, 1, 3 << 3, 1, 8 << 3, 1}, two, "more than 2 members and elements in one message"},
		{"two elements, the limit", []byte{6<<3 | 2, 0, 6<<3 | 2, 0}, two, ""},
		{"two fields in another order, the limit", []byte{8 << 3, 7, 2 << 3, 1}, two, ""},
		{"others, the limit", []byte{9<<3 | 5, 0, 0, 0, 1, 10<<3 | 2, 1, 'x'}, two, ""},
		{"one of the others more", []byte{8 << 3, 1, 9<<3 | 5, 0, 0, 0, 1, 10<<3 | 2, 1, 'x'}, two, "more than 2 members and elements in one message"},
		{"an element more", []byte{6<<3 | 2, 0, 6<<3 | 2, 0, 6<<3 | 2, 0}, two, "more than 2 members and elements in one message"},
	} {
		_, err := tarswire.AppendTARS(nil, c.wire, m, c.o)
		if c.want == "" && err != nil || c.want != "" && (err == nil || err.Error() != c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// TestPlainGBK: what is UTF-8 as well is read as what it is.
func TestPlainGBK(t *testing.T) {
	m := table(t, compile(t, plainIDL), "M.S")
	o := &tarswire.Options{Charset: tarswire.GBK}
	tars := slices.Concat(tarswire.AppendString(nil, 0, "\xc2\xa9"), []byte{0x59, 0, 1}, tarswire.AppendString(nil, 0, "\xc2\xa9"))
	wire, err := tarswire.AppendWire(nil, tars, m, o)
	if err != nil || !strings.HasPrefix(inJSON(t, wire, m), `{"text":"漏",`) || !strings.Contains(inJSON(t, wire, m), `"list":["漏"]`) {
		t.Errorf("found %s, %v", inJSON(t, wire, m), err)
	}
	back, err := tarswire.AppendTARS(nil, wire, m, o)
	if err != nil || !bytes.HasPrefix(back, tars[:4]) || !bytes.Contains(back, tars[4:]) {
		t.Errorf("%x becomes %x, %v", tars, back, err)
	}
}

// TestPlainZeros: what protobuf does not tell from nothing is not written for messages that know nothing of TARS.
func TestPlainZeros(t *testing.T) {
	field := func(name string, n int32, typ descriptorpb.FieldDescriptorProto_Type, of string) *descriptorpb.FieldDescriptorProto {
		f := &descriptorpb.FieldDescriptorProto{
			Name: proto.String(name), Number: proto.Int32(n), Type: typ.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		}
		if of != "" {
			f.TypeName = proto.String(of)
		}
		return f
	}
	s := link(t, &descriptorpb.FileDescriptorProto{
		Name: proto.String("z.proto"), Package: proto.String("z"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{
			{Name: proto.String("M"), Field: []*descriptorpb.FieldDescriptorProto{
				field("s", 1, descriptorpb.FieldDescriptorProto_TYPE_STRING, ""),
				field("i", 2, descriptorpb.FieldDescriptorProto_TYPE_INT32, ""),
				field("d", 3, descriptorpb.FieldDescriptorProto_TYPE_DOUBLE, ""),
				field("e", 4, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, ".z.E"),
			}},
			{Name: proto.String("E")},
		},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("S"), Method: []*descriptorpb.MethodDescriptorProto{
			{Name: proto.String("F"), InputType: proto.String(".z.M"), OutputType: proto.String(".z.E")},
		}}},
	})
	method, _ := s.Method("/z.S/F")
	var c tarswire.Compiler
	f, err := c.Natural(method)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ tars, want string }{
		{"\x06\x00\x1c\x25\x00\x00\x00\x00\x00\x00\x00\x00", ""},
		{"\x06\x00\x10\x00\x25\x00\x00\x00\x00\x00\x00\x00\x00\x3a\x0b", ""},
		{"\x06\x01a\x10\x01\x25\x80\x00\x00\x00\x00\x00\x00\x00\x3a\x0b", "\x0a\x01a\x10\x01\x19\x00\x00\x00\x00\x00\x00\x00\x80"},
	} {
		if got, err := tarswire.AppendWire(nil, []byte(c.tars), f.In, nil); err != nil || string(got) != c.want {
			t.Errorf("%x becomes %x, %v, want %x", c.tars, got, err, c.want)
		}
	}
}

// TestAhead: a field that nobody knows makes no difference but that nothing is written in the look that finds it.
func TestAhead(t *testing.T) {
	unknown := []byte{0x80 | 300<<3&0x7F, 300 >> 4, 1}
	n := 0
	for _, m := range tables(t) {
		for i, wire := range samples(t, m) {
			for _, o := range []*tarswire.Options{nil, {Zeros: true}, {Charset: tarswire.GBK, Zeros: true}} {
				got, err := tarswire.AppendTARS(nil, wire, m, o)
				want, wantErr := tarswire.AppendTARS(nil, slices.Concat(wire, unknown), m, o)
				if (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error() || !bytes.Equal(got, want) {
					t.Errorf("%s %d: %x, %v, want %x, %v", m.Schema.Name, i, got, err, want, wantErr)
				}
				n++
			}
		}
	}
	m := table(t, compile(t, plainIDL), "M.S")
	for _, c := range []struct{ name, wire, want string }{
		{"zeros that are given", "\x0a\x00\x10\x00\x18\x00\x21\x00\x00\x00\x00\x00\x00\x00\x00\x40\x00", "\x06\x00\x1c\x2c\x35\x00\x00\x00\x00\x00\x00\x00\x00\x7c"},
		{"a bool that is not 1", "\x18\x05", "\x20\x01"},
		{"another wire type", "\x08\x01\x10\x01", "\x10\x01"},
		{"a tag that is too long", "\x90\x00\x01", "\x10\x01"},
		{"another order", "\x40\x07\x10\x01", "\x10\x01\x70\x07"},
		{"a field twice", "\x10\x01\x10\x02", "\x10\x02"},
		{"a struct in pieces", "\x2a\x02\x08\x01\x2a\x02\x08\x02", "\x4a\x00\x02\x0b"},
		{"a list in pieces", "\x32\x01a\x40\x07\x32\x01b", "\x59\x00\x02\x06\x01a\x06\x01b\x70\x07"},
	} {
		if got, err := tarswire.AppendTARS(nil, []byte(c.wire), m, nil); err != nil || string(got) != c.want {
			t.Errorf("%s: %x, %v, want %x", c.name, got, err, c.want)
		}
	}
	t.Logf("%d messages", n)
}
