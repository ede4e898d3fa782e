package connect

import (
	"encoding/base64"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// code is a row of the table of https://connectrpc.com/docs/protocol/#error-codes.
type code struct {
	name   string
	status int
}

// table is by gRPC's number, which Connect shares.
var table = [...]code{
	codes.OK:                 {"unknown", 500}, // an error whose code says that it is none
	codes.Canceled:           {"canceled", 499},
	codes.Unknown:            {"unknown", 500},
	codes.InvalidArgument:    {"invalid_argument", 400},
	codes.DeadlineExceeded:   {"deadline_exceeded", 504},
	codes.NotFound:           {"not_found", 404},
	codes.AlreadyExists:      {"already_exists", 409},
	codes.PermissionDenied:   {"permission_denied", 403},
	codes.ResourceExhausted:  {"resource_exhausted", 429},
	codes.FailedPrecondition: {"failed_precondition", 400},
	codes.Aborted:            {"aborted", 409},
	codes.OutOfRange:         {"out_of_range", 400},
	codes.Unimplemented:      {"unimplemented", 501},
	codes.Internal:           {"internal", 500},
	codes.Unavailable:        {"unavailable", 503},
	codes.DataLoss:           {"data_loss", 500},
	codes.Unauthenticated:    {"unauthenticated", 401},
}

// of is the row of a code; numbers that are none are UNKNOWN.
func of(c codes.Code) code {
	if int(c) >= len(table) {
		c = codes.Unknown
	}
	return table[c]
}

// inferred is the code that a client makes of a status without a body of ours
// (https://connectrpc.com/docs/protocol/#http-to-error-code). It is gRPC's table.
func inferred(status int) codes.Code { return rpcadapters.CodeOfHTTP(status) }

// status is the HTTP status of an error: that of its code, but one of its own where a client would infer the same code from
// it. So 404 and 415 may say what they always say.
func status(e *rpc.Error) int {
	if e.Status >= 400 && inferred(e.Status) == e.Code {
		return e.Status
	}
	return of(e.Code).status
}

// appendError appends an Error (https://connectrpc.com/docs/protocol/#error-end-stream). Details are shown under debug too if
// their type is in one of types, which may be nil.
func appendError(b []byte, e *rpc.Error, types ...*schema.Schema) []byte {
	b = append(b, `{"code":"`...)
	b = append(b, of(e.Code).name...)
	b = append(b, '"')
	if e.Message != "" {
		b = append(b, `,"message":`...)
		b = jsonwire.AppendString(b, e.Message)
	}
	details := rpcadapters.AppendDetails(nil, e)
	for i, d := range details {
		if i == 0 {
			b = append(b, `,"details":[`...)
		} else {
			b = append(b, ',')
		}
		b = appendDetail(b, d, types)
	}
	if len(details) > 0 {
		b = append(b, ']')
	}
	return append(b, '}')
}

// appendDetail appends an encoded google.protobuf.Any.
func appendDetail(b, detail []byte, types []*schema.Schema) []byte {
	url, value := splitAny(detail)
	name := url[strings.LastIndexByte(url, '/')+1:]
	b = append(b, `{"type":`...)
	b = jsonwire.AppendString(b, name)
	b = append(b, `,"value":"`...)
	b = base64.RawStdEncoding.AppendEncode(b, value)
	b = append(b, '"')
	for _, s := range types {
		if s == nil {
			continue
		}
		m, ok := s.Message(name)
		if !ok {
			continue
		}
		mark := len(b)
		b = append(b, `,"debug":`...)
		out, err := jsonwire.AppendJSON(b, value, m, nil)
		if err == nil {
			b = out
			break
		}
		b = b[:mark]
	}
	return append(b, '}')
}

// splitAny reads the two fields of an encoded google.protobuf.Any; broken bytes give what came before the break.
func splitAny(b []byte) (url string, value []byte) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			break
		}
		b = b[n:]
		if typ == protowire.BytesType && num <= 2 {
			var v []byte
			if v, n = protowire.ConsumeBytes(b); n < 0 {
				break
			}
			if num == 1 {
				url = string(v)
			} else {
				value = v
			}
		} else if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			break
		}
		b = b[n:]
	}
	return url, value
}

// appendEnd appends an EndStreamResponse; e nil: the call succeeded. metadata is as in headers: values of -bin names are
// base64.
func appendEnd(b []byte, e *rpc.Error, metadata rpc.Metadata, types ...*schema.Schema) []byte {
	b = append(b, '{')
	if e != nil {
		b = append(b, `"error":`...)
		b = appendError(b, e, types...)
	}
	first := true
	for i := range metadata {
		key := metadata[i].Key
		if slices.ContainsFunc(metadata[:i], func(p rpc.Pair) bool { return p.Key == key }) {
			continue // with its first
		}
		switch {
		case !first:
			b = append(b, ',')
		case e != nil:
			b = append(b, `,"metadata":{`...)
		default:
			b = append(b, `"metadata":{`...)
		}
		first = false
		b = jsonwire.AppendString(b, key)
		sep := byte('[')
		b = append(b, ':')
		for _, p := range metadata[i:] {
			if p.Key == key {
				b = append(b, sep)
				b = jsonwire.AppendString(b, p.Value)
				sep = ','
			}
		}
		b = append(b, ']')
	}
	if !first {
		b = append(b, '}')
	}
	return append(b, '}')
}
