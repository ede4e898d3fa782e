package tars

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/causeway-gateway/causeway/rpcadapters/wire/framed"
	"github.com/causeway-gateway/causeway/transcode/tarswire"
)

// headSize is the bytes of a frame's length, which counts them too.
const headSize = 4

// framing is what both directions have in common.
type framing struct{}

// Head implements framed.Framing.
func (framing) Head() int { return headSize }

// Length implements framed.Framing.
func (framing) Length(head []byte) (int, error) {
	n := binary.BigEndian.Uint32(head)
	if n < headSize || n > 1<<31-1 {
		return 0, fmt.Errorf("wanted the length of a packet, found %d", n)
	}
	return int(n), nil
}

var (
	errNoID  = errors.New("a packet without a request id")
	errShort = errors.New("an empty packet")
)

// answers are the frames that a client gets.
type answers struct{ framing }

// Label implements framed.Framing. An answer of version 2 or 3 is laid out as a request. Frames with the id 0 are pushes.
func (answers) Label(frame []byte) (framed.Label, error) {
	id, _, err := idOf(frame, 3)
	switch {
	case err != nil:
		return framed.Label{}, err
	case id != 0:
		return framed.Label{ID: uint32(id)}, nil //nolint:gosec // the same bits
	}
	var r Response
	if ParseResponse(&r, frame[headSize:]) == nil && string(r.Desc) == Reconnect {
		return framed.Label{Kind: framed.Leave}, nil
	}
	return framed.Label{Kind: framed.Noise}, nil
}

// requests are the frames that a server gets.
type requests struct{ framing }

// Label implements framed.Framing.
func (requests) Label(frame []byte) (framed.Label, error) {
	id, v, err := idOf(frame, 4)
	return framed.Label{ID: uint32(id), Form: formOf(v)}, err //nolint:gosec // the same bits
}

// Forms of packets: how the answers of a version are laid out.
const (
	asAnswer  = iota
	asRequest // those of TUP
)

func formOf(version int64) uint8 {
	if version == VersionTUP || version == VersionTUP2 {
		return asRequest
	}
	return asAnswer
}

// idOf reads the id of a packet, of which the beginning is enough, and the version if that comes first; tag is where versions other
// than 2 and 3 have the id.
func idOf(frame []byte, tag uint8) (id int32, version int64, err error) {
	if len(frame) <= headSize {
		return 0, 0, errShort
	}
	in := tarswire.NewReader(frame[headSize:])
	// Nearly all have them in order.
	if v, ok := in.Number(1, tarswire.Short); ok {
		if version = v; formOf(v) == asRequest {
			tag = 4
		}
		for at := uint8(2); at <= tag; at++ {
			if v, ok = in.Number(at, tarswire.Int); !ok {
				break
			}
			if at == tag {
				return int32(v), version, nil //nolint:gosec // no wider type is read
			}
		}
	}
	for in.More() {
		at, t := in.Head()
		switch {
		case in.Fault() != "":
		case at == 1:
			if version = in.Int(t, tarswire.Short); formOf(version) == asRequest {
				tag = 4
			}
		case at == tag:
			v := in.Int(t, tarswire.Int)
			if in.Fault() == "" {
				return int32(v), version, nil //nolint:gosec // no wider type is read
			}
		default:
			in.Skip(t)
		}
	}
	return 0, 0, errNoID
}

// appendFrame appends a frame whose content add appends.
func putLength(dst []byte, at int) []byte {
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at)) //nolint:gosec // checked by whoever made the body
	return dst
}
