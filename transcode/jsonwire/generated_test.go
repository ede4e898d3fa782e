package jsonwire_test

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// generator makes random messages that have a JSON form.
type generator struct {
	*rand.Rand
	w    *world
	left int // fields that may still be set
}

var texts = []string{"", "a", "hello world", "ünïcødé", "\x00\x1f\"\\/\b\f\n\r\t\x7f", "日本語テキスト", "\u2028\u2029<>&'", "😀 emoji", strings.Repeat("long ", 60), "null", "1"}

var ints = []int64{0, 1, -1, 127, 128, 300, math.MaxInt32, math.MinInt32, math.MaxInt64, math.MinInt64, 1 << 53, 9007199254740993}

var floats = []float64{0, math.Copysign(0, -1), 1, -1.5, 0.1, 1e21, 1e-7, 123456789, 1 << 53, 3.4e38, math.MaxFloat64, 5e-324, math.NaN(), math.Inf(1), math.Inf(-1)}

func pick[T any](g *generator, s []T) T { return s[g.IntN(len(s))] }

func (g *generator) message(md protoreflect.MessageDescriptor, level int) protoreflect.Message {
	m := dynamicpb.NewMessage(md)
	if g.known(m, level) {
		return m
	}
	fds := md.Fields()
	set := func(fd protoreflect.FieldDescriptor) {
		if g.left <= 0 || level > 6 && fd.Message() != nil && !fd.IsMap() {
			if fd.Cardinality() != protoreflect.Required {
				return
			}
		}
		g.left--
		switch {
		case fd.IsList():
			l := m.Mutable(fd).List()
			for range g.IntN(4) {
				l.Append(g.value(fd, level))
			}
		case fd.IsMap():
			mm := m.Mutable(fd).Map()
			for range g.IntN(4) {
				if fd.MapValue().Message() != nil && level > 6 {
					return
				}
				mm.Set(g.value(fd.MapKey(), level).MapKey(), g.value(fd.MapValue(), level))
			}
		default:
			m.Set(fd, g.value(fd, level))
		}
	}
	chance := 2 + g.IntN(8)
	for i := range fds.Len() {
		if fd := fds.Get(i); fd.Cardinality() == protoreflect.Required || g.IntN(chance) == 0 {
			set(fd)
		}
	}
	g.w.types.RangeExtensions(md, func(fd protoreflect.FieldDescriptor) {
		if g.IntN(chance) == 0 {
			set(fd)
		}
	})
	return m
}

// RangeExtensions goes over the extensions of md in the schema.
func (r resolver) RangeExtensions(md protoreflect.MessageDescriptor, f func(protoreflect.FieldDescriptor)) {
	for n := protoreflect.FieldNumber(100); n < 120; n++ {
		if xt, err := r.FindExtensionByNumber(md.FullName(), n); err == nil {
			f(xt.TypeDescriptor())
		}
	}
}

func (g *generator) value(fd protoreflect.FieldDescriptor, level int) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(g.IntN(2) == 0)
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(pick(g, texts))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(pick(g, texts)))
	case protoreflect.EnumKind:
		vs := fd.Enum().Values()
		if !fd.Enum().IsClosed() && fd.Enum().FullName() != "google.protobuf.NullValue" && g.IntN(4) == 0 {
			return protoreflect.ValueOfEnum(protoreflect.EnumNumber(int32(pick(g, ints))))
		}
		return protoreflect.ValueOfEnum(vs.Get(g.IntN(vs.Len())).Number())
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(pick(g, ints)))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(pick(g, ints)))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(pick(g, ints))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(uint64(pick(g, ints)))
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(pick(g, floats)))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(pick(g, floats))
	default:
		return protoreflect.ValueOfMessage(g.message(fd.Message(), level+1))
	}
}

