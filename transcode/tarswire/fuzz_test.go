package tarswire_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/causeway-gateway/causeway/transcode/tarswire"
)

// odd has what the kit has not.
const odd = `
module Odd
{
    enum E { A = -1, B = 3, C };
    struct Inner { 0 require short s = -7; 1 optional string t = "t"; 2 require float f; };
    struct Keys
    {
        0 optional map<double, string> doubles;
        1 optional map<float, int> floats;
        2 optional map<Inner, Inner> inners;
        3 optional map<vector<byte>, bool> byteKeys;
        4 optional map<vector<short>, vector<unsigned short> > vectors;
        5 optional map<E, E> enums;
        6 optional map<byte, unsigned byte> bytes;
        7 optional map<unsigned int, map<unsigned short, vector<Inner> > > deep;
        8 optional map<map<string, int>, string> maps;
        9 optional map<bool, Keys> self;
        10 optional vector<vector<vector<string> > > vvv;
        11 optional vector<float> floatList;
        12 optional vector<double> doubleList;
        13 optional vector<E> enumList;
        14 optional vector<long> longs;
        20 optional vector<unsigned int> uints;
        100 optional int fixed[4];
        254 require int last = 2147483647;
        255 optional bool flag = true;
    };
    interface I
    {
        Keys f(Keys a, out Inner b, vector<Inner> c, E e, out map<float, E> m, unsigned byte ub, string s);
    };
};`

// tables are what the fuzz targets choose from.
func tables(t testing.TB) []*tarswire.Message {
	t.Helper()
	s, o := kit(t), compile(t, odd)
	var out []*tarswire.Message
	for _, f := range []*tarswire.Function{
		function(t, s, "/Kit.Echo/nasty"), function(t, s, "/Kit.Echo/scalars"), function(t, s, "/Kit.Echo/transform"),
		function(t, s, "/Kit.Echo/meta"), function(t, o, "/Odd.I/f"),
	} {
		out = append(out, f.In, f.Out)
	}
	return append(out, table(t, o, "Odd.Keys"), table(t, s, "Kit.Node"), table(t, s, "Kit.Scalars"), table(t, s, "Kit.Nasty"))
}

// limited says that an error is about a limit, which the reference codec does not have.
func limited(err error) bool {
	return strings.Contains(err.Error(), "nested deeper") || strings.Contains(err.Error(), "more than")
}

// FuzzDecode: TARS is read as the reference codec reads it, and written again as that writes it.
func FuzzDecode(f *testing.F) {
	all := tables(f)
	for i, c := range exchanges(f) {
		for _, which := range []int{i, i + 5, i + 9} { // mostly other messages than the capture's own
			f.Add(uint8(which%len(all)), c.request)
			f.Add(uint8(which%len(all)), c.response)
		}
	}
	for i, m := range all {
		for _, wire := range samples(f, m) {
			tars, err := tarswire.AppendTARS(nil, wire, m, &tarswire.Options{Zeros: true})
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(i), tars)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, tars []byte) {
		m := all[int(which)%len(all)]
		was := bytes.Clone(tars)
		wire, err := tarswire.AppendWire(nil, tars, m, nil)
		if !bytes.Equal(was, tars) {
			t.Fatal("the input was changed")
		}
		if err != nil && limited(err) {
			return
		}
		want, refErr := refDecode(tars, m.Schema.Desc)
		if (err == nil) != (refErr == nil) {
			t.Fatalf("%s of %x: %v, reference: %v", m.Schema.Name, tars, err, refErr)
		}
		if err != nil {
			return
		}
		got := dynamicpb.NewMessage(m.Schema.Desc)
		if err := proto.Unmarshal(wire, got); err != nil {
			t.Fatalf("%s of %x is %x: %v", m.Schema.Name, tars, wire, err)
		}
		if !proto.Equal(want, got) {
			t.Fatalf("%s of %x:\nwant %v\n got %v", m.Schema.Name, tars, want, got)
		}
		encodesAs(t, m, wire, got, nil)
		roundTUP(t, m, wire, got)
	})
}

// encodesAs compares what is written with what the reference writes.
func encodesAs(t *testing.T, m *tarswire.Message, wire []byte, is *dynamicpb.Message, o *tarswire.Options) {
	t.Helper()
	tars, err := tarswire.AppendTARS(nil, wire, m, o)
	if err != nil && limited(err) {
		return
	}
	ref, refErr := refEncode(is, o != nil && o.Zeros)
	if (err == nil) != (refErr == nil) {
		t.Fatalf("%s of %x: %v, reference: %v", m.Schema.Name, wire, err, refErr)
	}
	if err == nil && !bytes.Equal(tars, ref) && !sameButNaN(t, m, tars, ref) {
		t.Fatalf("%s of %x:\nwant %x\n got %x", m.Schema.Name, wire, ref, tars)
	}
}

