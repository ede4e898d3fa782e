package rest

import (
	"encoding/base64"
	"errors"
	"strconv"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// statusClientGone is what the log says when the caller did not wait for the answer; nobody receives it.
const statusClientGone = 499

// standardDetails compiles the messages of google/rpc/error_details.proto and what they import.
func standardDetails() (*schema.Schema, error) {
	files := new(protoregistry.Files)
	var add func(fd protoreflect.FileDescriptor) error
	add = func(fd protoreflect.FileDescriptor) error {
		if _, err := files.FindFileByPath(fd.Path()); err == nil {
			return nil
		}
		for i := range fd.Imports().Len() {
			if err := add(fd.Imports().Get(i).FileDescriptor); err != nil {
				return err
			}
		}
		return files.RegisterFile(fd)
	}
	if err := add(errdetails.File_google_rpc_error_details_proto); err != nil {
		return nil, err
	}
	return schema.New(files)
}

// answer writes what the chain came back with and says what was sent.
func (f *Face) answer(c *call, err error) rpc.Sent {
	if err == nil {
		err = f.success(c)
	}
	if err == nil {
		return finished(c.x, codes.OK)
	}
	if a, ok := errors.AsType[*rpc.Answer](err); ok {
		header := append(c.header[:0], a.Header...)
		header = append(header, rpc.Pair{Key: "x-request-id", Value: c.ID})
		werr := c.x.Respond(a.Status, header, a.Body)
		c.header = header
		s := finished(c.x, a.Code)
		s.Err = werr
		return s
	}
	header := rpcadapters.AppendResponseHeaders(c.header[:0], c.Reply.Header, c.m.Options.Response, metadataPrefix)
	header = rpcadapters.AppendResponseHeaders(header, c.Reply.Trailer, c.m.Options.Response, trailerPrefix)
	c.header = header
	return f.refuse(c.x, rpc.AsError(err), c.Method.Schema, header)
}

const (
	metadataPrefix = "grpc-metadata-"
	trailerPrefix  = "grpc-trailer-"
)

// success writes the reply as JSON. An error means that nothing was written.
func (f *Face) success(c *call) error {
	buf := rpc.GetBuffer()
	var err error
	if b := c.m.Binding; b.ResponseBody != nil {
		buf.B, err = jsonwire.AppendFieldJSON(buf.B, c.Reply.Message.Data, c.Method.Output, b.ResponseBody, c.m.Options.JSON)
	} else {
		buf.B, err = jsonwire.AppendJSON(buf.B, c.Reply.Message.Data, c.Method.Output, c.m.Options.JSON)
	}
	if err != nil {
		buf.Free()
		return rpc.Refuse(codes.Internal, "INVALID_ANSWER", "the service's answer is not a valid %s", c.Method.Output.Name).WithStatus(502).WithCause(err)
	}
	header := append(c.header[:0],
		rpc.Pair{Key: "content-type", Value: "application/json"},
		rpc.Pair{Key: "x-request-id", Value: c.ID})
	header = rpcadapters.AppendResponseHeaders(header, c.Reply.Header, c.m.Options.Response, metadataPrefix)
	header = rpcadapters.AppendResponseHeaders(header, c.Reply.Trailer, c.m.Options.Response, trailerPrefix)
	c.header = header
	if err := c.x.Respond(200, header, buf.B); err != nil {
		// The buffer is left to the collector: after a failed write an engine may still look at it.
		return rpc.Refuse(codes.Canceled, "CLIENT_GONE", "the caller left before the answer was written").WithCause(err)
	}
	buf.Free()
	return nil
}

// Refuse answers a request that has no route, or that broke before it had one.
func (f *Face) Refuse(x *wire.Exchange, err *rpc.Error) rpc.Sent {
	return f.refuse(x, err, nil, nil)
}

func (f *Face) refuse(x *wire.Exchange, e *rpc.Error, types *schema.Schema, header rpc.Metadata) rpc.Sent {
	status := e.Status
	if status == 0 {
		status = rpcadapters.HTTPStatus(e.Code)
	}
	header = append(header,
		rpc.Pair{Key: "content-type", Value: "application/json"},
		rpc.Pair{Key: "x-request-id", Value: x.ID})
	header = append(header, e.Header...)
	buf := rpc.GetBuffer()
	buf.B = f.appendStatus(buf.B, e, types)
	already := x.Status() != 0
	err := x.Respond(status, header, buf.B)
	if err == nil {
		buf.Free() // else it is left to the collector, as in success
	}
	s := finished(x, e.Code)
	s.Reason, s.Err = e.Reason, e
	if err != nil && !already {
		s.Err = errors.Join(e, err)
	}
	if err != nil || already || e.Code == codes.Canceled {
		s.Status = statusClientGone
	}
	return s
}

// appendStatus writes google.rpc.Status as JSON, its details decoded with the schema's types, else with the standard
// ones; an unknown type keeps its bytes as base64.
func (f *Face) appendStatus(dst []byte, e *rpc.Error, types *schema.Schema) []byte {
	dst = append(dst, `{"code":`...)
	dst = strconv.AppendInt(dst, int64(e.Code), 10)
	dst = append(dst, `,"message":`...)
	dst = jsonwire.AppendString(dst, e.Message)
	dst = append(dst, `,"details":[`...)
	start := len(dst)
	for _, d := range e.Details {
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = f.appendDetail(dst, d, types)
	}
	if e.Reason != "" {
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":`...)
		dst = jsonwire.AppendString(dst, e.Reason)
		dst = append(dst, `,"domain":"causeway"}`...)
	}
	if len(e.Fields) > 0 {
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[`...)
		for i, v := range e.Fields {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(dst, `{"field":`...)
			dst = jsonwire.AppendString(dst, v.Field)
			dst = append(dst, `,"description":`...)
			dst = jsonwire.AppendString(dst, v.Description)
			dst = append(dst, '}')
		}
		dst = append(dst, `]}`...)
	}
	return append(dst, `]}`...)
}

func (f *Face) appendDetail(dst, detail []byte, types *schema.Schema) []byte {
	mark := len(dst)
	for _, s := range [...]*schema.Schema{types, f.details} {
		if s == nil {
			continue
		}
		out, err := jsonwire.AppendAny(dst, detail, s, nil)
		if err == nil {
			return out
		}
		dst = dst[:mark]
	}
	url, value := splitAny(detail)
	dst = append(dst, `{"@type":`...)
	dst = jsonwire.AppendString(dst, url)
	dst = append(dst, `,"value":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, value)
	return append(dst, `"}`...)
}

// splitAny reads the two fields of an encoded google.protobuf.Any; broken bytes give what came before the break.
func splitAny(b []byte) (url string, value []byte) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return url, value
		}
		b = b[n:]
		if typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				return url, value
			}
			b = b[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return url, value
		}
		b = b[n:]
		switch num {
		case 1:
			url = string(v)
		case 2:
			value = v
		}
	}
	return url, value
}
