package jsonwire_test

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/causeway-gateway/causeway/transcode/jsonwire"
)

// TestFloats holds numbers of every size to encoding/json's form (which protojson uses) and to strconv's reading.
func TestFloats(t *testing.T) {
	w := theWorld(t)
	m := w.message(t, "google.protobuf.DoubleValue")
	r := rand.New(rand.NewPCG(5, 6))
	rounds := 200_000
	if testing.Short() {
		rounds = 20_000
	}
	edges := []float64{1e-4, 9.9995, 0.00005, 1e15, 999999999999999, 99999999999.9999, 999999999999.9999, 1e21, 1e-7, 4.35, 0.3, 0.1 + 0.2, 1.005, 123456.78905, math.MaxFloat64, 1 << 53}
	for n := range rounds {
		var v float64
		switch {
		case n < 2*len(edges):
			v = edges[n/2] * float64(1-n%2*2)
		case n%4 == 0:
			v = math.Float64frombits(r.Uint64())
		case n%4 == 1:
			v = float64(r.IntN(1<<30)) / math.Pow10(r.IntN(8))
		case n%4 == 2:
			v = math.Nextafter(float64(r.IntN(1<<30))/1e4, float64(r.IntN(3)-1)*1e300)
		default:
			v = math.Round(r.NormFloat64()*1e16) / 1e4
		}
		if math.IsNaN(v) || math.IsInf(v, 0) || v == 0 {
			continue
		}
		wire := binary.LittleEndian.AppendUint64([]byte{0x09}, math.Float64bits(v))
		got, err := jsonwire.AppendJSON(nil, wire, m, nil)
		if err != nil {
			t.Fatal(err)
		}
		want, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Fatalf("%x is written as %s, want %s", math.Float64bits(v), got, want)
		}
		for _, text := range []string{string(got), strconv.FormatFloat(v, 'f', r.IntN(9), 64), strconv.FormatFloat(v, 'e', r.IntN(17), 64)} {
			if len(text) > 64 {
				continue
			}
			want, err := strconv.ParseFloat(text, 64)
			if err != nil {
				continue
			}
			wire, err := jsonwire.AppendWire(nil, []byte(text), m, nil)
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			got := 0.0
			if len(wire) > 0 {
				got = math.Float64frombits(binary.LittleEndian.Uint64(wire[1:]))
			}
			if math.Float64bits(got) != math.Float64bits(want) {
				t.Fatalf("%s is read as %v, want %v", text, got, want)
			}
		}
	}
}

// TestFloats32 is TestFloats for what is printed of the other size.
func TestFloats32(t *testing.T) {
	w := theWorld(t)
	m := w.message(t, "google.protobuf.FloatValue")
	r := rand.New(rand.NewPCG(9, 10))
	edges := []float32{1e-4, 0.00005, 99.9999, 99.99995, 999999, 1e6, 16777216, 1e-6, 9e-7, 1e21, 0.1, 0.3, math.MaxFloat32, math.SmallestNonzeroFloat32}
	for n := range 100_000 {
		var v float32
		switch {
		case n < 2*len(edges):
			v = edges[n/2] * float32(1-n%2*2)
		case n%3 == 0:
			v = math.Float32frombits(r.Uint32())
		case n%3 == 1:
			v = float32(r.IntN(1<<24)) / float32(math.Pow10(r.IntN(8)))
		default:
			v = math.Nextafter32(float32(r.IntN(1<<20))/1e4, float32(r.IntN(3)-1)*1e30)
		}
		if v != v || math.IsInf(float64(v), 0) || v == 0 {
			continue
		}
		got, err := jsonwire.AppendJSON(nil, binary.LittleEndian.AppendUint32([]byte{0x0d}, math.Float32bits(v)), m, nil)
		if err != nil {
			t.Fatal(err)
		}
		want, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Fatalf("%x is written as %s, want %s", math.Float32bits(v), got, want)
		}
	}
}

