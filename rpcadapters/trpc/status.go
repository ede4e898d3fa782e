package trpc

import (
	"errors"
	"fmt"
	"strconv"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/framed"
)

// The framework's codes, as TrpcRetCode of trpc.proto has them. From 101 on they are a client's: what a proxy in between says.
const (
	retOK             = 0
	retDecode         = 1
	retEncode         = 2
	retNoService      = 11
	retNoFunc         = 12
	retTimeout        = 21
	retOverload       = 22
	retThrottled      = 23
	retFullTimeout    = 24
	retSystem         = 31
	retAuth           = 41
	retValidation     = 51
	retClientTimeout  = 101
	retClientFull     = 102
	retClientConnect  = 111
	retClientEncode   = 121
	retClientDecode   = 122
	retClientThrottle = 123
	retClientOverload = 124
	retClientRoute    = 131
	retClientNetwork  = 141
	retClientValidate = 151
	retClientCanceled = 161
	retClientFrame    = 171
	retUnknown        = 999
	retStreamUnknown  = 1000
)

// verdict is what a code of the framework means to callers.
type verdict struct {
	code     codes.Code
	status   int  // HTTP
	executed bool // false: it may be tried elsewhere at once
}

// verdictOf finds what a code of the framework means. The second is false for a code that is not the framework's.
func verdictOf(ret int32) (verdict, bool) {
	switch ret {
	case retDecode, retEncode, retClientEncode, retClientDecode:
		return verdict{codes.Internal, 502, true}, true
	case retNoService:
		return verdict{codes.Unimplemented, 501, false}, true
	case retNoFunc:
		return verdict{codes.Unimplemented, 501, true}, true
	case retTimeout, retFullTimeout, retClientTimeout, retClientFull:
		return verdict{codes.DeadlineExceeded, 504, true}, true
	case retOverload, retClientOverload, retClientRoute, retClientConnect:
		return verdict{codes.Unavailable, 503, false}, true
	case retThrottled, retClientThrottle:
		return verdict{codes.ResourceExhausted, 429, true}, true
	case retSystem:
		return verdict{codes.Internal, 500, true}, true
	case retAuth:
		return verdict{codes.Unauthenticated, 401, true}, true
	case retValidation, retClientValidate:
		return verdict{codes.InvalidArgument, 400, true}, true
	case retClientNetwork, retClientFrame:
		return verdict{codes.Unavailable, 502, true}, true
	case retClientCanceled:
		return verdict{codes.Canceled, 499, true}, true
	case retUnknown, retStreamUnknown:
		return verdict{codes.Unknown, 500, true}, true
	}
	switch {
	case ret < 201 || ret > 355 || ret > 255 && ret < 301:
		return verdict{}, false
	case ret%100 == 11: // a message larger than is taken
		return verdict{codes.ResourceExhausted, 502, true}, true
	case ret%100 == 34 || ret%100 >= 54: // writing, reading or waiting took too long
		return verdict{codes.DeadlineExceeded, 504, true}, true
	case ret%100 == 1:
		return verdict{codes.Unavailable, 502, true}, true
	}
	return verdict{codes.Internal, 502, true}, true
}

// failed makes the error of an answer that is one: ret is the framework's code, funcRet the application's. Servers of streams
// in Go know the first alone; where a stream has the same in both it is the application's.
func (p *plan) failed(ret, funcRet int32, message []byte) *rpc.Error {
	text := string(message)
	if ret != retOK && ret != funcRet {
		if v, ok := verdictOf(ret); ok {
			if text == "" {
				text = "trpc error " + strconv.Itoa(int(ret))
			}
			e := &rpc.Error{Code: v.code, Status: v.status, Executed: v.executed, Class: rpc.Framework, Native: ret, Message: text}
			if !v.executed {
				e.Class = rpc.Transport // another instance may
			}
			return e
		}
		funcRet = ret
	}
	if text == "" {
		text = "trpc error " + strconv.Itoa(int(funcRet))
	}
	number := strconv.Itoa(int(funcRet))
	e := &rpc.Error{
		Code: codes.Unknown, Class: rpc.Business, Executed: true, Native: funcRet, Message: text,
		Details: [][]byte{errorInfo(number, p.method.Name)},
		Header:  rpc.Metadata{{Key: funcRetHeader, Value: number}},
	}
	for _, r := range p.errors {
		if r.from <= funcRet && funcRet <= r.to {
			e.Code, e.Status = r.code, r.status
			break
		}
	}
	return e
}

// funcRetHeader has the code of the application beside answers to callers of other protocols.
const funcRetHeader = "trpc-func-ret"

// errorInfo is a google.rpc.ErrorInfo in a google.protobuf.Any.
func errorInfo(code, method string) []byte {
	text := func(b []byte, n protowire.Number, s string) []byte {
		return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), s)
	}
	pair := func(b []byte, key, value string) []byte {
		entry := text(text(nil, 1, key), 2, value)
		return protowire.AppendBytes(protowire.AppendTag(b, 3, protowire.BytesType), entry)
	}
	info := text(text(nil, 1, "BUSINESS"), 2, protocolName)
	info = pair(pair(info, "code", code), "method", method)
	b := text(nil, 1, "type.googleapis.com/google.rpc.ErrorInfo")
	return protowire.AppendBytes(protowire.AppendTag(b, 2, protowire.BytesType), info)
}

// misshapen is the error of an answer that breaks the rules of tRPC; why is for the log.
func misshapen(why error) *rpc.Error {
	e := &rpc.Error{
		Code: codes.Internal, Class: rpc.Transport, Executed: true,
		Reason: "UPSTREAM_MALFORMED", Message: "the service's answer is malformed", Status: 502,
	}
	return e.WithCause(why)
}

// unreadable is the error of an answer whose body could not be read.
func unreadable(err error) *rpc.Error {
	if errors.Is(err, errTooLarge) {
		return framed.TooLargeAnswer().WithCause(err)
	}
	return misshapen(err)
}

// requestTooLarge is the error of a request that a server would close the connection for, with all calls on it.
func requestTooLarge(size, most int) *rpc.Error {
	return rpc.Refuse(codes.ResourceExhausted, "MESSAGE_TOO_LARGE", "the request has %d bytes in the service's protocol: at most %d are sent", size, most).WithStatus(413)
}

// tooMuchMetadata is the error of a call whose header would not fit.
func tooMuchMetadata(size int) *rpc.Error {
	e := &rpc.Error{
		Code: codes.ResourceExhausted, Class: rpc.Framework, Status: 431,
		Reason: "METADATA_TOO_LARGE", Message: "the service does not take this much metadata",
	}
	return e.WithCause(fmt.Errorf("a header of about %d bytes, and tRPC has at most %d", size, maxHeader))
}
