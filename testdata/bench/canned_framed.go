package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-gateway/causeway/testdata/bench/benchpb"
)

// framedAnswer is a frame made in advance; the id of the call is written into it.
type framedAnswer struct {
	frame []byte
	id    int // where the id stands, 4 bytes
	again int // where it stands once more as a varint of 5 bytes; 0: nowhere
}

// framed is what the canned backend says over TARS and tRPC: as with gRPC, the answer to Place, whatever is asked, a frame for
// each frame that has arrived, all in one write.
type framed struct{ tars, trpc framedAnswer }

func newFramed() (framed, error) {
	answer, err := proto.Marshal(order())
	if err != nil {
		return framed{}, err
	}
	return framed{tars: tarsAnswer(order()), trpc: trpcAnswer(answer)}, nil
}

// run answers the calls of one connection. The first byte says which protocol it is: a frame of TARS begins with its length,
// one of tRPC with 0x0930.
func (f *framed) run(conn net.Conn, first byte) error {
	answer, size, id := &f.tars, tarsSize, tarsID
	if first == trpcMagic>>8 {
		answer, size, id = &f.trpc, trpcSize, trpcID
	}
	buf, out := make([]byte, cannedReadSize), []byte(nil)
	buf[0] = first
	for have := 1; ; {
		n, err := conn.Read(buf[have:])
		if err != nil {
			return err
		}
		have += n
		rest := buf[:have]
		out = out[:0]
		for {
			n, err := size(rest)
			if err != nil {
				return err
			}
			if n == 0 || n > len(rest) {
				break
			}
			asked, err := id(rest[:n])
			if err != nil {
				return err
			}
			at := len(out)
			out = append(out, answer.frame...)
			binary.BigEndian.PutUint32(out[at+answer.id:], asked)
			if answer.again != 0 {
				putVarint(out[at+answer.again:], asked)
			}
			rest = rest[n:]
		}
		have = copy(buf, rest)
		if have == len(buf) {
			return errors.New("a frame larger than anything the bench sends")
		}
		if len(out) == 0 {
			continue
		}
		if _, err := conn.Write(out); err != nil {
			return err
		}
	}
}

var errCut = fmt.Errorf("a frame that says less than it must: %w", io.ErrUnexpectedEOF)

// TARS. The heads of fields are the tag in the upper half and the type in the lower.
const (
	tarsInt1, tarsInt2, tarsInt4, tarsInt8      = 0, 1, 2, 3
	tarsFloat, tarsDouble, tarsText1, tarsText4 = 4, 5, 6, 7
	tarsMap, tarsList, tarsStruct, tarsEnd      = 8, 9, 10, 11
	tarsZero, tarsBytes                         = 12, 13
	tarsIDTag                                   = 4 // of a request
)

// tarsSize is the size of the first frame in b, 0 while that is not known.
func tarsSize(b []byte) (int, error) {
	if len(b) < 4 {
		return 0, nil
	}
	n := binary.BigEndian.Uint32(b)
	if n < 8 || n > cannedReadSize {
		return 0, fmt.Errorf("a TARS frame of %d bytes", n)
	}
	return int(n), nil
}

// tarsID finds the id in a request: its fields come in ascending order, and the three before it are integers.
func tarsID(frame []byte) (uint32, error) {
	for b := frame[4:]; len(b) > 0; {
		tag, kind := b[0]>>4, b[0]&15
		b = b[1:]
		n := 0
		switch kind {
		case tarsInt1, tarsInt2, tarsInt4:
			n = 1 << kind
		case tarsZero:
		default:
			return 0, fmt.Errorf("want an integer before the id of a TARS request, got type %d", kind)
		}
		if len(b) < n {
			break
		}
		if tag != tarsIDTag {
			b = b[n:]
			continue
		}
		switch n {
		case 1:
			return uint32(int32(int8(b[0]))), nil //nolint:gosec // ids are signed and grow into wider ones
		case 2:
			return uint32(int32(int16(binary.BigEndian.Uint16(b)))), nil //nolint:gosec // as above
		case 4:
			return binary.BigEndian.Uint32(b), nil
		}
		return 0, nil
	}
	return 0, errCut
}

// tarsAnswer is a ResponsePacket of version 1 with the return value 0 and the out parameter.
func tarsAnswer(o *benchpb.Order) framedAnswer {
	body := appendTARSInt(nil, 0, 0)
	body = append(body, 2<<4|tarsStruct)
	body = appendTARSOrder(body, o)
	body = append(body, tarsEnd)

	b := []byte{0, 0, 0, 0}
	b = appendTARSInt(b, 1, 1)   // iVersion
	b = appendTARSInt(b, 2, 0)   // cPacketType
	b = append(b, 3<<4|tarsInt4) // iRequestId
	id := len(b)
	b = append(b, 0, 0, 0, 0)
	b = appendTARSInt(b, 4, 0)       // iMessageType
	b = appendTARSInt(b, 5, 0)       // iRet
	b = append(b, 6<<4|tarsBytes, 0) // sBuffer
	b = appendTARSInt(b, 0, int64(len(body)))
	b = append(b, body...)
	b = append(b, 7<<4|tarsMap) // status
	b = appendTARSInt(b, 0, 0)
	binary.BigEndian.PutUint32(b, uint32(len(b))) //nolint:gosec // a few hundred
	return framedAnswer{frame: b, id: id}
}

