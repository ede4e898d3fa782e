package jsonwire_test

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"math/rand/v2"
	"strconv"
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