// TestIntegers holds integers of every length, and those beside the powers of ten, to strconv.
func TestIntegers(t *testing.T) {
	w := theWorld(t)
	signed, unsigned := w.message(t, "google.protobuf.Int64Value"), w.message(t, "google.protobuf.UInt64Value")
	r := rand.New(rand.NewPCG(11, 12))
	hold := func(v uint64) {
		wire := binary.AppendUvarint([]byte{0x08}, v)
		got, err := jsonwire.AppendJSON(nil, wire, unsigned, nil)
		if want := strconv.Quote(strconv.FormatUint(v, 10)); err != nil || string(got) != want {
			t.Fatalf("%d is written as %s, want %s: %v", v, got, want, err)
		}
		got, err = jsonwire.AppendJSON(nil, wire, signed, nil)
		if want := strconv.Quote(strconv.FormatInt(int64(v), 10)); err != nil || string(got) != want {
			t.Fatalf("%d is written as %s, want %s: %v", int64(v), got, want, err)
		}
	}
	for v := range uint64(100_000) {
		hold(v)
	}
	for v := uint64(1); ; v *= 10 {
		for d := range uint64(3) {
			hold(v - 1 + d)
			hold(-(v - 1 + d))
		}
		if v > math.MaxUint64/10 {
			break
		}
	}
	for range 100_000 {
		hold(r.Uint64() >> r.IntN(64))
	}
}

// TestStrings puts what is special into every place of strings of every length up to some pieces of eight bytes.
func TestStrings(t *testing.T) {
	w := theWorld(t)
	m := w.message(t, "google.protobuf.StringValue")
	specials := []string{"", "\x00", "\x1f", " ", "!", "\"", "#", "[", "\\", "]", "\x7f", "\x80", "\xff", "\u00e9", "\u65e5", "\U0001f600", "\xed\xa0\x80", "\xc3", "\xe6\x97", "\ufffd", "\u2028", "\n\t\r\b\f", "\"\\\"", "\u00e9\""}
	for c := range 256 {
		for at := range 17 {
			w.compareWire(t, m, bytesField(1, []byte(strings.Repeat("x", at)+string([]byte{byte(c)})+strings.Repeat("y", 16-at))), 0)
			w.compareWire(t, m, bytesField(1, []byte(strings.Repeat("\"", at)+string([]byte{byte(c), '"'}))), 0)
		}
	}
	for size := range 28 {
		for at := range size + 1 {
			for _, s := range specials {
				w.compareWire(t, m, bytesField(1, []byte(strings.Repeat("x", at)+s+strings.Repeat("y", size-at))), 0)
			}
		}
	}
}

// TestVarints reads values in every length that they may have, in the middle of a message and at its end.
func TestVarints(t *testing.T) {
	w := theWorld(t)
	m := w.message(t, "google.protobuf.UInt64Value")
	r := rand.New(rand.NewPCG(13, 14))
	for range 20_000 {
		wire := binary.AppendUvarint([]byte{0x08}, r.Uint64()>>r.IntN(64))
		for range r.IntN(12 - len(wire) + 1) { // up to one byte too many
			wire[len(wire)-1] |= 0x80
			wire = append(wire, 0)
		}
		if n := r.IntN(3); n > 0 {
			wire = append(wire, bytesField(9, make([]byte, n*r.IntN(9)))...)
		} else if r.IntN(4) == 0 {
			wire = wire[:len(wire)-1]
		}
		w.compareWire(t, m, wire, 0)
	}
}

// TestTimes holds the calendar to that of package time, over the whole range.
func TestTimes(t *testing.T) {
	w := theWorld(t)
	g := &generator{Rand: rand.New(rand.NewPCG(7, 8)), w: w}
	m := w.message(t, "google.protobuf.Timestamp")
	for n := range 50_000 {
		secs := g.Int64N(253402300799+62135596800+200) - 62135596800 - 100
		if n%3 == 0 {
			secs = secs / 86400 * 86400 // midnight
		}
		wire := binary.AppendUvarint([]byte{0x08}, uint64(secs))
		wire = binary.AppendUvarint(append(wire, 0x10), uint64(pick(g, []int{0, 1, 10, 1000, 1_000_000, 999_999_999, 120_000_000})))
		w.compareWire(t, m, wire, 0)
		text, err := jsonwire.AppendJSON(nil, wire, m, nil)
		if err != nil {
			continue
		}
		w.compareJSON(t, m, text, false)
	}
}
