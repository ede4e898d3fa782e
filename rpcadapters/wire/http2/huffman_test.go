package http2

import (
	"math/rand/v2"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// What x/net's decoder takes or refuses, ours takes or refuses, whole strings and damaged ones of many lengths.
func TestHuffmanAsXNet(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // damage that comes again
	tries := 100_000
	if raceEnabled {
		tries = 10_000
	}
	for range tries {
		text := make([]byte, rng.IntN(40))
		for i := range text {
			if text[i] = byte(rng.Uint32()); rng.IntN(4) > 0 {
				text[i] = 'a' + text[i]%26
			}
		}
		p := hpack.AppendHuffmanString(nil, string(text))
		if len(p) > 0 && rng.IntN(2) == 0 {
			p[rng.IntN(len(p))] ^= 1 << rng.IntN(8)
		}
		if rng.IntN(8) == 0 {
			p = append(p, 0xff)
		}
		got, ok := appendHuffmanDecoded(nil, p)
		want, err := hpack.HuffmanDecodeToString(p)
		if ok != (err == nil) || ok && string(got) != want {
			t.Fatalf("%x: found %q %v, want %q %v", p, got, ok, want, err)
		}
	}
}

func BenchmarkHuffman(b *testing.B) {
	p := hpack.AppendHuffmanString(nil, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	var text []byte
	for b.Loop() {
		text, _ = appendHuffmanDecoded(text[:0], p)
	}
	if len(text) != 55 {
		b.Fatalf("found %q", text)
	}
}
