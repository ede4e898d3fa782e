package main

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"

	"golang.org/x/net/http2/hpack"
)

// protocol is what a caller speaks.
type protocol string

const (
	speaksREST    protocol = "REST"
	speaksGRPC    protocol = "gRPC"
	speaksWeb     protocol = "gRPC-Web"
	speaksConnect protocol = "Connect-JSON"
)

// call is what the load sends and what must come back.
type call struct {
	protocol protocol
	verb     string
	target   string // path and query
	accept   string
	body     []byte
	status   int    // HTTP status of the right answer
	answer   []byte // REST and Connect: its JSON, a line for each message of a stream; gRPC and gRPC-Web: its length-prefixed messages
	token    string // what Authorization says; "": the usual one
	messages int    // in the answer, when it is a stream; 0: a unary call
}

// size is how many bytes of the answer's body one message takes, for a body that a candidate gave.
func (c *call) size(body []byte) int {
	if c.messages == 0 {
		return len(body)
	}
	return len(body) / c.messages
}

// check compares a candidate's first answer with the right one by what it says; every later one must have its bytes.
func (c *call) check(a answer) error {
	if a.status != c.status {
		return fmt.Errorf("status %d, want %d: %.300s", a.status, c.status, a.body)
	}
	switch {
	case c.protocol == speaksWeb:
		trailer, ok := bytes.CutPrefix(a.body, c.answer)
		if !ok || len(trailer) < 5 || trailer[0] != 0x80 || int(binary.BigEndian.Uint32(trailer[1:])) != len(trailer)-5 ||
			!bytes.Contains(bytes.ToLower(trailer[5:]), []byte("grpc-status:")) ||
			!bytes.Contains(bytes.ReplaceAll(bytes.ToLower(trailer[5:]), []byte(" "), nil), []byte("grpc-status:0\r\n")) {
			return fmt.Errorf("want the message and trailers with grpc-status 0, got %q", a.body)
		}
		return nil
	case c.messages > 0:
		return sameLines(a.body, c.answer)
	default:
		return sameJSON(a.body, c.answer)
	}
}

