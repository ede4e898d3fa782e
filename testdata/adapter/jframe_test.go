package jframe

import (
	"testing"

	"github.com/causeway-gateway/causeway/rpcadapters/adaptertest"
)

func TestBothEnds(t *testing.T) {
	adaptertest.Both(t, adaptertest.Ends{Adapter: Adapter{}, Inlet: Inlet{}})
}

func FuzzLabel(f *testing.F) {
	f.Add([]byte(`0000{"id":7,"method":"a.B/C"}`))
	f.Add([]byte(`0000{"id":4294967296}`))
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) < headSize {
			return
		}
		if l, err := (framing{}).Label(frame); err == nil && l.Kind != 0 {
			t.Errorf("want every frame to be a call's, found %+v", l)
		}
	})
}
