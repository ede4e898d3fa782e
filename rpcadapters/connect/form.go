package connect

import (
	"encoding/base64"
	"net/url"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// form is what a request's head says of its messages and those of the answer.
type form struct {
	typ       string // content type of the answer
	json      bool
	streaming bool
	get       bool
}

const (
	protoType       = "application/proto"
	jsonType        = "application/json"
	streamPrefix    = "application/connect+"
	streamProtoType = streamPrefix + "proto"
	streamJSONType  = streamPrefix + "json"
)

// formOf reads verb and content type of a request. m is its method; nil: not known. What is not Connect is refused with a
// status that clients make UNKNOWN of.
func formOf(x *wire.Exchange, m *schema.Method) (form, *rpc.Error) {
	var f form
	typ := rpcadapters.ContentType(x.HTTP.Header.Get("content-type"))
	switch x.HTTP.Method {
	case "POST":
	case "GET":
		// https://connectrpc.com/docs/protocol/#unary-get-request: for methods without side effects.
		if m != nil && (!m.ReadOnly || m.Kind != schema.Unary) {
			return f, notAllowed("GET is for unary methods whose idempotency_level is NO_SIDE_EFFECTS, want POST", "POST")
		}
		f.get = true
		encoding, _ := query(x.HTTP.Query, "encoding")
		typ = "application/" + encoding
		if encoding == "" {
			typ = protoType // refused when the message is read
		}
	default:
		if m != nil && m.ReadOnly && m.Kind == schema.Unary {
			return f, notAllowed(x.HTTP.Method+" is not how Connect is called: want POST or GET", "GET, POST")
		}
		return f, notAllowed(x.HTTP.Method+" is not how Connect is called: want POST", "POST")
	}
	switch typ {
	case protoType:
		f.typ = protoType
	case jsonType:
		f.typ, f.json = jsonType, true
	case streamProtoType:
		f.typ, f.streaming = streamProtoType, true
	case streamJSONType:
		f.typ, f.json, f.streaming = streamJSONType, true, true
	}
	if f.typ == "" || f.get && f.streaming || m != nil && f.streaming != (m.Kind != schema.Unary) {
		return f, unsupported(typ, m)
	}
	return f, nil
}

func notAllowed(message, allow string) *rpc.Error {
	e := rpc.Refuse(codes.Unknown, "METHOD_NOT_ALLOWED", "%s", message).WithStatus(405)
	e.Header.Add("allow", allow)
	return e
}

func unsupported(typ string, m *schema.Method) *rpc.Error {
	const unary, stream = protoType + ", " + jsonType, streamProtoType + ", " + streamJSONType
	want := unary + ", " + stream
	switch {
	case m == nil:
	case m.Kind == schema.Unary:
		want = unary
	default:
		want = stream
	}
	e := rpc.Refuse(codes.Unknown, "UNSUPPORTED_MEDIA_TYPE", "content-type %q is not served here: want one of %s", typ, want).WithStatus(415)
	e.Header.Add("accept-post", want)
	return e
}

// query finds the first value of a parameter; names are not encoded. A value with broken percent-encoding is no value.
func query(q, name string) (value string, ok bool) {
	for q != "" {
		var pair string
		pair, q, _ = strings.Cut(q, "&")
		key, v, _ := strings.Cut(pair, "=")
		if key != name {
			continue
		}
		text, err := url.QueryUnescape(v)
		return text, err == nil
	}
	return "", false
}

// getMessage is the message of a GET request, as it would be the body of a POST.
func getMessage(q string) (string, *rpc.Error) {
	for _, name := range [...]string{"encoding", "message"} {
		if _, ok := query(q, name); !ok {
			return "", rpc.Refuse(codes.InvalidArgument, "INVALID_REQUEST", "the query has no parameter %q, or it is not percent-encoded as it should be", name)
		}
	}
	message, _ := query(q, "message")
	if b64, _ := query(q, "base64"); b64 != "1" {
		return message, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(message, "="))
	if err != nil {
		return "", rpc.Refuse(codes.InvalidArgument, "INVALID_REQUEST", "the query's message is not base64, though base64=1 says so: want the alphabet of URLs")
	}
	return string(raw), nil
}
