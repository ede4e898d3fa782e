package wire

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// kept is an engine that keeps the head of an answer.
type kept struct{ header rpc.Metadata }

func (*kept) Read([]byte) (int, error) { return 0, nil }
func (k *kept) Respond(_ int, header rpc.Metadata, _ []byte) error {
	k.header = append(k.header[:0], header...)
	return nil
}

func (k *kept) WriteHead(status int, header rpc.Metadata) error {
	return k.Respond(status, header, nil)
}
func (*kept) Write([]byte) error     { return nil }
func (*kept) Flush() error           { return nil }
func (*kept) End(rpc.Metadata) error { return nil }
func (*kept) Abort()                 {}

// dresser notes what it is shown and adds one header.
type dresser struct{ shown int }

func (d *dresser) AppendHeader(header rpc.Metadata, _ *Exchange) rpc.Metadata {
	d.shown = len(header)
	return append(header, rpc.Pair{Key: "dressed", Value: "1"})
}

// What plugins add to the answer goes out with it, whole or in pieces, before the Dresser's, and with this answer only.
func TestAnswerHeaders(t *testing.T) {
	k, d := &kept{}, &dresser{}
	x := &Exchange{}
	own := rpc.Metadata{{Key: "content-type", Value: "text/plain"}}
	for _, write := range []func() error{
		func() error { return x.Respond(200, own, nil) },
		func() error { return x.WriteHead(200, own) },
	} {
		for _, dressed := range []Dresser{nil, d} {
			x.Reset(k, nil)
			x.Dresser = dressed
			x.HTTP.Answer.Add("ratelimit-remaining", "1")
			if err := write(); err != nil {
				t.Fatal(err)
			}
			want := rpc.Metadata{own[0], {Key: "ratelimit-remaining", Value: "1"}}
			if dressed != nil {
				want = append(want, rpc.Pair{Key: "dressed", Value: "1"})
			}
			if diff := cmp.Diff(want, k.header); diff != "" || len(own) != 1 {
				t.Errorf("headers (-want +got):\n%s", diff)
			}
			x.Reset(k, nil)
			if err := write(); err != nil || len(k.header) != 1 {
				t.Errorf("the next answer: found %v %v", k.header, err)
			}
		}
	}
	if d.shown != 2 {
		t.Errorf("want the Dresser to see what plugins added, found %d", d.shown)
	}
}

func TestAnswerHeadersAllocs(t *testing.T) {
	k, x := &kept{}, &Exchange{}
	own := rpc.Metadata{{Key: "content-type", Value: "text/plain"}}
	if n := testing.AllocsPerRun(100, func() {
		x.Reset(k, nil)
		x.HTTP.Answer.Add("ratelimit-remaining", "1")
		_ = x.Respond(200, own, nil)
	}); n > 0 {
		t.Errorf("found %v", n)
	}
}