func appendTARSOrder(b []byte, o *benchpb.Order) []byte {
	b = appendTARSText(b, 0, o.GetOrderId())
	b = appendTARSInt(b, 1, o.GetSequence())
	b = appendTARSInt(b, 2, int64(o.GetState()))
	b = appendTARSDouble(b, 3, o.GetTotal())
	b = append(b, 4<<4|tarsStruct)
	b = appendTARSText(b, 0, o.GetBuyer().GetName())
	b = appendTARSText(b, 1, o.GetBuyer().GetEmail())
	b = appendTARSInt(b, 2, int64(o.GetBuyer().GetLevel()))
	b = append(b, tarsEnd, 5<<4|tarsList)
	b = appendTARSInt(b, 0, int64(len(o.GetItems())))
	for _, item := range o.GetItems() {
		b = append(b, tarsStruct)
		b = appendTARSText(b, 0, item.GetSku())
		b = appendTARSInt(b, 1, int64(item.GetCount()))
		b = appendTARSDouble(b, 2, item.GetPrice())
		b = append(b, tarsEnd)
	}
	b = append(b, 6<<4|tarsList)
	b = appendTARSInt(b, 0, int64(len(o.GetTags())))
	for _, tag := range o.GetTags() {
		b = appendTARSText(b, 0, tag)
	}
	return appendTARSText(b, 7, o.GetNote())
}

// appendTARSInt appends an integer in as few bytes as it needs.
func appendTARSInt(b []byte, tag byte, v int64) []byte {
	switch {
	case v == 0:
		return append(b, tag<<4|tarsZero)
	case v == int64(int8(v)):
		return append(b, tag<<4|tarsInt1, byte(v))
	case v == int64(int16(v)):
		return binary.BigEndian.AppendUint16(append(b, tag<<4|tarsInt2), uint16(v)) //nolint:gosec // it fits
	case v == int64(int32(v)):
		return binary.BigEndian.AppendUint32(append(b, tag<<4|tarsInt4), uint32(v)) //nolint:gosec // it fits
	default:
		return binary.BigEndian.AppendUint64(append(b, tag<<4|tarsInt8), uint64(v)) //nolint:gosec // the same bits
	}
}

func appendTARSDouble(b []byte, tag byte, v float64) []byte {
	return binary.BigEndian.AppendUint64(append(b, tag<<4|tarsDouble), math.Float64bits(v))
}

// appendTARSText appends a string of at most 255 bytes.
func appendTARSText(b []byte, tag byte, s string) []byte {
	return append(append(b, tag<<4|tarsText1, byte(len(s))), s...)
}

// tRPC: 16 bytes, a header in protobuf, the body.
const (
	trpcMagic = 0x0930
	trpcFixed = 16
	trpcIDTag = 3 // in both headers
)

// trpcSize is the size of the first frame in b, 0 while that is not known.
func trpcSize(b []byte) (int, error) {
	if len(b) < trpcFixed {
		return 0, nil
	}
	n := binary.BigEndian.Uint32(b[4:])
	if binary.BigEndian.Uint16(b) != trpcMagic || n < trpcFixed || n > cannedReadSize {
		return 0, fmt.Errorf("no tRPC frame: % x", b[:trpcFixed])
	}
	return int(n), nil
}

// trpcID finds the id in the header of a request.
func trpcID(frame []byte) (uint32, error) {
	size := int(binary.BigEndian.Uint16(frame[8:]))
	if len(frame) < trpcFixed+size {
		return 0, errCut
	}
	for b := frame[trpcFixed : trpcFixed+size]; len(b) > 0; {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		b = b[n:]
		if num == trpcIDTag && typ == protowire.VarintType {
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return 0, protowire.ParseError(n)
			}
			return uint32(v), nil //nolint:gosec // it is an uint32
		}
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return 0, protowire.ParseError(n)
		}
		b = b[n:]
	}
	return 0, errCut
}

// trpcAnswer is a frame with a message of protobuf. Its id is a varint of 5 bytes, so that any fits.
func trpcAnswer(body []byte) framedAnswer {
	head := protowire.AppendTag(nil, trpcIDTag, protowire.VarintType)
	again := trpcFixed + len(head)
	head = append(head, 0x80, 0x80, 0x80, 0x80, 0)
	b := binary.BigEndian.AppendUint16(nil, trpcMagic)
	b = append(b, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(trpcFixed+len(head)+len(body))) //nolint:gosec // a few hundred
	b = binary.BigEndian.AppendUint16(b, uint16(len(head)))                     //nolint:gosec // 6
	b = append(b, 0, 0, 0, 0, 1, 0)                                             // the id, the version
	b = append(b, head...)
	return framedAnswer{frame: append(b, body...), id: 10, again: again}
}

// putVarint writes v as a varint of 5 bytes.
func putVarint(dst []byte, v uint32) {
	for i := range 4 {
		dst[i] = byte(v) | 0x80
		v >>= 7
	}
	dst[4] = byte(v)
}
