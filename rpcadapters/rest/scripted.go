package rest

import "github.com/causeway-gateway/causeway/rpcadapters"

var _ rpcadapters.Scripted = (*Face)(nil)

// RequestHeaders are the headers of requests that mean something here and that a browser asks leave for before a call from
// another origin.
func (f *Face) RequestHeaders() []string {
	return []string{"content-type", "x-request-timeout", "grpc-timeout"}
}
