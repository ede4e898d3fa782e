package rest

import (
	"encoding/base64"
	"errors"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// statusClientGone is what the log says when the caller did not wait for the answer; nobody receives it.
const statusClientGone = 499

// answer writes what the chain came back with and says what was sent.
func (f *Face) answer(c *call, err error) rpc.Sent {
	if c.stream != nil {
		if sent, done := f.finish(c, err); done {
			return sent
		}
	}
	if err == nil {
		err = f.success(c)
	}
	if err == nil {
		return finished(c.x, codes.OK)
	}
	if a, ok := errors.AsType[*rpc.Answer](err); ok {
		header := append(c.header[:0], a.Header...)
		header = append(header, rpc.Pair{Key: "x-request-id", Value: c.ID})
		werr := c.x.Respond(a.Status, header, a.Body)
		c.header = header
		s := finished(c.x, a.Code)
		s.Err, s.Reason = errors.Join(a, werr), a.Reason
		return s
	}
	header, trailer := c.metadata(c.header[:0])
	return f.refuse(c.x, rpc.AsError(err), refusal{types: c.Method.Schema, header: header, trailer: trailer, rest: &c.m.Options.REST})
}

// metadata appends what the service sent beside its answer: headers, and trailers, which go as headers too, or, to a
// caller of grpc-gateway's kind who asked for them, as trailers.
func (c *call) metadata(header rpc.Metadata) (_, trailer rpc.Metadata) {
	o := c.m.Options
	header = rpcadapters.AppendResponseHeaders(header, c.Reply.Header, o.Response, metadataPrefix)
	if o.REST.GRPCGateway && len(c.Reply.Trailer) > 0 && wantsTrailers(c.x) {
		return header, rpcadapters.AppendResponseHeaders(nil, c.Reply.Trailer, o.Response, trailerPrefix)
	}
	return rpcadapters.AppendResponseHeaders(header, c.Reply.Trailer, o.Response, trailerPrefix), nil
}

// wantsTrailers tells whether the caller takes trailers (RFC 9110 section 10.1.4), the answer has room for them, and the
// engine can send them.
func wantsTrailers(x *wire.Exchange) bool {
	if _, able := x.Engine().(wire.Streamer); !able || x.HTTP.Method == "HEAD" || x.Proto == "HTTP/1.0" {
		return false
	}
	for i := range x.HTTP.Header {
		if x.HTTP.Header[i].Key != "te" {
			continue
		}
		for coding := range strings.SplitSeq(x.HTTP.Header[i].Value, ",") {
			if rpc.EqualFold(strings.Trim(coding, " \t"), "trailers") {
				return true
			}
		}
	}
	return false
}

// respond writes an answer, with trailers if there are any.
func respond(x *wire.Exchange, status int, header, trailer rpc.Metadata, body []byte) error {
	if len(trailer) == 0 || x.Status() != 0 {
		return x.Respond(status, header, body)
	}
	for i, t := range trailer {
		if !trailer[:i].Has(t.Key) {
			header = append(header, rpc.Pair{Key: "trailer", Value: t.Key})
		}
	}
	if err := x.WriteHead(status, header); err != nil {
		return err
	}
	if err := x.Write(body); err != nil {
		return err
	}
	return x.End(trailer)
}

const (
	metadataPrefix = "grpc-metadata-"
	trailerPrefix  = "grpc-trailer-"
)

// success writes the reply as JSON, or a google.api.HttpBody as what it carries. An error means that nothing was written.
func (f *Face) success(c *call) error {
	if !c.hold(len(c.Reply.Message.Data)) {
		return overloaded()
	}
	buf := rpc.GetBuffer()
	typ, body, err := c.content(buf)
	if err != nil {
		buf.Free()
		return invalidAnswer(c, err)
	}
	if !c.hold(len(buf.B)) {
		buf.Free()
		return overloaded()
	}
	header, trailer := c.metadata(append(c.header[:0],
		rpc.Pair{Key: "content-type", Value: typ},
		rpc.Pair{Key: "x-request-id", Value: c.ID}))
	c.header = header
	if err := respond(c.x, 200, header, trailer, body); err != nil {
		// The buffer is left to the collector: after a failed write an engine may still look at it.
		return rpc.Refuse(codes.Canceled, "CLIENT_GONE", "the caller left before the answer was written").WithCause(err)
	}
	buf.Free()
	return nil
}

func invalidAnswer(c *call, cause error) *rpc.Error {
	return rpc.Refuse(codes.Internal, "INVALID_ANSWER", "the service's answer is not a valid %s", c.Method.Output.Name).WithStatus(502).WithCause(cause)
}

const jsonType = "application/json"

// octets is the type of a google.api.HttpBody that has none (RFC 9110 section 8.3).
var octets = []byte("application/octet-stream")

// content is the body of the answer and its type; buf holds what had to be made.
func (c *call) content(buf *rpc.Buffer) (typ string, body []byte, err error) {
	rule, wire := c.m.Rule, c.Reply.Message.Data
	switch {
	case rule.RawAnswer:
		typ, data, err := jsonwire.SplitHTTPBody(wire, rule.ResponseBody)
		if len(typ) == 0 {
			typ = octets
		}
		return string(typ), data, err
	case rule.ResponseBody != nil:
		buf.B, err = jsonwire.AppendFieldJSON(buf.B, wire, c.Method.Output, rule.ResponseBody, c.m.Options.JSON)
	default:
		buf.B, err = jsonwire.AppendJSON(buf.B, wire, c.Method.Output, c.m.Options.JSON)
	}
	return jsonType, buf.B, err
}

// Refuse answers a request that has no route, or that broke before it had one.
func (f *Face) Refuse(x *wire.Exchange, err *rpc.Error) rpc.Sent {
	return f.refuse(x, err, refusal{})
}

// refusal is what an error is answered with; all of it may be missing.
type refusal struct {
	types           *schema.Schema // to decode details with
	header, trailer rpc.Metadata
	rest            *rpcadapters.REST
}

func (f *Face) refuse(x *wire.Exchange, e *rpc.Error, r refusal) rpc.Sent {
	status := e.Status
	if status == 0 {
		status = rpcadapters.HTTPStatus(e.Code)
	}
	bare := e.Bare
	header := append(r.header,
		rpc.Pair{Key: "content-type", Value: jsonType},
		rpc.Pair{Key: "x-request-id", Value: x.ID})
	header = append(header, e.Header...)
	if status == 429 || status == 503 {
		if after := retryAfter(e.Details); after != "" && !header.Has("retry-after") {
			header = append(header, rpc.Pair{Key: "retry-after", Value: after})
		}
	}
	if r.rest != nil && r.rest.GRPCGateway {
		bare = true
		if e.Code == codes.Unauthenticated && !header.Has("www-authenticate") {
			header = append(header, rpc.Pair{Key: "www-authenticate", Value: printable(e.Message)})
		}
	}
	buf := rpc.GetBuffer()
	buf.B = f.appendStatus(buf.B, e, r.types, bare)
	already := x.Status() != 0
	err := respond(x, status, header, r.trailer, buf.B)
	if err == nil {
		buf.Free() // else it is left to the collector, as in success
	}
	s := finished(x, e.Code)
	s.Reason, s.Err = e.Reason, e
	if err != nil && !already {
		s.Err = errors.Join(e, err)
	}
	if err != nil || already || e.Code == codes.Canceled {
		s.Status = statusClientGone
	}
	return s
}

// printable is text with what a header cannot carry replaced.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// retryAfter is the delay of the first google.rpc.RetryInfo with one among encoded details, in whole seconds rounded up as
// the header has it (RFC 9110 section 10.2.3); "" when there is none. One that is negative, or too long, is none.
func retryAfter(details [][]byte) string {
	for _, d := range details {
		url, value := splitAny(d)
		if !strings.HasSuffix(url, "/google.rpc.RetryInfo") {
			continue
		}
		raw := field(value, 1)
		if raw == nil {
			continue
		}
		seconds, nanos := delay(raw)
		if nanos < 0 {
			continue
		}
		if nanos > 0 {
			seconds++
		}
		if seconds >= 0 && seconds <= maxRetryAfter {
			return strconv.FormatInt(seconds, 10)
		}
	}
	return ""
}

// maxRetryAfter is the longest delay that is passed on, in seconds: a longer one is a mistake of units.
const maxRetryAfter = 30 * 24 * 3600

// delay reads a google.protobuf.Duration.
func delay(b []byte) (seconds, nanos int64) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return seconds, nanos
		}
		b = b[n:]
		if typ == protowire.VarintType && num <= 2 {
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return seconds, nanos
			}
			b = b[n:]
			if num == 1 {
				seconds = int64(v) //nolint:gosec // two's complement, as protobuf has it
			} else {
				nanos = int64(v) //nolint:gosec // as above
			}
			continue
		}
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return seconds, nanos
		}
		b = b[n:]
	}
	return seconds, nanos
}