// sameLines compares two streams of JSON, a message to a line. grpc-gateway wraps each in an object of its own.
func sameLines(got, want []byte) error {
	g, w := bytes.Split(bytes.TrimSpace(got), []byte("\n")), bytes.Split(bytes.TrimSpace(want), []byte("\n"))
	if len(g) != len(w) {
		return fmt.Errorf("the answer has %d lines, want %d", len(g), len(w))
	}
	for i := range g {
		line := bytes.TrimSpace(g[i])
		if inner, ok := bytes.CutPrefix(line, []byte(`{"result":`)); ok {
			line = bytes.TrimSuffix(inner, []byte("}"))
		}
		if err := sameJSON(line, w[i]); err != nil {
			return fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	return nil
}

const (
	userAgent   = "orders-app/5.14.2 (Android 16; Pixel 9)"
	grpcAgent   = "grpc-java-okhttp/1.76.0"
	traceHeader = "Traceparent"
)

// token is 300 bytes with the scheme before it, as bearer tokens are.
var token = "Bearer " + strings.Repeat("eyJhbGciOiJIUzI1NiJ9.", 14) + "signature"

// timeoutHeader is the name of the deadline header that a candidate reads, with the value's parts around the six digits
// that differ from call to call.
type timeoutHeader struct{ name, before, after string }

// grpcTimeout is 9.0 to 9.999999 seconds.
var grpcTimeout = timeoutHeader{name: "Grpc-Timeout", before: "9", after: "u"}

// request is one pre-built HTTP/1.1 request. The load writes new digits at `timeout` and new hexadecimal at `trace` and
// `span` before each call, as no two calls of a real client are the same there.
type request struct {
	bytes                []byte
	timeout, trace, span int
}

// newRequest builds the request with a realistic head: host, user agent, accept, content type, a 300-byte token, a
// deadline and a trace context.
func newRequest(c *call, host string, timeout timeoutHeader) request {
	var (
		b strings.Builder
		r request
	)
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", c.verb, c.target)
	fmt.Fprintf(&b, "Host: %s\r\nUser-Agent: %s\r\n", host, userAgent)
	contentType := "application/json"
	switch c.protocol {
	case speaksConnect:
		b.WriteString("Connect-Protocol-Version: 1\r\n")
		timeout = timeoutHeader{name: "Connect-Timeout-Ms", before: "1"}
	case speaksWeb:
		b.WriteString("X-Grpc-Web: 1\r\n")
		contentType = "application/grpc-web+proto"
		timeout = grpcTimeout
	}
	accept := c.accept
	if accept == "" {
		accept = contentType
	}
	fmt.Fprintf(&b, "Accept: %s\r\n", accept)
	if c.body != nil {
		fmt.Fprintf(&b, "Content-Type: %s\r\nContent-Length: %d\r\n", contentType, len(c.body))
	}
	fmt.Fprintf(&b, "Authorization: %s\r\n", cmp.Or(c.token, token))
	fmt.Fprintf(&b, "%s: %s", timeout.name, timeout.before)
	r.timeout = b.Len()
	fmt.Fprintf(&b, "000000%s\r\n", timeout.after)
	b.WriteString(traceHeader + ": 00-")
	r.trace = b.Len()
	b.WriteString(strings.Repeat("0", 32) + "-")
	r.span = b.Len()
	b.WriteString(strings.Repeat("0", 16) + "-01\r\n\r\n")
	b.Write(c.body)
	r.bytes = []byte(b.String())
	return r
}

// clone copies the request for one connection.
func (r request) clone() request {
	r.bytes = bytes.Clone(r.bytes)
	return r
}

// vary gives the request new deadline digits and a new trace context made from the random words a, b and c.
func (r *request) vary(a, b, c uint64) {
	putDigits(r.bytes[r.timeout:], a)
	putTrace(r.bytes[r.trace:], r.bytes[r.span:], a, b, c)
}

// putDigits writes six digits of v.
func putDigits(dst []byte, v uint64) {
	v %= 1_000_000
	for i := 5; i >= 0; i-- {
		dst[i] = byte('0' + v%10)
		v /= 10
	}
}

func putTrace(trace, span []byte, a, b, c uint64) {
	putHex(trace, a)
	putHex(trace[16:], b)
	putHex(span, c|1) // an all-zero span id is not valid
}

func putHex(dst []byte, v uint64) {
	const digits = "0123456789abcdef"
	for i := range 16 {
		dst[15-i] = digits[v&15]
		v >>= 4
	}
}

// grpcHead is the head of a gRPC call, field by field; the last two differ from call to call.
type grpcHead struct {
	fields  []hpack.HeaderField
	timeout [len("9000000u")]byte
	trace   [len("00-") + 32 + len("-") + 16 + len("-01")]byte
}

func newGRPCHead(c *call, host string) *grpcHead {
	h := &grpcHead{}
	for _, f := range [][2]string{
		{":method", http.MethodPost},
		{":scheme", "http"},
		{":path", c.target},
		{":authority", host},
		{"content-type", "application/grpc"},
		{"user-agent", grpcAgent},
		{"te", "trailers"},
		{"authorization", token},
		{"grpc-timeout", ""},
		{"traceparent", ""},
	} {
		h.fields = append(h.fields, hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	copy(h.timeout[:], "9000000u")
	copy(h.trace[:], "00-"+strings.Repeat("0", 32)+"-"+strings.Repeat("0", 16)+"-01")
	return h
}

// vary gives the head a new deadline and a new trace context.
func (h *grpcHead) vary(rng *rand.Rand) {
	a := rng.Uint64()
	putDigits(h.timeout[1:], a)
	putTrace(h.trace[3:], h.trace[36:], a, rng.Uint64(), rng.Uint64())
	n := len(h.fields)
	h.fields[n-2].Value = string(h.timeout[:])
	h.fields[n-1].Value = string(h.trace[:])
}

// messagePrefix is the length of what stands before a message of the gRPC family.
const messagePrefix = 5

// lengthPrefixed gives the message with gRPC's prefix before it.
func lengthPrefixed(message []byte) []byte {
	b := make([]byte, messagePrefix, messagePrefix+len(message))
	binary.BigEndian.PutUint32(b[1:], uint32(len(message))) //nolint:gosec // about 10 KB
	return append(b, message...)
}
