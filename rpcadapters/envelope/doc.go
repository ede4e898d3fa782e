// Package envelope is the framing that gRPC, gRPC-Web and Connect's streams share: messages with a prefix of five bytes, one
// of flags and four of length, each compressed on its own or not. It reads requests from an exchange and writes answers to
// one, and knows the compressions.
//
// The framing is Length-Prefixed-Message of grpc/doc/PROTOCOL-HTTP2.md and Enveloped-Message of
// https://connectrpc.com/docs/protocol/#streaming-request.
package envelope

import (
	"encoding/binary"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// PrefixLen is the length of the prefix of a message.
const PrefixLen = 5

// Flags of a message.
const (
	Compressed byte = 1 << 0
	EndStream  byte = 1 << 1 // Connect: the message is the end of the stream, not one of the method's
	Trailer    byte = 1 << 7 // gRPC-Web: the message is the trailers
)

// Prefix is the prefix of a message of size bytes.
func Prefix(flags byte, size int) [PrefixLen]byte {
	var p [PrefixLen]byte
	p[0] = flags
	binary.BigEndian.PutUint32(p[1:], uint32(size)) //nolint:gosec // messages are limited far below 4 GiB
	return p
}

// Codes of what is wrong with a framing are those of grpc/doc/statuscodes.md: what the library of the other side must have
// got wrong is INTERNAL, a message too many or too few UNIMPLEMENTED, one that is too large RESOURCE_EXHAUSTED.

func malformed(format string, args ...any) *rpc.Error {
	return rpc.Refuse(codes.Internal, "MALFORMED_MESSAGE", format, args...).WithStatus(400)
}

func tooLarge(limit int) *rpc.Error {
	return rpc.Refuse(codes.ResourceExhausted, "MESSAGE_TOO_LARGE", "the message is larger than %d bytes", limit).WithStatus(413)
}

func overloaded() *rpc.Error {
	e := rpc.Refuse(codes.Unavailable, "TRANSLATION_BUDGET", "the gateway is translating as much as it may at one moment: try again")
	e.Header.Add("retry-after", "1")
	return e
}

func cardinality(message string) *rpc.Error {
	return rpc.Refuse(codes.Unimplemented, "CARDINALITY", "%s", message)
}
