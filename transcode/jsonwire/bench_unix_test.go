//go:build unix

package jsonwire_test

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/causeway-gateway/causeway/transcode/jsonwire"
)

// processorTime is what the process has used, garbage collector included: on a busy machine the clock on the wall says
// little.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRatio runs codec and oracle in turns and reports processor time: ours, theirs and the median of the ratios of
// its rounds.
func BenchmarkRatio(b *testing.B) {
	m := theWorld(b).message(b, "test.three.Request")
	for _, c := range benchCases(b, m) {
		in := []byte(c.json)
		var dst []byte
		var err error
		check := func(b *testing.B) {
			b.Helper()
			if err != nil {
				b.Fatal(err)
			}
		}
		for _, d := range []struct {
			name         string
			ours, theirs func()
		}{
			{
				"to_wire",
				func() { dst, err = jsonwire.AppendWire(dst[:0], in, m, nil) },
				func() {
					msg := dynamicpb.NewMessage(m.Desc)
					if err = protojson.Unmarshal(in, msg); err == nil {
						dst, err = proto.MarshalOptions{}.MarshalAppend(dst[:0], msg)
					}
				},
			},
			{
				"to_JSON",
				func() { dst, err = jsonwire.AppendJSON(dst[:0], c.wire, m, nil) },
				func() {
					msg := dynamicpb.NewMessage(m.Desc)
					if err = proto.Unmarshal(c.wire, msg); err == nil {
						dst, err = protojson.MarshalOptions{}.MarshalAppend(dst[:0], msg)
					}
				},
			},
		} {
			b.Run(c.name+"/"+d.name, func(b *testing.B) {
				const rounds = 7
				each := max(1, 2_000_000/len(in)) // runs of the faster side in a round
				var ours, theirs, ratios []float64
				measure := func(f func(), n int) float64 {
					start := processorTime(b)
					for range n {
						f()
					}
					check(b)
					return float64(processorTime(b)-start) / float64(n)
				}
				for b.Loop() {
					for range rounds {
						a, z := measure(d.ours, each), measure(d.theirs, each/10)
						ours, theirs, ratios = append(ours, a), append(theirs, z), append(ratios, z/a)
					}
				}
				median := func(s []float64) float64 { slices.Sort(s); return s[len(s)/2] }
				b.ReportMetric(median(ours), "cpu-ns/ours")
				b.ReportMetric(median(theirs), "cpu-ns/theirs")
				b.ReportMetric(median(ratios), "times")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// BenchmarkOrders compares the worst orders with the best, see TestLinear: processor time in order and out of order, and the
// median of the ratios of its rounds.
func BenchmarkOrders(b *testing.B) {
	for _, o := range orders(b) {
		b.Run(strings.ReplaceAll(o.name, " ", "_"), func(b *testing.B) {
			var dst []byte
			measure := func(in []byte) float64 {
				const runs = 5
				start := processorTime(b)
				for range runs {
					var err error
					if o.json {
						dst, err = jsonwire.AppendWire(dst[:0], in, o.m, nil)
					} else {
						dst, err = jsonwire.AppendJSON(dst[:0], in, o.m, nil)
					}
					if err != nil {
						b.Fatal(err)
					}
				}
				return float64(processorTime(b)-start) / runs
			}
			var best, worst, ratios []float64
			for b.Loop() {
				for range 7 {
					x, y := measure(o.best), measure(o.worst)
					best, worst, ratios = append(best, x), append(worst, y), append(ratios, y/x)
				}
			}
			median := func(s []float64) float64 { slices.Sort(s); return s[len(s)/2] }
			b.ReportMetric(median(best), "cpu-ns/ordered")
			b.ReportMetric(median(worst), "cpu-ns/out-of-order")
			b.ReportMetric(median(ratios), "times")
			b.ReportMetric(0, "ns/op")
		})
	}
}
