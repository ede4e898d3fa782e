package jsonwire_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

const (
	// requestJSON has six fields, nested and repeated ones among them.
	requestJSON = `{"name":"orders/4711","total":"129900","urgent":true,"address":{"street":"12 Harbour Road","city":"Lisbon"},` +
		`"items":[{"sku":"KB-104","quantity":2},{"sku":"MS-7","quantity":1}],"tags":["gift","fragile"]}`
	answerJSON = `{"name":"orders/4711","total":"129900","urgent":true,"address":{"street":"12 Harbour Road","city":"Lisbon","country":"PT"},` +
		`"items":[{"sku":"KB-104","quantity":2,"price":49.95},{"sku":"MS-7","quantity":1,"price":30}],"tags":["gift","fragile"],` +
		`"labels":{"channel":"web","region":"eu-west-1"},"created":"2026-11-22T05:50:23.120Z","color":"GREEN"}`
)

// largeJSON is an answer of 10 KB.
func largeJSON() string {
	var items []string
	for i := range 170 {
		items = append(items, fmt.Sprintf(`{"sku":"SKU-%06d-%c","quantity":%d,"price":%d.25}`, i*7919, 'A'+i%26, i%9+1, i*3+1))
	}
	return answerJSON[:len(answerJSON)-1] + `,"items":[` + strings.Join(items, ",") + `]}`
}

// largeAnswer is largeJSON with one list of items.
func largeAnswer() string {
	s := largeJSON()
	first := strings.Index(s, `"items":[`)
	end := strings.Index(s[first:], "]") + first + 2
	return s[:first] + s[end:]
}

type benchCase struct {
	name string
	json string
	wire []byte
}

func benchCases(tb testing.TB, m *schema.Message) []benchCase {
	tb.Helper()
	cases := []benchCase{
		{name: fmt.Sprintf("request_%dB", len(requestJSON)), json: requestJSON},
		{name: fmt.Sprintf("answer_%dB", len(answerJSON)), json: answerJSON},
		{name: "answer_10KB", json: largeAnswer()},
	}
	for i := range cases {
		wire, err := jsonwire.AppendWire(nil, []byte(cases[i].json), m, nil)
		if err != nil {
			tb.Fatal(err)
		}
		cases[i].wire = wire
	}
	return cases
}

func BenchmarkToWire(b *testing.B) {
	m := theWorld(b).message(b, "test.three.Request")
	for _, c := range benchCases(b, m) {
		in := []byte(c.json)
		b.Run(c.name+"/jsonwire", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(in)))
			var dst []byte
			for b.Loop() {
				var err error
				if dst, err = jsonwire.AppendWire(dst[:0], in, m, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(c.name+"/protojson", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(in)))
			var dst []byte
			for b.Loop() {
				msg := dynamicpb.NewMessage(m.Desc)
				if err := protojson.Unmarshal(in, msg); err != nil {
					b.Fatal(err)
				}
				var err error
				if dst, err = (proto.MarshalOptions{}).MarshalAppend(dst[:0], msg); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkToJSON(b *testing.B) {
	m := theWorld(b).message(b, "test.three.Request")
	for _, c := range benchCases(b, m) {
		b.Run(c.name+"/jsonwire", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(c.json)))
			var dst []byte
			for b.Loop() {
				var err error
				if dst, err = jsonwire.AppendJSON(dst[:0], c.wire, m, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(c.name+"/protojson", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(c.json)))
			var dst []byte
			for b.Loop() {
				msg := dynamicpb.NewMessage(m.Desc)
				if err := proto.Unmarshal(c.wire, msg); err != nil {
					b.Fatal(err)
				}
				var err error
				if dst, err = (protojson.MarshalOptions{}).MarshalAppend(dst[:0], msg); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRequest(b *testing.B) {
	m := theWorld(b).message(b, "test.three.Request")
	name, err := m.Path("name")
	if err != nil {
		b.Fatal(err)
	}
	b.Run("path_and_query", func(b *testing.B) {
		b.ReportAllocs()
		var dst []byte
		var params []jsonwire.Param
		for b.Loop() {
			params = append(params[:0], jsonwire.Param{Field: name, Value: "orders/4711", From: jsonwire.FromPath})
			if params, err = jsonwire.AppendQuery(params, m, "total=50&tags=a&tags=b&urgent=true", nil, nil); err != nil {
				b.Fatal(err)
			}
			if dst, err = jsonwire.AppendRequest(dst[:0], &jsonwire.Request{Message: m, Params: params}, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}
