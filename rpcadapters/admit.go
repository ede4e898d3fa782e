package rpcadapters

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Begin makes c the call that the exchange stands for, as faces of the gRPC family do, except for its header, body and
// stream.
func Begin(c *rpc.Call, protocol string, x *wire.Exchange, m *Matched) {
	c.Method, c.Route, c.Service, c.Protocol, c.ID = m.Method, m.Options.Route, m.Options.Service, protocol, x.ID
	c.Peer, c.Client, c.HTTP, c.Times.Start = x.Peer, x.Client, &x.HTTP, x.Start
	if m.Rule != nil {
		c.Params = m
	}
}

// Admit gives a call of the gRPC family its metadata and its deadline. The context is the call's from then on; cancel is
// called when the call is over, also after an error. Errors are *rpc.Error.
func Admit(ctx context.Context, c *rpc.Call, x *wire.Exchange, m *Matched) (call context.Context, cancel context.CancelFunc, err error) {
	c.Header, err = AppendRequestMetadata(c.Header[:0], x.HTTP.Header, m.Options.Request, PassAll)
	if err != nil {
		return ctx, nothing, err
	}
	c.Header = AppendForwarded(c.Header, x, m.Options.Request)
	c.Header.Set("x-request-id", c.ID)
	timeout, err := Timeout(x.HTTP.Header, m.Timeout())
	if err != nil {
		return ctx, nothing, err
	}
	call, cancel = SetDeadline(ctx, x, timeout)
	return call, cancel, nil
}

// RPCError makes an error of what a handler returned, for faces that answer in statuses; nil stays nil. An answer that is
// HTTP is its code and message, with its headers beside it.
func RPCError(err error) *rpc.Error {
	if err == nil {
		return nil
	}
	a, ok := errors.AsType[*rpc.Answer](err)
	if !ok {
		return rpc.AsError(err)
	}
	e := &rpc.Error{Code: a.Code, Message: a.Message, Class: rpc.Framework, Header: a.Header, Status: a.Status, Reason: a.Reason}
	if e.Code == codes.OK {
		e.Code = codes.Unknown // the method has not answered, whatever the answer says
	}
	return e
}

// statusClientGone is what the log says when the caller did not wait for the answer; nobody receives it.
const statusClientGone = 499

// Finished says what a caller of the gRPC family got: e, nil for success, and werr, why it could not be written, if so.
func Finished(x *wire.Exchange, e *rpc.Error, werr error) rpc.Sent {
	s := rpc.Sent{Status: x.Status(), End: Now(x.Start), Err: werr}
	s.BytesIn, s.BytesOut = x.Bytes()
	if e != nil {
		s.Code, s.Reason, s.Err = e.Code, e.Reason, e
		if werr != nil {
			s.Err = errors.Join(e, werr)
		}
	}
	if werr != nil && e == nil {
		s.Code, s.Reason = codes.Canceled, "CLIENT_GONE"
	}
	if werr != nil || s.Code == codes.Canceled {
		s.Status = statusClientGone
	}
	return s
}

// Now is the present time, for a call that began at start: of one that began lately the wall clock need not be asked again.
func Now(start time.Time) time.Time {
	if d := time.Since(start); d >= 0 && d < time.Minute {
		return start.Add(d)
	}
	return time.Now()
}

// RefuseHTTP answers in plain HTTP a request that is not in the protocol that its content type names. Clients make a status of
// it by grpc/doc/http-grpc-status-mapping.md.
func RefuseHTTP(x *wire.Exchange, e *rpc.Error) rpc.Sent {
	header := append(rpc.Metadata{{Key: "content-type", Value: "text/plain; charset=utf-8"}, {Key: "x-request-id", Value: x.ID}}, e.Header...)
	return Finished(x, e, x.Respond(e.Status, header, []byte(e.Message+"\n")))
}

// JSONForm is the JSON form of messages, for callers that send JSON where wire bytes might be.
type JSONForm struct{ *jsonwire.Options }

// AppendWire appends the wire form of a message in JSON. The error is an *rpc.Error with the place of the fault.
func (j JSONForm) AppendWire(dst, form []byte, m *schema.Message) ([]byte, error) {
	out, err := jsonwire.AppendWire(dst, form, m, j.Options)
	if err == nil {
		return out, nil
	}
	e := rpc.Refuse(codes.InvalidArgument, "INVALID_REQUEST", "%s", err)
	if je, ok := errors.AsType[*jsonwire.Error](err); ok {
		e.Fields = []rpc.FieldViolation{{Field: je.Path, Description: je.Message}}
	}
	return dst, e
}

// AppendForm appends the JSON form of a message.
func (j JSONForm) AppendForm(dst, data []byte, m *schema.Message) ([]byte, error) {
	return jsonwire.AppendJSON(dst, data, m, j.Options)
}

// ContentType is the part of a content type in front of its parameters, in lower case.
func ContentType(v string) string {
	v, _, _ = strings.Cut(v, ";")
	return rpc.Lower(strings.Trim(v, " \t"))
}

func validUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