// field is the last value of a length-delimited field, nil when it is not there; broken bytes give what came before the
// break.
func field(b []byte, want protowire.Number) (value []byte) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return value
		}
		b = b[n:]
		if num == want && typ == protowire.BytesType {
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return value
			}
			value, b = v, b[n:]
			continue
		}
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return value
		}
		b = b[n:]
	}
	return value
}

// appendStatus writes google.rpc.Status as JSON, its details decoded with the schema's types, else with the standard
// ones; an unknown type keeps its bytes as base64. bare: without the details that the gateway would add itself.
func (f *Face) appendStatus(dst []byte, e *rpc.Error, types *schema.Schema, bare bool) []byte {
	dst = append(dst, `{"code":`...)
	dst = strconv.AppendInt(dst, int64(e.Code), 10)
	dst = append(dst, `,"message":`...)
	dst = jsonwire.AppendString(dst, e.Message)
	dst = append(dst, `,"details":[`...)
	start := len(dst)
	for _, d := range e.Details {
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = f.appendDetail(dst, d, types)
	}
	if bare {
		return append(dst, `]}`...)
	}
	if e.Reason != "" {
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":`...)
		dst = jsonwire.AppendString(dst, e.Reason)
		dst = append(dst, `,"domain":"causeway"}`...)
	}
	if len(e.Fields) > 0 {
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[`...)
		for i, v := range e.Fields {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(dst, `{"field":`...)
			dst = jsonwire.AppendString(dst, v.Field)
			dst = append(dst, `,"description":`...)
			dst = jsonwire.AppendString(dst, v.Description)
			dst = append(dst, '}')
		}
		dst = append(dst, `]}`...)
	}
	return append(dst, `]}`...)
}

func (f *Face) appendDetail(dst, detail []byte, types *schema.Schema) []byte {
	mark := len(dst)
	for _, s := range [...]*schema.Schema{types, f.details} {
		if s == nil {
			continue
		}
		out, err := jsonwire.AppendAny(dst, detail, s, nil)
		if err == nil {
			return out
		}
		dst = dst[:mark]
	}
	url, value := splitAny(detail)
	dst = append(dst, `{"@type":`...)
	dst = jsonwire.AppendString(dst, url)
	dst = append(dst, `,"value":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, value)
	return append(dst, `"}`...)
}

// splitAny reads the two fields of an encoded google.protobuf.Any; broken bytes give what came before the break.
func splitAny(b []byte) (url string, value []byte) {
	return string(field(b, 1)), field(b, 2)
}
