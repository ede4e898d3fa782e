package expr

import (
	"bytes"
	"errors"
	"runtime"
	"testing"
	"time"

	"cel.dev/cel-go/common/types"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/known/durationpb"

	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
	"github.com/causeway-gateway/causeway/testdata/descriptors"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// A message that comes in many parts is put together once, not anew for each part.
func TestPartsOfAMessage(t *testing.T) {
	c, b := callOf(t, values())
	tag := protowire.AppendTag(nil, 10, protowire.BytesType)
	part := protowire.AppendBytes(protowire.AppendTag(nil, 9, protowire.BytesType), protowire.AppendString(tag, "0123456789"))
	b.data = bytes.Repeat(part, 20_000)
	p, err := Bool("message.nested.text == ''")
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	ok, err := p.Bool(t.Context(), c, nil)
	runtime.ReadMemStats(&after)
	if !ok || err != nil {
		t.Fatalf("found %t, %v", ok, err)
	}
	if n, most := after.TotalAlloc-before.TotalAlloc, uint64(16*len(b.data)); n > most {
		t.Errorf("parts of %d bytes took %d bytes to put together, want at most %d", len(b.data), n, most)
	}
}

// What an evaluation goes through of a message is bounded, however often it asks.
func TestWorkIsBounded(t *testing.T) {
	c, b := callOf(t, &echov1.Values{Tags: make([]string, 9000)})
	small := protowire.AppendVarint(protowire.AppendTag(nil, 2, protowire.VarintType), 1)
	group := protowire.AppendTag(nil, 99, protowire.StartGroupType)
	group = protowire.AppendTag(append(group, bytes.Repeat(small, 100_000)...), 99, protowire.EndGroupType)
	for name, more := range map[string][]byte{
		"fields":      bytes.Repeat(small, 100_000),
		"unknown":     group,
		"a long text": protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), make([]byte, 200_000)),
	} {
		b.data = append(b.data[:9000*2:9000*2], more...)
		for text, want := range map[string]error{
			"message.tags.map(x, message.text).size() > 0":           errWork,
			"message.text != 'x' && message.tags.all(x, x == '')":    nil,
			"message.small_number >= 0 && has(message.small_number)": nil,
		} {
			p, err := Bool(text)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.Bool(t.Context(), c, nil); !errors.Is(err, want) {
				t.Errorf("%s, %s: found %v, want %v", name, text, err, want)
			}
		}
	}
}

// A duration that is longer than Go's stays long.
func TestLongDuration(t *testing.T) {
	files, err := protodesc.NewFiles(descriptors.Set(durationpb.File_google_protobuf_duration_proto))
	if err != nil {
		t.Fatal(err)
	}
	s, err := schema.New(files)
	if err != nil {
		t.Fatal(err)
	}
	typ, ok := s.Message("google.protobuf.Duration")
	if !ok {
		t.Fatal("no message")
	}
	for _, want := range []*durationpb.Duration{{Seconds: 3, Nanos: 5}, {Seconds: 18446744074}, {Seconds: -18446744074}, {Seconds: -3, Nanos: -5}} {
		raw, err := proto.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got := known(message{raw, typ, new(int)})
		if d, ok := got.(types.Duration); !ok || d.Duration != want.AsDuration() {
			t.Errorf("%d s: found %v, want %s", want.GetSeconds(), got, want.AsDuration().Round(time.Second))
		}
	}
}
