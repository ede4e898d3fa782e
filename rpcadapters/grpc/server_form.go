package grpc

import (
	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

// serverForm is what a request's content type says of its messages.
type serverForm struct {
	typ  string // content type of the answer: the request's
	json bool
}

// formOf reads the content type of a request. What is not gRPC at all is refused in plain HTTP, as
// grpc/doc/PROTOCOL-HTTP2.md, "Requests", asks and grpc-go's handler for HTTP servers does; te is not asked for there
// either.
func formOf(x *wire.Exchange) (serverForm, *rpc.Error) {
	if x.HTTP.Method != "POST" {
		e := rpc.Refuse(codes.Unknown, "METHOD_NOT_ALLOWED", "%s is not how gRPC is called: want POST", x.HTTP.Method).WithStatus(405)
		e.Header.Add("allow", "POST")
		return serverForm{}, e
	}
	if x.Proto != "HTTP/2.0" {
		return serverForm{}, rpc.Refuse(codes.Unknown, "HTTP_VERSION", "gRPC is spoken over HTTP/2, found %s: use gRPC-Web or Connect there", x.Proto).WithStatus(505)
	}
	switch typ := rpcadapters.ContentType(x.HTTP.Header.Get("content-type")); typ {
	case baseType:
		return serverForm{typ: baseType}, nil
	case baseType + "+proto":
		return serverForm{typ: baseType + "+proto"}, nil
	case baseType + "+json":
		return serverForm{typ: baseType + "+json", json: true}, nil
	default:
		e := rpc.Refuse(codes.Unknown, "UNSUPPORTED_MEDIA_TYPE", "content-type %q is not served here: want application/grpc, +proto or +json", typ).WithStatus(415)
		e.Header.Add("accept-post", "application/grpc, application/grpc+proto, application/grpc+json")
		return serverForm{}, e
	}
}
