package grpc

import (
	"context"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// sight is what was seen of the peer before a call failed.
type sight struct {
	sent         bool // a stream was opened on a connection
	header       bool // an answer's head arrived
	trailersOnly bool // the answer was one block of trailers
}

// localFaults begin the messages that grpc-go makes itself when an answer breaks after its head, in full: a service may
// use the same first words.
var localFaults = [...]string{
	"error reading from server: ", "stream terminated by RST_STREAM with error code", "transport is closing",
	"transport: malformed grpc-status", "transport: malformed ", "connection error: ", "closing transport due to: ",
	"grpc: received message larger than max", "grpc: received message after decompression larger than max",
	"grpc: message after decompression larger than max", "grpc: received unexpected payload format",
	"grpc: failed to decompress", "grpc: failed to read decompressed data", "grpc: failed to unmarshal the received message",
	"grpc: no decompressor available", "grpc: compressed flag set with identity", "grpc: Decompressor is not installed",
	"grpc: want a *rpc.Message", "server closed the stream without sending trailers", "cardinality violation: ",
	"peer header list size exceeded limit", "a HEADERS frame cannot appear in the middle of a stream",
	"unexpected EOF", "keepalive ping failed to receive ACK",
}

// fromServer tells a status that the server sent from one that grpc-go made of a broken connection or answer.
func (s sight) fromServer(message string) bool {
	if s.trailersOnly {
		return true
	}
	if !s.header {
		return false
	}
	for _, p := range localFaults {
		if strings.HasPrefix(message, p) {
			return false
		}
	}
	return true
}

// fault makes the gateway's error of grpc-go's. A status from the server passes as it is; what the transport says of
// addresses and causes is for the log only.
func (t *transport) fault(ctx context.Context, err error, seen sight) error {
	st, _ := status.FromError(err)
	if seen.fromServer(st.Message()) {
		e := &rpc.Error{Code: st.Code(), Message: st.Message(), Class: rpc.Business, Executed: true, Native: int32(st.Code())} //nolint:gosec // as it came from the wire
		if !known(e.Code) {
			e.Code = codes.Unknown
		}
		for _, d := range st.Proto().GetDetails() {
			if b, merr := proto.Marshal(d); merr == nil {
				e.Details = append(e.Details, b)
			}
		}
		return e
	}
	ended := ctx.Err()
	if ended == nil && st.Code() == codes.DeadlineExceeded {
		ended = context.DeadlineExceeded // by the clock the deadline has passed, its timer has yet to fire
	}
	if ended != nil {
		e := rpc.AsError(ended)
		e.Executed = seen.sent
		return e.WithCause(err)
	}
	e := &rpc.Error{Class: rpc.Transport, Executed: seen.sent}
	switch {
	case !seen.sent && st.Code() == codes.Internal:
		// The service was there: it takes no header list of this size, and so does its neighbour.
		e.Code, e.Reason, e.Message = codes.ResourceExhausted, "METADATA_TOO_LARGE", "the service does not take this much metadata"
		e.Class, e.Status = rpc.Framework, 431
	case !seen.sent:
		e.Code, e.Reason, e.Message = codes.Unavailable, "UPSTREAM_UNREACHABLE", "the service cannot be reached"
	case st.Code() == codes.ResourceExhausted:
		e.Code, e.Reason, e.Message = codes.ResourceExhausted, "ANSWER_TOO_LARGE", "the service's answer is larger than the gateway takes"
		e.Class, e.Status = rpc.Framework, 502
	case st.Code() == codes.Unavailable, st.Code() == codes.Canceled:
		e.Code, e.Reason, e.Message = codes.Unavailable, "UPSTREAM_RESET", "the connection to the service broke before it answered"
	case strings.HasPrefix(st.Message(), "unexpected HTTP status code"):
		e.Code, e.Reason, e.Message = st.Code(), "UPSTREAM_NOT_GRPC", "the service answered, but not in gRPC"
		e.Status = 502
	default:
		e.Code, e.Reason, e.Message = codes.Internal, "UPSTREAM_MALFORMED", "the service's answer is malformed"
		e.Status = 502
	}
	return e.WithCause(err)
}

func known(c codes.Code) bool { return c <= codes.Unauthenticated }
