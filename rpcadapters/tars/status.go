package tars

import (
	"fmt"
	"strconv"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/tarswire"
)

// The return codes of the framework. All others are the application's.
const (
	retOK            = 0
	retServerDecode  = -1
	retServerEncode  = -2
	retNoFunction    = -3
	retNoServant     = -4
	retGridState     = -5
	retQueueTimeout  = -6
	retCallTimeout   = -7
	retConnect       = -8
	retOverload      = -9
	retNoEndpoint    = -10
	retSetInvalid    = -11
	retClientDecode  = -12
	retSend          = -13
	retUnknownServer = -99
)

// retHeader has the code of the application beside answers to callers of other protocols.
const retHeader = "tars-ret"

// verdict is what a code of the framework means to callers.
type verdict struct {
	code     codes.Code
	status   int  // HTTP
	executed bool // false: no servant has run it, and another may
}

func verdictOf(ret int32) (verdict, bool) {
	switch ret {
	case retServerDecode, retServerEncode, retClientDecode:
		return verdict{codes.Internal, 502, true}, true
	case retNoFunction:
		return verdict{codes.Unimplemented, 501, true}, true
	case retNoServant, retGridState, retConnect, retOverload, retNoEndpoint, retSetInvalid, retSend:
		return verdict{codes.Unavailable, 503, false}, true
	case retQueueTimeout:
		return verdict{codes.DeadlineExceeded, 504, false}, true
	case retCallTimeout:
		return verdict{codes.DeadlineExceeded, 504, true}, true
	case retUnknownServer:
		return verdict{codes.Internal, 500, true}, true
	}
	return verdict{}, false
}

// failed makes the error of an answer whose code is not 0. discovered: the instance comes from a registry.
func (p *plan) failed(ret int32, desc []byte, discovered bool) *rpc.Error {
	text := string(tarswire.FromCharset(nil, desc, p.wire.Charset))
	if text == "" {
		text = "tars error " + strconv.Itoa(int(ret))
	}
	if v, ok := verdictOf(ret); ok {
		switch {
		case ret == retNoServant && !discovered:
			v.code, v.status = codes.Unimplemented, 501
		case ret == retServerDecode && p.version == VersionJSON && p.fn.Natural: // what the caller wrote, as it was
			v.code, v.status = codes.InvalidArgument, 400
		}
		e := &rpc.Error{Code: v.code, Status: v.status, Executed: v.executed, Class: rpc.Framework, Native: ret, Message: text}
		if !v.executed {
			e.Class = rpc.Transport // another instance may
		}
		return e
	}
	number := strconv.Itoa(int(ret))
	e := &rpc.Error{
		Code: codes.Unknown, Class: rpc.Business, Executed: true, Native: ret, Message: text,
		Details: [][]byte{errorInfo(number, string(p.servant), p.method.Name)},
		Header:  rpc.Metadata{{Key: retHeader, Value: number}},
	}
	for _, r := range p.errors {
		if r.from <= ret && ret <= r.to {
			e.Code, e.Status = r.code, r.status
			break
		}
	}
	return e
}

// errorInfo is a google.rpc.ErrorInfo in a google.protobuf.Any.
func errorInfo(code, servant, method string) []byte {
	text := func(b []byte, n protowire.Number, s string) []byte {
		return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), s)
	}
	pair := func(b []byte, key, value string) []byte {
		entry := text(text(nil, 1, key), 2, value)
		return protowire.AppendBytes(protowire.AppendTag(b, 3, protowire.BytesType), entry)
	}
	info := text(text(nil, 1, "BUSINESS"), 2, protocolName)
	info = pair(pair(pair(info, "code", code), "method", method), "servant", servant)
	b := text(nil, 1, "type.googleapis.com/google.rpc.ErrorInfo")
	return protowire.AppendBytes(protowire.AppendTag(b, 2, protowire.BytesType), info)
}

// misshapen is the error of an answer that is not what it should be; why is for the log.
func misshapen(why error) *rpc.Error {
	e := &rpc.Error{
		Code: codes.Internal, Class: rpc.Transport, Executed: true,
		Reason: "UPSTREAM_MALFORMED", Message: "the service's answer is malformed", Status: 502,
	}
	return e.WithCause(why)
}

// unwritable is the error of a request that has no form in TARS.
func unwritable(err error) *rpc.Error {
	return rpc.Refuse(codes.InvalidArgument, "INVALID_REQUEST", "%s", err)
}

// retOf is the code and the text that a client is answered with.
func retOf(e *rpc.Error) (int32, string) {
	text := e.Message
	if e.Class == rpc.Business {
		return applicationRet(e), text
	}
	if _, ok := verdictOf(e.Native); ok && e.Native < 0 && e.Reason == "" {
		return e.Native, text
	}
	switch e.Reason {
	case malformedBody, "INVALID_REQUEST", "MALFORMED_MESSAGE", "MESSAGE_TOO_LARGE":
		return retServerDecode, text
	case unwritten:
		return retServerEncode, text
	case "NO_INSTANCE":
		return retNoEndpoint, text
	case "UPSTREAM_UNREACHABLE":
		return retConnect, text
	}
	switch e.Code {
	case codes.Unimplemented:
		return retNoFunction, text
	case codes.DeadlineExceeded:
		return retCallTimeout, text
	case codes.Unavailable, codes.ResourceExhausted:
		return retOverload, text
	case codes.Internal, codes.DataLoss, codes.OK:
		return retUnknownServer, text
	}
	return int32(e.Code), text //nolint:gosec // at most 16
}

// applicationRet is the code of an error of the application. What servers of gRPC say of themselves by a status has a code of
// the framework: SDKs count time-outs, and know of functions that are not there.
func applicationRet(e *rpc.Error) int32 {
	status := int32(e.Code) //nolint:gosec // at most 16
	switch {
	case e.Native == 0:
		return status
	case e.Native != status || len(e.Header) > 0: // TARS and tRPC have the number in a header as well
		return e.Native
	case e.Code == codes.DeadlineExceeded:
		return retCallTimeout
	case e.Code == codes.Unimplemented:
		return retNoFunction
	}
	return status
}

// malformedBody is the reason of a request whose body does not hold what the function takes.
const malformedBody = "MALFORMED_BODY"

// unwritten is the reason of an answer that has no form in TARS.
const unwritten = "ANSWER_NOT_TARS"

var errNoPlan = fmt.Errorf("the method was not bound to the %s adapter", protocolName)
