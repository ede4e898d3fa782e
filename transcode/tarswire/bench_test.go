package tarswire_test

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/causeway-gateway/causeway/transcode/tarswire"
)

// BenchmarkCodec translates the samples of some messages, and beside it parses the same bytes with dynamicpb.
func BenchmarkCodec(b *testing.B) {
	s := kit(b)
	for _, name := range []string{"Kit.Node", "Kit.Scalars", "Kit.Nasty"} {
		m := table(b, s, name)
		wire := samples(b, m)[0]
		tars, err := tarswire.AppendTARS(nil, wire, m, nil)
		if err != nil {
			b.Fatal(err)
		}
		dst := make([]byte, 0, 64<<10)
		b.Run(name+"/to_TARS", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(wire)))
			for b.Loop() {
				if _, err := tarswire.AppendTARS(dst, wire, m, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/to_wire", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(tars)))
			for b.Loop() {
				if _, err := tarswire.AppendWire(dst, tars, m, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/dynamicpb", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(wire)))
			for b.Loop() {
				if err := proto.Unmarshal(wire, dynamicpb.NewMessage(m.Schema.Desc)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
