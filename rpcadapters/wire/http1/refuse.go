package http1

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strconv"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// refusal is a request that the engine answers itself, after which it closes the connection.
type refusal struct {
	status  int
	reason  string
	message string // says what was wanted and what was found
}

func malformed(format string, args ...any) *refusal {
	return &refusal{400, "MALFORMED_REQUEST", fmt.Sprintf(format, args...)}
}

// badFraming refuses what two readers could take for different numbers of requests.
func badFraming(message string) *refusal { return &refusal{400, "MALFORMED_FRAMING", message} }

func tooLarge(lim *Limits) *refusal {
	return &refusal{431, "HEADERS_TOO_LARGE", fmt.Sprintf("the request head is larger than %d bytes", lim.HeaderBytes)}
}

func uriTooLong(lim *Limits) *refusal {
	return &refusal{414, "URI_TOO_LONG", fmt.Sprintf("the request target is longer than %d bytes", lim.URI)}
}

// notHTTP refuses a first byte that no request begins with.
func notHTTP(c byte) *refusal {
	if c == 0x16 { // the type of a TLS handshake record
		return malformed("a TLS handshake came where plain HTTP is served: use http://")
	}
	return malformed("byte 0x%02X is not the beginning of a request", c)
}

// code is what the status is among the RPC codes.
func (r *refusal) code() codes.Code {
	switch r.status {
	case 405, 501, 505:
		return codes.Unimplemented
	case 408:
		return codes.DeadlineExceeded
	case 413, 414, 431:
		return codes.ResourceExhausted
	case 500:
		return codes.Internal
	}
	return codes.InvalidArgument
}

// appendBody appends the error as REST callers know it: google.rpc.Status as JSON.
func (r *refusal) appendBody(dst []byte) []byte {
	dst = append(dst, `{"code":`...)
	dst = strconv.AppendUint(dst, uint64(r.code()), 10)
	dst = append(dst, `,"message":`...)
	dst = appendQuoted(dst, r.message)
	dst = append(dst, `,"details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":`...)
	dst = appendQuoted(dst, r.reason)
	return append(dst, `,"domain":"causeway"}]}`...)
}

// appendQuoted appends s, printable ASCII, as a JSON string; whatever else were in it becomes a question mark.
func appendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c >= 0x7f:
			dst = append(dst, '?')
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// refuse answers for the engine itself. The connection ends after it.
func (c *conn) refuse(r *refusal, head bool) {
	body := rpc.GetBuffer()
	defer body.Free()
	body.B = r.appendBody(body.B)
	header := append(c.x.HTTP.Header[:0],
		rpc.Pair{Key: "content-type", Value: "application/json"},
		rpc.Pair{Key: "x-request-id", Value: newID()})
	if r.status == 405 {
		header = append(header, rpc.Pair{Key: "allow", Value: ""})
	}
	c.req = request{minor: '1', close: true}
	c.headOnly = head
	if err := c.Respond(r.status, header, body.B); err != nil {
		c.wbroken = true
	}
	if c.p.refused != nil {
		c.p.refused.Refused(c.peer, r.status, r.reason)
	}
}

// newID makes a request id. It has to differ, not to be secret.
func newID() string {
	var raw [16]byte
	binary.LittleEndian.PutUint64(raw[:8], rand.Uint64()) //nolint:gosec // see above
	binary.LittleEndian.PutUint64(raw[8:], rand.Uint64()) //nolint:gosec // see above
	return hex.EncodeToString(raw[:])
}
