package plugin

import (
	"context"
	"slices"
	"strings"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// Asserter is an Authenticator that tells services what it found in headers of its own, beside ConsumerHeader. On its
// routes no caller can send headers of these names: they are taken from every call at the chain's entry, also from those
// that a condition takes past the plugin, or that another way of authentication accepts. That is also true of the request's
// own head, which conditions and authorisation servers see, but for those that carry credentials.
type Asserter interface {
	// Asserts are the headers, lower case.
	Asserts() []string
}

// Discarder is an Authenticator that can take what it has not checked out of a call: another of several ways accepted the
// call, and no service shall take the other credentials beside for proven.
type Discarder interface {
	// Discard removes the plugin's credentials from c.
	Discard(c *rpc.Call)
}

// Without takes headers out of calls, in every spelling that a service might take for theirs; see Asserter.
func Without(headers []string, next rpc.Handler) rpc.Handler {
	return &without{headers, slices.DeleteFunc(slices.Clone(headers), CarriesCredentials), next}
}

// CarriesCredentials tells the headers (lower case) that callers show credentials in, whatever plugins set under these names.
func CarriesCredentials(name string) bool { return name == "authorization" || name == "cookie" }

type without struct {
	headers []string
	head    []string // those that also the request's head loses
	next    rpc.Handler
}

// Handle implements rpc.Handler.
func (h *without) Handle(ctx context.Context, c *rpc.Call) error {
	DiscardHeaders(c, h.headers)
	if c.HTTP != nil {
		discard(&c.HTTP.Header, h.head)
	}
	return h.next.Handle(ctx, c)
}

// DiscardHeaders takes headers (lower case) out of the call's metadata, in every spelling.
func DiscardHeaders(c *rpc.Call, headers []string) { discard(&c.Header, headers) }

func discard(from *rpc.Metadata, headers []string) {
	m := *from
	n := 0
next:
	for i := range m {
		for _, name := range headers {
			if SameHeader(m[i].Key, name) {
				continue next
			}
		}
		if n != i {
			m[n] = m[i]
		}
		n++
	}
	clear(m[n:])
	*from = m[:n]
}

// presented is what a call shows of its caller: the head of its request, or its metadata where there is no HTTP.
func presented(c *rpc.Call) rpc.Metadata {
	if c.HTTP != nil {
		return c.HTTP.Header
	}
	return c.Header
}

// Hearsay tells the headers (lower case) that say who calls and from where: the gateway itself says that, and what a caller
// sends under these names, in any spelling, is passed on to nobody.
func Hearsay(name string) bool {
	for _, p := range [...]string{"x-consumer", "x-credential", "x-causeway", "x-forwarded-", "x-real-ip"} {
		if len(name) >= len(p) && SameHeader(name[:len(p)], p) {
			return true
		}
	}
	return name == "forwarded"
}

// Shown returns the value of a header (lower case) that the caller sent, and how often it did: more than once is for
// nobody to choose from.
func Shown(c *rpc.Call, header string) (value string, n int) {
	m := presented(c)
	for i := range m {
		if m[i].Key == header {
			if n == 0 {
				value = m[i].Value
			}
			n++
		}
	}
	return value, n
}

// Scheme returns what follows an authentication scheme (lower case: "bearer") in a value of Authorization (RFC 9110 section
// 11.4).
func Scheme(authorization, scheme string) (credentials string, ok bool) {
	if len(authorization) <= len(scheme) || authorization[len(scheme)] != ' ' || !rpc.EqualFold(authorization[:len(scheme)], scheme) {
		return "", false
	}
	return strings.TrimLeft(authorization[len(scheme)+1:], " "), true
}

// DiscardScheme takes every Authorization of a scheme (lower case) out of the call's metadata, also one in a form that a
// service might read and the gateway does not.
func DiscardScheme(c *rpc.Call, scheme string) {
	c.Header = slices.DeleteFunc(c.Header, func(p rpc.Pair) bool {
		if p.Key != "authorization" {
			return false
		}
		v := strings.TrimLeft(p.Value, " \t\",")
		return len(v) >= len(scheme) && rpc.EqualFold(v[:len(scheme)], scheme) && (len(v) == len(scheme) || !word(v[len(scheme)]))
	})
}

// word tells the characters of which schemes are made, as far as there are any.
func word(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || c == '-'
}

// QueryShown is Shown for a query parameter; the value is decoded. One that cannot be decoded is "" and counts.
func QueryShown(c *rpc.Call, name string) (value string, n int) {
	if c.HTTP == nil {
		return "", 0
	}
	for rest := c.HTTP.Query; rest != ""; {
		var pair string
		pair, rest, _ = strings.Cut(rest, "&")
		key, v, _ := strings.Cut(pair, "=")
		if decoded, ok := unescape(key); !ok || decoded != name {
			continue
		}
		if n == 0 {
			value, _ = unescape(v)
		}
		n++
	}
	return value, n
}

// DiscardQuery takes every parameter of a name out of the query, before it becomes part of the request, goes to mirrors, or
// is logged.
func DiscardQuery(c *rpc.Call, name string) {
	if _, n := QueryShown(c, name); n == 0 {
		return
	}
	kept := make([]string, 0, 8)
	for pair := range strings.SplitSeq(c.HTTP.Query, "&") {
		key, _, _ := strings.Cut(pair, "=")
		if decoded, ok := unescape(key); !ok || decoded != name {
			kept = append(kept, pair)
		}
	}
	c.HTTP.Query = strings.Join(kept, "&")
}

// unescape decodes a part of a query (https://url.spec.whatwg.org/#urlencoded-parsing).
func unescape(s string) (string, bool) {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s, true
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '+':
			b = append(b, ' ')
		case '%':
			if i+2 >= len(s) {
				return "", false
			}
			hi, ok1 := hexDigit(s[i+1])
			lo, ok2 := hexDigit(s[i+2])
			if !ok1 || !ok2 {
				return "", false
			}
			b = append(b, hi<<4|lo)
			i += 2
		default:
			b = append(b, s[i])
		}
	}
	return string(b), true
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}

