package plugin

import "strings"

// HeaderName tells whether a lower-case name may be a header and metadata: the Header-Name of gRPC
// (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md), which is narrower than that of HTTP.
func HeaderName(name string) bool {
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return name != ""
}

// HeaderValue tells whether a value may stand in a header and in metadata: printable ASCII. There is no way to end a header
// and begin another with it.
func HeaderValue(value string) bool {
	for i := range len(value) {
		if value[i] < ' ' || value[i] > '~' {
			return false
		}
	}
	return true
}

// ReservedHeader tells the names (lower case) that say how a message is framed and where it goes, or are a protocol's own:
// no plugin's business in either direction.
func ReservedHeader(name string) bool {
	switch name {
	case "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host", "expect", "http2-settings",
		"content-type", "content-length", "content-encoding":
		return true
	}
	return strings.HasPrefix(name, ":") || strings.HasPrefix(name, "grpc-") && !strings.HasPrefix(name, "grpc-metadata-") && !strings.HasPrefix(name, "grpc-trailer-") ||
		strings.HasPrefix(name, "connect-") || strings.HasPrefix(name, "proxy-")
}

// ReservedAnswerHeader is ReservedHeader for answers, of which the id is the gateway's own too.
func ReservedAnswerHeader(name string) bool { return name == "x-request-id" || ReservedHeader(name) }
