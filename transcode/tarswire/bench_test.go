package tarswire_test

import (
	"os"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
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

// BenchmarkOrder translates the messages of the module's bench: a request to TARS, and an answer to wire bytes.
func BenchmarkOrder(b *testing.B) {
	idl, err := os.ReadFile("../../testdata/bench/bench.tars")
	if err != nil {
		b.Fatal(err)
	}
	f := function(b, compile(b, string(idl)), "/Bench.Orders/place")
	wireOf := func(m *tarswire.Message, text string) []byte {
		msg := dynamicpb.NewMessage(m.Schema.Desc)
		if err := protojson.Unmarshal([]byte(text), msg); err != nil {
			b.Fatal(err)
		}
		wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(msg)
		if err != nil {
			b.Fatal(err)
		}
		return wire
	}
	request := wireOf(f.In, `{"request":{"orderId":"ord-7f3a91c2-55d0","sequence":"9007199254740993","total":1284.5,
		"buyer":{"name":"Zoë Brandt","email":"zoe@example.com","level":3},"tags":["gift","fragile","next-day-van"],"express":true}}`)
	answer, err := tarswire.AppendTARS(nil, wireOf(f.Out, `{"order":{"orderId":"ord-7f3a91c2-55d0","sequence":"9007199254740993","state":2,"total":1284.5,
		"buyer":{"name":"Zoë Brandt","email":"zoe@example.com","level":3},
		"items":[{"sku":"SKU-100381","count":2,"price":499.25},{"sku":"SKU-200773","count":1,"price":286}],
		"tags":["gift","fragile"],"note":"leave it at \"the blue door\""}}`), f.Out, &tarswire.Options{Zeros: true})
	if err != nil {
		b.Fatal(err)
	}
	dst := make([]byte, 0, 64<<10)
	b.Run("to_TARS", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := tarswire.AppendTARS(dst, request, f.In, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("to_wire", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := tarswire.AppendWire(dst, answer, f.Out, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}
