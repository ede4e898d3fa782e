package tracing

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// Done makes the call's spans, where it is sampled and they are sent anywhere.
func (t *tracing) Done(c *rpc.Call, sent rpc.Sent) {
	if c.Trace.ID == [16]byte{} { // no route took it, or it was refused before it came here
		t.begin(c)
	}
	if !c.Trace.Sampled || !t.spans.Active() {
		return
	}
	span := spanOf(c, &sent)
	if c.Trace.Parent != [8]byte{} && slices.Contains(t.propagators, traceContext) {
		span.State = strings.Clone(tracestate(c.Header))
	}
	t.spans.Add(span)
}

// spanOf is the span of a call with those of its phases: receiving and translating the request, waiting for the service,
// sending the answer. Attributes are by OpenTelemetry's semantic conventions; nothing that may be a secret is among them: no
// query, no header but the user agent, no message.
func spanOf(c *rpc.Call, sent *rpc.Sent) *telemetry.Span {
	s := &telemetry.Span{
		Trace: c.Trace.ID, ID: c.Trace.Span, Parent: c.Trace.Parent, Name: strings.Clone(nameOf(c)), Kind: telemetry.Server,
		Start: c.Times.Start, End: sent.End, Attrs: make([]telemetry.Attr, 0, 20),
	}
	s.Failed, s.Message = failed(c, sent)
	a := attrs{s.Attrs}
	if c.Method != nil {
		a.text("rpc.system.name", systemOf(c.Protocol))
		a.text("rpc.method", methodOf(c))
		a.text("rpc.response.status_code", rpc.CodeName(sent.Code))
	}
	if h := c.HTTP; h != nil {
		a.text("http.request.method", verbOf(h.Method))
		a.text("url.scheme", h.Scheme)
		a.text("url.path", h.Path[:min(len(h.Path), 2048)])
		a.text("server.address", h.Host)
		a.number("server.port", portOf(h.Port))
		a.text("user_agent.original", cut(h.Header.Get("user-agent")))
	}
	a.number("http.response.status_code", int64(sent.Status))
	if addr := c.Address(); addr.IsValid() {
		a.text("client.address", addr.String())
	}
	if peer := c.Peer.Addr().Unmap().WithZone(""); peer.IsValid() {
		a.text("network.peer.address", peer.String())
		a.number("network.peer.port", int64(c.Peer.Port()))
	}
	if s.Failed {
		a.text("error.type", errorType(sent))
	}
	a.text("causeway.protocol", c.Protocol)
	a.text("causeway.route", c.Route)
	a.text("causeway.service", c.Service)
	a.text("causeway.consumer", c.ConsumerName())
	a.text("causeway.request_id", c.ID)
	s.Attrs = a.list
	s.Children = phases(c, sent)
	return s
}

// phases are the spans within the call's.
func phases(c *rpc.Call, sent *rpc.Sent) []telemetry.Span {
	if c.Times.Body.IsZero() {
		return nil // it was refused
	}
	list := make([]telemetry.Span, 0, 3)
	list = append(list, telemetry.Span{ID: receiveID(c.Trace.Span), Name: "receive", Start: c.Times.Start, End: c.Times.Body})
	answered := c.Times.Body
	if c.Attempts > 0 {
		answered = c.Times.Body.Add(c.Times.Upstream)
		if answered.After(sent.End) {
			answered = sent.End
		}
		s := telemetry.Span{
			ID: upstreamID(c.Trace.Span), Name: strings.Clone(nameOf(c)), Kind: telemetry.Client, Start: c.Times.Body, End: answered,
			Attrs: make([]telemetry.Attr, 0, 8),
		}
		a := attrs{s.Attrs}
		a.text("rpc.system.name", "grpc")
		a.text("rpc.method", methodOf(c))
		a.text("rpc.response.status_code", rpc.CodeName(sent.Code))
		host, port := hostPort(c.Node)
		a.text("server.address", host)
		a.number("server.port", portOf(port))
		a.number("causeway.attempts", int64(c.Attempts))
		if sent.Code != codes.OK {
			s.Failed = true
			a.text("error.type", errorType(sent))
		}
		s.Attrs = a.list
		list = append(list, s)
	}
	return append(list, telemetry.Span{ID: sendID(c.Trace.Span), Name: "send", Start: answered, End: later(sent.End, answered)})
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// attrs is a list of attributes. Texts are copied: a call's end with it.
type attrs struct{ list []telemetry.Attr }

func (a *attrs) text(key, value string) {
	if value != "" {
		a.list = append(a.list, telemetry.Attr{Key: key, Text: strings.Clone(value)})
	}
}

func (a *attrs) number(key string, value int64) {
	if value != 0 {
		a.list = append(a.list, telemetry.Attr{Key: key, Int: value, IsInt: true})
	}
}

// nameOf is a name with few values: the method, or the verb where none was found.
func nameOf(c *rpc.Call) string {
	switch {
	case c.Method != nil:
		return methodOf(c)
	case c.HTTP != nil:
		return verbOf(c.HTTP.Method)
	}
	return c.Protocol
}

func methodOf(c *rpc.Call) string {
	if c.Method == nil {
		return ""
	}
	return strings.TrimPrefix(c.Method.Name, "/")
}

// verbOf is the verb, or "_OTHER" as the conventions say for what is none.
func verbOf(verb string) string {
	switch verb {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY":
		return verb
	}
	return "_OTHER"
}

// systemOf is the RPC system of an inbound protocol.
func systemOf(protocol string) string {
	switch protocol {
	case "connect":
		return "connectrpc"
	case "rest":
		return "" // it is HTTP
	case "grpcweb", "grpc-web":
		return "grpc"
	}
	return protocol
}

// failed tells whether the call counts as one that failed on the server's side.
func failed(c *rpc.Call, sent *rpc.Sent) (failed bool, message string) {
	switch sent.Code {
	case codes.Unknown, codes.DeadlineExceeded, codes.Unimplemented, codes.Internal, codes.Unavailable, codes.DataLoss:
		if c.Method != nil || sent.Status >= 500 {
			return true, sent.Reason
		}
	default:
	}
	return sent.Status >= 500, sent.Reason
}

func errorType(sent *rpc.Sent) string {
	if sent.Reason != "" {
		return sent.Reason
	}
	return rpc.CodeName(sent.Code)
}

// cut bounds what a caller may write.
func cut(s string) string { return s[:min(len(s), 256)] }

func hostPort(address string) (host, port string) {
	i := strings.LastIndexByte(address, ':')
	if i < 0 {
		return address, ""
	}
	return strings.Trim(address[:i], "[]"), address[i+1:]
}

func portOf(s string) int64 {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0
	}
	return int64(n)
}
