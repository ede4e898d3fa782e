package rpcadapters

import (
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
)

// HTTPStatus is the HTTP status of a gRPC code: the one table, which is that of google/rpc/code.proto as grpc-gateway
// has it.
func HTTPStatus(c codes.Code) int { return runtime.HTTPStatusFromCode(c) }

// CodeOfHTTP is the gRPC code of an HTTP status that an upstream answered instead of a gRPC status
// (grpc/doc/http-grpc-status-mapping.md).
func CodeOfHTTP(status int) codes.Code {
	switch status {
	case http.StatusBadRequest:
		return codes.Internal
	case http.StatusUnauthorized:
		return codes.Unauthenticated
	case http.StatusForbidden:
		return codes.PermissionDenied
	case http.StatusNotFound:
		return codes.Unimplemented
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return codes.Unavailable
	}
	return codes.Unknown
}
