package trpc

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/causeway-gateway/causeway/rpcadapters/wire/framed"
)

// framing is what framed has to know of frames.
type framing struct{}

// Head implements framed.Framing.
func (framing) Head() int { return headLen }

// Length implements framed.Framing; the limit is framed's.
func (framing) Length(b []byte) (int, error) {
	var h head
	if err := h.parse(b, noLimit); err != nil {
		return 0, err
	}
	return h.size, nil
}

const noLimit = 1<<31 - 1

// Label implements framed.Framing.
func (framing) Label(frame []byte) (framed.Label, error) {
	var h head
	if err := h.parse(frame, noLimit); err != nil {
		return framed.Label{}, err
	}
	l := framed.Label{Kind: framed.Unary, ID: h.id}
	switch {
	case h.frame == frameStream:
		l.Kind = framed.OfStream
	case h.id == 0:
		l.ID = headerID(frame[headLen:min(len(frame), headLen+h.header)])
	}
	return l, nil
}

// headerID is the number of a call that its header has: peers of protocol version 0 do not put it into the head. The header may
// be cut.
func headerID(header []byte) uint32 {
	for len(header) > 0 {
		n, t, m := protowire.ConsumeTag(header)
		if m < 0 {
			return 0
		}
		header = header[m:]
		if n == 3 && t == protowire.VarintType {
			id, m := protowire.ConsumeVarint(header)
			if m < 0 {
				return 0
			}
			return uint32(id) //nolint:gosec // what the field holds
		}
		if m = protowire.ConsumeFieldValue(n, t, header); m < 0 {
			return 0
		}
		header = header[m:]
	}
	return 0
}
