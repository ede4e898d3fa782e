package rpcadapters

import "github.com/causeway-gateway/causeway/rpcadapters/rpc"

// Printable tells whether v is printable ASCII from end to end, as metadata that is no -bin must be.
func Printable(v string) bool { return rpc.Printable(v) }
