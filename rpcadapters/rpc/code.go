package rpc

import "google.golang.org/grpc/codes"

// CodeName returns the name of a status code as the gRPC specification, dashboards and logs have it: "NOT_FOUND".
// A number that is no code is "UNKNOWN", as the specification says.
func CodeName(code codes.Code) string {
	if uint64(code) >= uint64(len(codeNames)) {
		code = codes.Unknown
	}
	return codeNames[code]
}

// codeNames are the names of the codes 0 to 16.
var codeNames = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
	"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE",
	"DATA_LOSS", "UNAUTHENTICATED",
}