// sameButNaN says that encodings only differ in the bits of NaNs: protoreflect holds a float32 as a float64, which makes
// signalling NaNs quiet, and here bits are moved as they are.
func sameButNaN(t *testing.T, m *tarswire.Message, a, b []byte) bool {
	t.Helper()
	x, err := refDecode(a, m.Schema.Desc)
	if err != nil {
		t.Fatalf("%x: %v", a, err)
	}
	y, err := refDecode(b, m.Schema.Desc)
	if err != nil {
		t.Fatalf("%x: %v", b, err)
	}
	return len(a) == len(b) && proto.Equal(x, y)
}

// roundTUP: what was written as TUP is read again as the same.
func roundTUP(t *testing.T, m *tarswire.Message, wire []byte, is *dynamicpb.Message) {
	t.Helper()
	for version, write := range []func(dst, wire []byte, m *tarswire.Message, o *tarswire.Options) ([]byte, error){2: tarswire.AppendTUP2, 3: tarswire.AppendTUP} {
		if write == nil {
			continue
		}
		tup, err := write(nil, wire, m, nil)
		if err != nil {
			if !limited(err) {
				t.Fatalf("%s of %x as TUP %d: %v", m.Schema.Name, wire, version, err)
			}
			return
		}
		again, err := tarswire.AppendTUPWire(nil, tup, m, nil)
		if err != nil {
			if !limited(err) {
				t.Fatalf("TUP %d %x: %v", version, tup, err)
			}
			return
		}
		got := dynamicpb.NewMessage(m.Schema.Desc)
		if err := proto.Unmarshal(again, got); err != nil || !proto.Equal(is, got) {
			t.Fatalf("%s of %x as TUP %d %x is %x (%v)", m.Schema.Name, wire, version, tup, again, err)
		}
	}
}

// FuzzEncode: what protobuf-go reads is written as the reference codec writes it. What protobuf-go refuses may be taken
// here where a later value replaces what is wrong: the strings that are not UTF-8, and the entries of maps.
func FuzzEncode(f *testing.F) {
	all := tables(f)
	for i, m := range all {
		for _, wire := range samples(f, m) {
			f.Add(uint8(i), wire, false)
			f.Add(uint8(i), wire, true)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, wire []byte, zeros bool) {
		m := all[int(which)%len(all)]
		is := dynamicpb.NewMessage(m.Schema.Desc)
		if err := unmarshal(wire, is); err != nil {
			_, _ = tarswire.AppendTARS(nil, wire, m, nil) // it must end
			return
		}
		was := bytes.Clone(wire)
		encodesAs(t, m, wire, is, &tarswire.Options{Zeros: zeros})
		if !bytes.Equal(was, wire) {
			t.Fatal("the input was changed")
		}
	})
}

// unmarshal is proto.Unmarshal, which panics with dynamicpb where a map entry has its key or value twice, the second time with
// the wrong wire type.
func unmarshal(wire []byte, m proto.Message) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("protobuf-go panics: %v", p)
		}
	}()
	return proto.Unmarshal(wire, m)
}

// FuzzTUP: any bytes are read as TUP without harm, and what was read can be written and read again.
func FuzzTUP(f *testing.F) {
	all := tables(f)
	for _, c := range exchanges(f) {
		if c.version == 3 {
			f.Add(uint8(0), c.request)
			f.Add(uint8(1), c.response)
		}
	}
	for i, m := range all {
		for _, wire := range samples(f, m) {
			if tup, err := tarswire.AppendTUP(nil, wire, m, &tarswire.Options{Zeros: true}); err == nil {
				f.Add(uint8(i), tup)
			}
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, tup []byte) {
		m := all[int(which)%len(all)]
		wire, err := tarswire.AppendTUPWire(nil, tup, m, nil)
		if err != nil {
			return
		}
		is := dynamicpb.NewMessage(m.Schema.Desc)
		if err := proto.Unmarshal(wire, is); err != nil {
			t.Fatalf("TUP %x is %x: %v", tup, wire, err)
		}
		roundTUP(t, m, wire, is)
	})
}