// known fills the well-known types that do not take every value.
func (g *generator) known(m protoreflect.Message, level int) bool {
	fds := m.Descriptor().Fields()
	set := func(n protoreflect.FieldNumber, v any) { m.Set(fds.ByNumber(n), protoreflect.ValueOf(v)) }
	switch m.Descriptor().FullName() {
	case "google.protobuf.Timestamp":
		set(1, pick(g, []int64{0, -1, 1700000000, -62135596800, 253402300799, 951782400, 951868800}))
		set(2, pick(g, []int32{0, 1, 999999999, 500000000, 123000, 120000}))
	case "google.protobuf.Duration":
		sign := int32(g.IntN(2)*2 - 1)
		set(1, int64(sign)*pick(g, []int64{0, 1, 3600, 315576000000}))
		set(2, sign*pick(g, []int32{0, 1, 999999999, 500000000, 123000, 120000}))
	case "google.protobuf.FieldMask":
		l := m.Mutable(fds.ByNumber(1)).List()
		for range g.IntN(3) {
			l.Append(protoreflect.ValueOfString(pick(g, []string{"a", "foo_bar", "a.b_c.d", "x1"})))
		}
	case "google.protobuf.Value":
		switch n := g.IntN(6); {
		case n == 4 && level < 8:
			m.Set(fds.ByNumber(5), protoreflect.ValueOfMessage(g.message(fds.ByNumber(5).Message(), level+1)))
		case n == 5 && level < 8:
			m.Set(fds.ByNumber(6), protoreflect.ValueOfMessage(g.message(fds.ByNumber(6).Message(), level+1)))
		case n == 1:
			set(2, pick(g, floats[:len(floats)-3]))
		case n == 2:
			set(3, pick(g, texts))
		case n == 3:
			set(4, g.IntN(2) == 0)
		default:
			set(1, protoreflect.EnumNumber(0))
		}
	case "google.protobuf.Any":
		if level > 5 || g.IntN(5) == 0 {
			return true
		}
		name := pick(g, roots)
		mt, err := g.w.types.FindMessageByName(protoreflect.FullName(name))
		if err != nil {
			return true
		}
		b, err := proto.MarshalOptions{AllowPartial: true, Deterministic: true}.Marshal(g.message(mt.Descriptor(), level+1).Interface())
		if err != nil {
			return true
		}
		set(1, "type.googleapis.com/"+name)
		set(2, b)
	default:
		return false
	}
	return true
}

// scatter gives a wire form of m with its fields in random order, singular messages split and packed lists mixed.
func (g *generator) scatter(wire []byte, m *schema.Message) []byte {
	fields := split(wire)
	var out [][]byte
	for _, f := range fields {
		out = append(out, f)
		if g.IntN(8) == 0 {
			out = append(out, unknownField(g))
		}
	}
	// Only fields of different numbers may change places, and not the members of a oneof.
	for range out {
		i := g.IntN(len(out))
		if i == 0 {
			continue
		}
		a, b := m.ByNumber(numberOf(out[i-1])), m.ByNumber(numberOf(out[i]))
		if a != b && (a == nil || b == nil || a.Oneof < 0 || a.Oneof != b.Oneof) {
			out[i-1], out[i] = out[i], out[i-1]
		}
	}
	return bytes.Join(out, nil)
}

func TestGenerated(t *testing.T) {
	w := theWorld(t)
	rounds := 6000
	if testing.Short() {
		rounds = 600
	}
	g := &generator{Rand: rand.New(rand.NewPCG(1, 2)), w: w}
	options := []struct {
		ours   jsonwire.Options
		theirs protojson.MarshalOptions
	}{
		{jsonwire.Options{}, protojson.MarshalOptions{Resolver: w.types}},
		{jsonwire.Options{EmitUnpopulated: true}, protojson.MarshalOptions{Resolver: w.types, EmitDefaultValues: true}},
		{jsonwire.Options{EmitUnpopulated: true, EmitNull: true}, protojson.MarshalOptions{Resolver: w.types, EmitUnpopulated: true}},
		{jsonwire.Options{ProtoNames: true}, protojson.MarshalOptions{Resolver: w.types, UseProtoNames: true}},
		{jsonwire.Options{EnumNumbers: true}, protojson.MarshalOptions{Resolver: w.types, UseEnumNumbers: true}},
	}
	for n := range rounds {
		g.left = 10 + g.IntN(150)
		m := w.message(t, roots[n%len(roots)])
		msg := g.message(m.Desc, 0).Interface()
		wire, err := proto.Marshal(msg)
		if err != nil {
			t.Fatal(err)
		}
		if g.IntN(2) == 0 {
			wire = g.scatter(wire, m)
		}
		o := options[n%len(options)]
		want, err := o.theirs.Marshal(msg)
		if err != nil {
			t.Fatalf("%d: %s: the oracle refuses what was generated: %v", n, m.Name, err)
		}
		got, err := jsonwire.AppendJSON(nil, wire, m, &o.ours)
		if err != nil {
			t.Fatalf("%d: %s: AppendJSON: %v\nwire %x\nwant %s", n, m.Name, err, wire, want)
		}
		if a, b := compact(t, want), compact(t, got); a != b {
			t.Fatalf("%d: %s: AppendJSON\n got %s\nwant %s\nwire %x", n, m.Name, b, a, wire)
		}
		back, err := jsonwire.AppendWire(nil, got, m, nil)
		if err != nil {
			t.Fatalf("%d: %s: AppendWire: %v\njson %s", n, m.Name, err, got)
		}
		wantBack, err := w.oracleParse(m, got, false)
		if err != nil {
			t.Fatalf("%d: %s: the oracle refuses the JSON: %v\njson %s", n, m.Name, err, got)
		}
		gotBack, err := w.oracleDecode(m, back)
		if err != nil {
			t.Fatalf("%d: %s: the wire form is broken: %v\njson %s\nwire %x", n, m.Name, err, got, back)
		}
		if !bytes.Equal(w.canonical(gotBack), w.canonical(wantBack)) {
			t.Fatalf("%d: %s: AppendWire\njson %s\n got %v\nwant %v\nwire %x", n, m.Name, got, gotBack, wantBack, back)
		}
	}
}

