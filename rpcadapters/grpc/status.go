package grpc

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/http2"
)

// ending makes of an answer's end the call's error; nil: the service said OK. trailer is nil when there were none; body
// tells whether there was one.
func ending(head, trailer *http2.Head, body bool) *rpc.Error {
	if e := notGRPC(head); e != nil {
		return e
	}
	fields := head.Fields
	switch {
	case trailer != nil:
		fields = trailer.Fields
	case body:
		return misshapen("a body without trailers after it")
	}
	var code, message, details string
	for i := range fields {
		switch fields[i].Key {
		case "grpc-status":
			if code != "" {
				return misshapen("grpc-status twice")
			}
			if code = fields[i].Value; code == "" {
				return misshapen("an empty grpc-status")
			}
		case "grpc-message":
			message = fields[i].Value
		case "grpc-status-details-bin":
			details = fields[i].Value
		}
	}
	switch {
	case code == "0":
		return nil
	case code == "" && head.Status != 200:
		return notItsProtocol(head)
	case code == "":
		e := misshapen("no grpc-status")
		e.Code = codes.Unknown
		return e
	}
	native, err := strconv.ParseUint(code, 10, 31)
	if err != nil {
		return misshapen("grpc-status %q", code)
	}
	e := &rpc.Error{
		Code: codes.Code(native), Message: decodeMessage(message),
		Class: rpc.Business, Executed: true, Native: int32(native),
	}
	if native == 0 { // "00"
		return misshapen("grpc-status %q", code)
	}
	if details != "" {
		e.Details = appendDetails(nil, details, native)
	}
	if e.Code > codes.Unauthenticated {
		e.Code = codes.Unknown
	}
	return e
}

// notGRPC tells an answer that is not in gRPC: that of a proxy in front of the service, or of another server.
func notGRPC(head *http2.Head) *rpc.Error {
	ct := head.Fields.Get("content-type")
	const want = "application/grpc"
	if len(ct) >= len(want) && rpc.EqualFold(ct[:len(want)], want) && (len(ct) == len(want) || ct[len(want)] == '+' || ct[len(want)] == ';') {
		return nil
	}
	return notItsProtocol(head)
}

func notItsProtocol(head *http2.Head) *rpc.Error {
	e := &rpc.Error{
		Code: rpcadapters.CodeOfHTTP(head.Status), Class: rpc.Transport, Executed: true,
		Reason: "UPSTREAM_NOT_GRPC", Message: "the service answered, but not in gRPC", Status: 502,
	}
	return e.WithCause(fmt.Errorf("status %d, content-type %q", head.Status, head.Fields.Get("content-type")))
}

// decodeMessage undoes the percent-encoding of grpc-message. What is not encoded as it should be stays as it came, for a
// message is never lost; what is no UTF-8 is replaced.
func decodeMessage(s string) string {
	if !strings.Contains(s, "%") {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b = append(b, byte(v))
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return strings.ToValidUTF8(string(b), "\uFFFD")
}

// appendDetails appends the details of a google.rpc.Status in base64, each an encoded Any. A status that is malformed, or of
// another code than the one beside it, has none: the code and the message stand without.
func appendDetails(dst [][]byte, header string, code uint64) [][]byte {
	const codeField, detailsField = 1, 3
	raw, ok := decodeBin(header)
	if !ok {
		return dst
	}
	found := uint64(0)
	n := len(dst)
	for b := []byte(raw); len(b) > 0; {
		num, typ, size := protowire.ConsumeTag(b)
		if size < 0 {
			return dst[:n]
		}
		b = b[size:]
		switch {
		case num == codeField && typ == protowire.VarintType:
			found, size = protowire.ConsumeVarint(b)
		case num == detailsField && typ == protowire.BytesType:
			var detail []byte
			detail, size = protowire.ConsumeBytes(b)
			dst = append(dst, detail)
		default:
			size = protowire.ConsumeFieldValue(num, typ, b)
		}
		if size < 0 {
			return dst[:n]
		}
		b = b[size:]
	}
	if found != code {
		return dst[:n]
	}
	return dst
}

// misshapen is the error of an answer that breaks the rules of gRPC; why is for the log.
func misshapen(why string, args ...any) *rpc.Error {
	e := &rpc.Error{
		Code: codes.Internal, Class: rpc.Transport, Executed: true,
		Reason: "UPSTREAM_MALFORMED", Message: "the service's answer is malformed", Status: 502,
	}
	return e.WithCause(fmt.Errorf(why, args...))
}

func tooLarge() *rpc.Error {
	return &rpc.Error{
		Code: codes.ResourceExhausted, Class: rpc.Framework, Executed: true,
		Reason: "ANSWER_TOO_LARGE", Message: "the service's answer is larger than the gateway takes", Status: 502,
	}
}

// broken makes the gateway's error of a call that was cut off. What the transport says of addresses and causes is for the
// log only.
func broken(ctx context.Context, f *http2.Fault) *rpc.Error {
	if f.Kind == http2.HeadTooLarge {
		// The service was there: it takes no header list of this size, and so does its neighbour.
		e := &rpc.Error{
			Code: codes.ResourceExhausted, Class: rpc.Framework, Status: 431,
			Reason: "METADATA_TOO_LARGE", Message: "the service does not take this much metadata",
		}
		return e.WithCause(f)
	}
	if ended := whyEnded(ctx, f); ended != nil {
		e := rpc.AsError(ended)
		e.Executed = f.Sent
		return e.WithCause(f)
	}
	e := &rpc.Error{Class: rpc.Transport, Executed: f.Sent}
	switch f.Kind {
	case http2.Unreachable:
		e.Code, e.Reason, e.Message = codes.Unavailable, "UPSTREAM_UNREACHABLE", "the service cannot be reached"
	case http2.Refused:
		e.Code, e.Reason, e.Message = codes.Unavailable, "UPSTREAM_RESET", "the service turned the call away before it looked at it"
	case http2.AnswerTooLarge:
		e = tooLarge()
	case http2.Malformed:
		return misshapen("%w", f)
	case http2.Reset:
		e.Code, e.Reason, e.Message = codeOfReset(f.Code), "UPSTREAM_RESET", "the service broke the call off before it answered"
		if e.Code == codes.Internal {
			e.Status = 502
		}
	case http2.Broken, http2.Ended, http2.HeadTooLarge:
		e.Code, e.Reason, e.Message = codes.Unavailable, "UPSTREAM_RESET", "the connection to the service broke before it answered"
	}
	return e.WithCause(f)
}

// whyEnded tells whether a call was cut off because its context had ended, or its deadline passed by the clock while
// whoever watches it has yet to notice: the service may be faster.
func whyEnded(ctx context.Context, f *http2.Fault) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if f.Kind == http2.Unreachable || f.Kind == http2.AnswerTooLarge || f.Kind == http2.Malformed {
		return nil
	}
	if due, ok := ctx.Deadline(); ok && !time.Now().Before(due) {
		return context.DeadlineExceeded
	}
	return nil
}

// codeOfReset is the code of a reset stream: the table of grpc/doc/PROTOCOL-HTTP2.md, "Errors", but for CANCEL, which would
// tell the caller that it had cancelled the call itself.
func codeOfReset(c http2.ErrCode) codes.Code {
	switch c {
	case http2.Cancel, http2.RefusedStream:
		return codes.Unavailable
	case http2.EnhanceYourCalm:
		return codes.ResourceExhausted
	case http2.InadequateSecurity:
		return codes.PermissionDenied
	}
	return codes.Internal
}
