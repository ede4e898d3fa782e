package rpcadapters

import (
	"encoding/base64"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

// HeaderPolicy says which headers of a request become metadata.
type HeaderPolicy uint8

// PassListed passes the standard headers of a REST call, those the route lists, and Grpc-Metadata-X as x; what metadata
// cannot carry is refused. With PassCarried that stays behind. PassAll, for the gRPC family, passes everything that is not
// forbidden.
const (
	PassListed HeaderPolicy = iota
	PassCarried
	PassAll
)

const metadataPrefix = "grpc-metadata-"

// AppendRequestMetadata appends what of an HTTP request's headers passes on as metadata. listed are the route's extra
// names, lower case. The error is an *rpc.Error: a "-bin" value that is not base64, or a value that gRPC cannot carry.
func AppendRequestMetadata(dst, headers rpc.Metadata, listed []string, policy HeaderPolicy) (rpc.Metadata, error) {
	hop := headers.Has("connection")
	for i := range headers {
		key, value := headers[i].Key, headers[i].Value
		if hop && hopByHop(headers, key) {
			continue
		}
		checked := false // that value is printable
		switch headerClass(key) {
		case never:
			if policy == PassAll || !strings.HasPrefix(key, metadataPrefix) {
				continue
			}
			// Grpc-Metadata-X is x only where x itself might have come in: the prefix is no way around the rule.
			key = key[len(metadataPrefix):]
			if c := headerClass(key); key == "" || c == never || c == onlyListed && !slices.Contains(listed, key) {
				continue
			}
			if key == "authorization" {
				continue // a second one beside that which was checked
			}
		case onlyListed:
			if !slices.Contains(listed, key) {
				continue
			}
		case ordinary:
			if policy != PassAll && !slices.Contains(listed, key) {
				continue
			}
		case standard:
			if checked = Printable(value); !checked {
				continue // nobody chose it as metadata: a name in a user agent is no reason to refuse
			}
		}
		if policy == PassCarried && (!metadataKey(key) || !strings.HasSuffix(key, "-bin") && !checked && !Printable(value)) {
			continue
		}
		if !metadataKey(key) {
			return dst, rpc.Refuse(codes.InvalidArgument, "INVALID_METADATA", "header %q cannot be metadata: want letters, digits, - _ and . only", headers[i].Key)
		}
		if strings.HasSuffix(key, "-bin") {
			raw, ok := decodeBin(value)
			if !ok {
				return dst, rpc.Refuse(codes.InvalidArgument, "INVALID_METADATA", "header %q must be base64, as every name that ends in -bin", headers[i].Key)
			}
			value = raw
		} else if !checked && !Printable(value) {
			return dst, rpc.Refuse(codes.InvalidArgument, "INVALID_METADATA", "header %q has a byte that metadata cannot carry: send printable ascii, or base64 under a name that ends in -bin", headers[i].Key)
		}
		dst = append(dst, rpc.Pair{Key: key, Value: value})
	}
	return dst, nil
}

// Passes tells whether a request header (lower case) may become metadata; see AppendRequestMetadata, also for listed.
func Passes(key string, listed []string, policy HeaderPolicy) bool {
	name, prefixed := strings.CutPrefix(key, metadataPrefix)
	if prefixed && (policy == PassAll || name == "authorization") {
		return false
	}
	switch headerClass(name) {
	case standard:
		return true
	case onlyListed:
		return slices.Contains(listed, name)
	case ordinary:
		return metadataKey(name) && (prefixed || policy == PassAll || slices.Contains(listed, name))
	case never:
	}
	return false
}

// AppendForwarded appends those of the headers that say where a call came from that the route lists. They are made anew,
// of who connected and, where that is a trusted proxy, of the client that it names: what a caller says of itself is not
// passed on.
func AppendForwarded(dst rpc.Metadata, x *wire.Exchange, listed []string) rpc.Metadata {
	return appendForwarded(dst, x.Peer.Addr().Unmap(), x.Client, x.HTTP.Scheme, x.HTTP.Host, listed)
}

func appendForwarded(dst rpc.Metadata, peer, client netip.Addr, scheme, host string, listed []string) rpc.Metadata {
	if !client.IsValid() {
		client = peer
	}
	for _, key := range listed {
		var value string
		switch key {
		case "x-forwarded-for":
			if value = peer.String(); client != peer {
				value = client.String() + ", " + value
			}
		case "x-real-ip":
			value = client.String()
		case "x-forwarded-proto":
			value = scheme
		case "x-forwarded-host":
			if value = host; value == "" {
				continue
			}
		case "forwarded": // RFC 7239
			value = "for=" + forwardedNode(client) + ";proto=" + scheme
		default:
			continue
		}
		if Printable(value) {
			dst = append(dst, rpc.Pair{Key: key, Value: value})
		}
	}
	return dst
}

// forwardedNode is an address as RFC 7239 section 6 writes it.
func forwardedNode(a netip.Addr) string {
	if a.Is6() {
		return `"[` + a.String() + `]"`
	}
	return a.String()
}

// AppendResponseHeaders appends an answer's metadata as REST headers: those listed under their own names, everything else
// under prefix ("grpc-metadata-", "grpc-trailer-").
func AppendResponseHeaders(dst, metadata rpc.Metadata, listed []string, prefix string) rpc.Metadata {
	for i := range metadata {
		key, value := metadata[i].Key, metadata[i].Value
		if strings.HasSuffix(key, "-bin") {
			value = base64.RawStdEncoding.EncodeToString([]byte(value))
		}
		if !slices.Contains(listed, key) {
			if responseForbidden(key) {
				continue
			}
			key = prefix + key
		}
		dst = append(dst, rpc.Pair{Key: key, Value: value})
	}
	return dst
}

// AppendResponseMetadata appends an answer's metadata for callers of the gRPC family: everything that is not the business
// of one hop or of the protocol, under prefix and its own name, values of -bin names as base64.
func AppendResponseMetadata(dst, metadata rpc.Metadata, prefix string) rpc.Metadata {
	for i := range metadata {
		key, value := metadata[i].Key, metadata[i].Value
		if responseForbidden(key) || prefix == "" && key == "x-request-id" { // every answer has one already
			continue
		}
		if strings.HasSuffix(key, "-bin") {
			value = base64.RawStdEncoding.EncodeToString([]byte(value))
		}
		if prefix != "" {
			key = prefix + key
		}
		dst = append(dst, rpc.Pair{Key: key, Value: value})
	}
	return dst
}

// PassesBack tells whether metadata of an answer (lower case) is the callers': what is the business of one hop or of the gateway
// is not.
func PassesBack(key string) bool { return !responseForbidden(key) }

// hopByHop tells whether one of the Connection headers names key: such a header is for the gateway alone (RFC 9110 section
// 7.6.1).
func hopByHop(headers rpc.Metadata, key string) bool {
	for i := range headers {
		if headers[i].Key != "connection" {
			continue
		}
		for connection := headers[i].Value; connection != ""; {
			var name string
			name, connection, _ = strings.Cut(connection, ",")
			if rpc.EqualFold(strings.Trim(name, " \t"), key) {
				return true
			}
		}
	}
	return false
}

type class uint8

const (
	ordinary   class = iota // passes from gRPC-family callers; from REST when listed
	standard                // passes from everybody
	onlyListed              // passes when the route lists it
	never
)

// headerClass sorts a lower-case header name; see "Headers to metadata" in ARCHITECTURE.md.
func headerClass(key string) class {
	switch key {
	case "traceparent", "tracestate", "baggage", "b3", "x-request-id", "user-agent", "accept-language", "authorization":
		return standard
	case "cookie", "cookie2":
		return onlyListed
	case "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host", "expect", "http2-settings",
		"accept", "accept-encoding", "accept-charset", "content-type", "content-length", "content-encoding", "content-language",
		"content-location", "content-range", "content-md5", "range", "x-request-timeout", "priority", "x-grpc-web",
		"forwarded", // made anew, see AppendForwarded
		"via":
		return never
	}
	if key == "" || key[0] == ':' {
		return never
	}
	switch {
	case strings.HasPrefix(key, "x-b3-"):
		return standard
	case forwarded(key), strings.HasPrefix(key, "grpc-"), strings.HasPrefix(key, "connect-"), strings.HasPrefix(key, "proxy-"), identity(key):
		return never
	}
	return ordinary
}

// forwarded tells the headers that say where a call came from, in every spelling, for the reason that identity gives.
func forwarded(key string) bool {
	for _, p := range [...]string{"x-forwarded-", "x-real-ip"} {
		if len(key) >= len(p) && equalDashed(key[:len(p)], p) {
			return true
		}
	}
	return false
}

// identity tells the headers by which the gateway itself says who a caller is, in every spelling: upstreams that fold _
// to - must not be told by the caller.
func identity(key string) bool {
	for _, p := range [...]string{"x-consumer", "x-credential", "x-causeway"} {
		if len(key) >= len(p) && equalDashed(key[:len(p)], p) {
			return true
		}
	}
	return false
}

func equalDashed(key, p string) bool {
	for i := range len(p) {
		if key[i] != p[i] && (key[i] != '_' || p[i] != '-') {
			return false
		}
	}
	return true
}

// responseForbidden tells metadata of an answer that is the business of one hop or of gRPC itself.
func responseForbidden(key string) bool {
	switch key {
	case "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "content-type", "content-length", "content-encoding", "date", "server":
		return true
	}
	return key == "" || key[0] == ':' || strings.HasPrefix(key, "grpc-") || strings.HasPrefix(key, "connect-") || identity(key)
}

// decodeBin reads base64 with or without padding, as gRPC asks of receivers.
func decodeBin(v string) (string, bool) {
	enc := base64.RawStdEncoding
	if strings.HasSuffix(v, "=") {
		enc = base64.StdEncoding
	}
	b, err := enc.DecodeString(v)
	return string(b), err == nil
}

// metadataKey holds a name against the Header-Name production of grpc/doc/PROTOCOL-HTTP2.md.
func metadataKey(k string) bool {
	for i := range len(k) {
		if !keyTable[k[i]] {
			return false
		}
	}
	return k != ""
}

var keyTable = func() (t [256]bool) {
	for _, c := range "abcdefghijklmnopqrstuvwxyz0123456789-_." {
		t[c] = true
	}
	return t
}()
