package http2

import "encoding/binary"

func appendFrameHeader(dst []byte, length int, typ frameType, flags uint8, stream uint32) []byte {
	return append(dst, byte(length>>16), byte(length>>8), byte(length), byte(typ), flags, //nolint:gosec // byte by byte
		byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream)) //nolint:gosec // byte by byte
}

// appendData appends one DATA frame of the two pieces together, at most the peer's frame size.
func appendData(dst []byte, stream uint32, end bool, prefix, data []byte) []byte {
	var flags uint8
	if end {
		flags = flagEndStream
	}
	dst = appendFrameHeader(dst, len(prefix)+len(data), frameData, flags, stream)
	dst = append(dst, prefix...)
	return append(dst, data...)
}

// appendHeaders appends a header block as HEADERS and, above frameSize bytes, CONTINUATION frames.
func appendHeaders(dst []byte, stream uint32, end bool, block []byte, frameSize int) []byte {
	var flags uint8
	if end {
		flags = flagEndStream
	}
	typ := frameHeaders
	for len(block) > frameSize {
		dst = appendFrameHeader(dst, frameSize, typ, flags, stream)
		dst = append(dst, block[:frameSize]...)
		block, typ, flags = block[frameSize:], frameContinuation, 0
	}
	dst = appendFrameHeader(dst, len(block), typ, flags|flagEndHeaders, stream)
	return append(dst, block...)
}

func appendRSTStream(dst []byte, stream uint32, code ErrCode) []byte {
	dst = appendFrameHeader(dst, 4, frameRSTStream, 0, stream)
	return binary.BigEndian.AppendUint32(dst, uint32(code))
}

func appendSettings(dst []byte, values ...setting) []byte {
	dst = appendFrameHeader(dst, 6*len(values), frameSettings, 0, 0)
	for _, v := range values {
		dst = binary.BigEndian.AppendUint16(dst, uint16(v.id))
		dst = binary.BigEndian.AppendUint32(dst, v.value)
	}
	return dst
}

func appendSettingsAck(dst []byte) []byte {
	return appendFrameHeader(dst, 0, frameSettings, flagAck, 0)
}

// appendPing appends a PING with the 8 bytes of data.
func appendPing(dst []byte, ack bool, data []byte) []byte {
	var flags uint8
	if ack {
		flags = flagAck
	}
	dst = appendFrameHeader(dst, 8, framePing, flags, 0)
	return append(dst, data[:8]...)
}

func appendGoAway(dst []byte, last uint32, code ErrCode, debug string) []byte {
	dst = appendFrameHeader(dst, 8+len(debug), frameGoAway, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, last)
	dst = binary.BigEndian.AppendUint32(dst, uint32(code))
	return append(dst, debug...)
}

func appendWindowUpdate(dst []byte, stream, increment uint32) []byte {
	dst = appendFrameHeader(dst, 4, frameWindowUpdate, 0, stream)
	return binary.BigEndian.AppendUint32(dst, increment)
}