// jsonBits are put into JSON text by TestMutated.
var jsonBits = []string{
	"null", "{}", "[]", "0", "-0", "1e2", "1.0", "\"1\"", "\"\"", "true", ",", ":", "{", "}", "[", "]", "\"", "\\u0041", "\\ud83d", "\\n", "\x00", "\xff", " ", "\n",
	"\"NaN\"", "\"-Infinity\"", "1e400", "99999999999999999999", "4294967296", "-1", ".5", "e5", "\"@type\":\"type.googleapis.com/test.three.Tree\",", "\"value\":", "\"name\":\"x\",",
	"\"unknown\":1,", "\"RED\"", "\"YQ==\"", "\"2024-01-01T00:00:00Z\"", "\"1s\"", "\"a,b\"", "{\"a\":1,\"b\":{\"c\":null}}", "\u00a0", "\ufeff", "é",
}

// wireBits are put into wire bytes by TestMutated.
var wireBits = []string{
	"\x00", "\x01", "\x7f", "\x80", "\xff", "\x08\x01", "\x0a\x00", "\x0a\x01a", "\x0b\x0c", "\x0b", "\x0c", "\x12\x00", "\x1a\x00", "\x10\x00", "\x33\x34",
	"\x80\x80\x80\x80\x10", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "\x3a\x00", "\x42\x00", "\x50\x00", "\x5a\x00", "\x0a\x02\x08\x01", "\x12\x02\x10\x01",
}

// mutate changes in a few places what was well formed.
func (g *generator) mutate(in []byte, bits []string) []byte {
	out := bytes.Clone(in)
	for range 1 + g.IntN(3) {
		at := g.IntN(len(out) + 1)
		end := min(len(out), at+1+g.IntN(12))
		switch g.IntN(5) {
		case 0:
			out = slices.Delete(out, at, end)
		case 1:
			out = slices.Insert(out, at, []byte(pick(g, bits))...)
		case 2:
			out = slices.Replace(out, at, end, []byte(pick(g, bits))...)
		case 3:
			out = slices.Insert(out, at, bytes.Clone(out[at:min(len(out), at+1+g.IntN(60))])...)
		case 4:
			if at < len(out) {
				out[at] ^= 1 << g.IntN(8)
			}
		}
	}
	return out
}

// TestMutated holds codec and oracle together on input that is nearly right.
func TestMutated(t *testing.T) {
	w := theWorld(t).with(realCodec)
	rounds := mutations(t)
	g := &generator{Rand: rand.New(rand.NewPCG(3, uint64(rounds))), w: w}
	for n := 0; n < rounds; {
		m := w.message(t, roots[g.IntN(len(roots))])
		g.left = 3 + g.IntN(20)
		wire, err := proto.Marshal(g.message(m.Desc, g.IntN(5)).Interface())
		if err != nil {
			t.Fatal(err)
		}
		text, err := jsonwire.AppendJSON(nil, wire, m, &jsonwire.Options{ProtoNames: n%3 == 0})
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			w.compareJSON(t, m, g.mutate(text, jsonBits), n%2 == 0)
			w.compareWire(t, m, g.mutate(wire, wireBits), byte(n))
			n++
		}
	}
	t.Log(w.tally)
}

// mutations is the number of rounds of TestMutated: enough for every run, or what CAUSEWAY_MUTATIONS says.
func mutations(t *testing.T) int {
	t.Helper()
	if s := os.Getenv("CAUSEWAY_MUTATIONS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return 20_000
}

// compacted removes the white space that protojson puts between members to keep its output from being relied on.
func compacted(b []byte) (string, error) {
	var out bytes.Buffer
	err := json.Compact(&out, b)
	return out.String(), err
}

func compact(t testing.TB, b []byte) string {
	t.Helper()
	s, err := compacted(b)
	if err != nil {
		t.Fatalf("not JSON: %v\n%s", err, b)
	}
	return s
}
