package main

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/causeway-gateway/causeway/testdata/bench/benchpb"
)

// BenchmarkCanned is what the canned backend costs per call without the network: it must stay far below any gateway.
func BenchmarkCanned(b *testing.B) {
	c, err := newCanned()
	if err != nil {
		b.Fatal(err)
	}
	const calls = 2048 // so many that making the connection does not count
	var (
		in    []byte
		block bytes.Buffer
	)
	enc := hpack.NewEncoder(&block)
	for i := range uint32(calls) {
		block.Reset()
		for _, f := range [][2]string{
			{":method", "POST"},
			{":scheme", "http"},
			{":path", benchpb.Orders_Place_FullMethodName},
			{":authority", "127.0.0.1:50051"},
			{"content-type", "application/grpc"},
			{"user-agent", "grpc-go/1.85.0"},
			{"te", "trailers"},
			{"grpc-timeout", fmt.Sprintf("%du", 9_000_000+i)},
			{"traceparent", fmt.Sprintf("00-%032x-%016x-01", i*7919, i)},
		} {
			if err := enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
				b.Fatal(err)
			}
		}
		in = appendFrame(in, http2.FrameHeaders, http2.FlagHeadersEndHeaders, 2*i+1, block.Bytes()...)
		in = appendFrame(in, http2.FrameData, http2.FlagDataEndStream, 2*i+1, make([]byte, 113)...)
	}
	open := appendFrame(nil, http2.FrameSettings, 0, 0, 0, byte(http2.SettingInitialWindowSize), 0x7f, 0, 0, 0)
	open = appendWindowUpdate(open, 0, 1<<30)
	b.ReportAllocs()
	for b.Loop() {
		conn := &memoryConn{in: io.MultiReader(bytes.NewReader([]byte(http2.ClientPreface)), bytes.NewReader(open), bytes.NewReader(in))}
		_ = c.run(conn) // always ends with io.EOF
		conn.out.Reset()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*calls), "ns/call")
}