// asciiSpace is what may stand around names and values of cookies.
const asciiSpace = " \t\r\n"

// CookieShown is Shown for a cookie (RFC 6265 section 4.2). What Unicode has for spaces is a part of a name, as it is to browsers,
// which let pages set a cookie of such a name where they hold __Host- back.
func CookieShown(c *rpc.Call, name string) (value string, n int) {
	m := presented(c)
	for i := range m {
		if m[i].Key != "cookie" {
			continue
		}
		for rest := m[i].Value; rest != ""; {
			var pair string
			pair, rest, _ = strings.Cut(rest, ";")
			key, v, ok := strings.Cut(pair, "=")
			if !ok || strings.Trim(key, asciiSpace) != name {
				continue
			}
			if n == 0 {
				value = strings.Trim(strings.Trim(v, asciiSpace), `"`)
			}
			n++
		}
	}
	return value, n
}

// DiscardCookie takes every cookie of a name out of the call's metadata, also those that a service may take for it.
func DiscardCookie(c *rpc.Call, name string) {
	for i := range c.Header {
		if h := &c.Header[i]; h.Key == "cookie" && strings.Contains(h.Value, name) {
			kept := make([]string, 0, 8)
			for pair := range strings.SplitSeq(h.Value, ";") {
				if key, _, _ := strings.Cut(pair, "="); strings.TrimSpace(key) != name {
					kept = append(kept, strings.TrimSpace(pair))
				}
			}
			h.Value = strings.Join(kept, "; ")
		}
	}
	c.Header = slices.DeleteFunc(c.Header, func(p rpc.Pair) bool { return p.Key == "cookie" && p.Value == "" })
}

// SameHeader tells whether a service may take two names of headers for one: case does not matter, nor whether words are
// joined by - or _ (CGI, WSGI and many frameworks fold them).
func SameHeader(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if fold(a[i]) != fold(b[i]) {
			return false
		}
	}
	return true
}

func fold(c byte) byte {
	switch {
	case 'A' <= c && c <= 'Z':
		return c | 0x20
	case c == '_':
		return '-'
	}
	return c
}

// Printable tells text that a header carries as it is: printable ASCII with no space around it.
func Printable(s string) bool {
	return HeaderValue(s) && (s == "" || s[0] != ' ' && s[len(s)-1] != ' ')
}

// CheckCarrier holds the name of a header that a plugin reads or sets, lower case, against what can be one: letters, digits, -
// _ and ., and none that is the business of the connection, of a protocol, or of the gateway. It returns nil or the fault at
// path.
func CheckCarrier(path, name string) error {
	if !HeaderName(name) {
		return Faultf(path, "use letters, digits, - _ and . only", "%q is not the name of a header", name)
	}
	for _, prefix := range reservedPrefixes {
		if len(name) >= len(prefix) && SameHeader(name[:len(prefix)], prefix) {
			return Faultf(path, "name another", "%q is for the gateway and its protocols alone", name)
		}
	}
	if slices.ContainsFunc(reserved, func(r string) bool { return SameHeader(name, r) }) {
		return Faultf(path, "name another", "%q is for the connection alone", name)
	}
	return nil
}

var (
	reservedPrefixes = []string{"grpc-", "connect-", "proxy-", "sec-", "x-consumer", "x-credential", "x-causeway", "x-forwarded-", "x-real-ip"}
	reserved         = []string{
		"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host", "expect", "http2-settings", "accept",
		"accept-encoding", "content-type", "content-length", "content-encoding", "cookie", "forwarded", "origin", "x-request-id", "via", "priority",
	}
)
