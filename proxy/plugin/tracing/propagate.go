package tracing

import (
	"encoding/hex"
	"strings"
	"sync"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// propagator is a form of trace headers.
type propagator uint8

const (
	traceContext propagator = iota // https://www.w3.org/TR/trace-context/
	b3Single                       // https://github.com/openzipkin/b3-propagation#single-header
	b3Multi                        // https://github.com/openzipkin/b3-propagation#multiple-headers
)

var propagatorNames = [...]string{"tracecontext", "b3", "b3multi"}

// incoming is the place in a trace that a caller shows.
type incoming struct {
	form        propagator
	id          [16]byte
	span        [8]byte
	sampledFlag bool
	decided     bool   // B3 may leave the decision to others
	state       string // tracestate
}

func (f *incoming) sampled() bool { return f.decided && f.sampledFlag }

// passes tells that what the caller wrote is all that the service is to get.
func (f *incoming) passes(forms []propagator) bool {
	return len(forms) == 1 && forms[0] == f.form && f.decided
}

// extract reads the first form that header has.
func (t *tracing) extract(header rpc.Metadata) (f incoming, ok bool) {
	for _, p := range t.propagators {
		switch p {
		case traceContext:
			f, ok = extractTraceContext(header)
		case b3Single:
			f, ok = extractB3(header)
		case b3Multi:
			f, ok = extractB3Multi(header)
		}
		if ok {
			f.form = p
			return f, true
		}
	}
	return incoming{}, false
}

// only is the value of a header that occurs once.
func only(header rpc.Metadata, name string) string {
	value, n := "", 0
	for i := range header {
		if header[i].Key == name {
			value = header[i].Value
			n++
		}
	}
	if n != 1 {
		return ""
	}
	return value
}

const traceparentSize = 55 // of version 00

// extractTraceContext reads traceparent and tracestate. Versions above 00 may be longer.
func extractTraceContext(header rpc.Metadata) (f incoming, ok bool) {
	p := strings.Trim(only(header, "traceparent"), " \t")
	if len(p) < traceparentSize || p[2] != '-' || p[35] != '-' || p[52] != '-' {
		return f, false
	}
	var version, flags [1]byte
	if !unhex(version[:], p[:2]) || version[0] == 0xff || !unhex(f.id[:], p[3:35]) || !unhex(f.span[:], p[36:52]) || !unhex(flags[:], p[53:55]) {
		return f, false
	}
	if version[0] == 0 && (len(p) != traceparentSize || flags[0] > 3) || len(p) > traceparentSize && p[55] != '-' {
		return f, false
	}
	if f.id == [16]byte{} || f.span == [8]byte{} {
		return f, false
	}
	f.sampledFlag, f.decided = flags[0]&1 == 1, true
	f.state = tracestate(header)
	return f, true
}

const maxState = 512 // bytes of tracestate that are passed on

// tracestate is the list of vendors' entries, "" where it is too long or is no list.
func tracestate(header rpc.Metadata) string {
	state := ""
	for i := range header {
		if header[i].Key != "tracestate" {
			continue
		}
		if state != "" {
			state += ","
		}
		state += header[i].Value
		if len(state) > maxState {
			return ""
		}
	}
	for i := range len(state) {
		if c := state[i]; c != '\t' && (c < ' ' || c > '~') {
			return ""
		}
	}
	return state
}

// extractB3 reads the header b3: {TraceId}-{SpanId}[-{SamplingState}[-{ParentSpanId}]], or the decision alone, which is no
// trace.
func extractB3(header rpc.Metadata) (f incoming, ok bool) {
	v := only(header, "b3")
	id, rest, found := strings.Cut(v, "-")
	if !found {
		return f, false
	}
	span, rest, more := strings.Cut(rest, "-")
	if !b3IDs(&f, id, span) {
		return f, false
	}
	if !more {
		return f, true
	}
	decision, parent, more := strings.Cut(rest, "-")
	if more && !b3Parent(parent) || len(decision) != 1 || !b3Decision(&f, decision) {
		return incoming{}, false
	}
	return f, true
}

// extractB3Multi reads X-B3-TraceId, X-B3-SpanId, X-B3-Sampled and X-B3-Flags.
func extractB3Multi(header rpc.Metadata) (f incoming, ok bool) {
	id, span := only(header, "x-b3-traceid"), only(header, "x-b3-spanid")
	if !b3IDs(&f, id, span) {
		return f, false
	}
	if parent := header.Get("x-b3-parentspanid"); parent != "" && !b3Parent(parent) {
		return incoming{}, false
	}
	if header.Get("x-b3-flags") == "1" {
		f.sampledFlag, f.decided = true, true
		return f, true
	}
	if s := header.Get("x-b3-sampled"); s != "" && (s == "d" || !b3Decision(&f, s)) { // that is of the single form
		return incoming{}, false
	}
	return f, true
}

func b3IDs(f *incoming, id, span string) bool {
	switch len(id) {
	case 32:
		if !unhex(f.id[:], id) {
			return false
		}
	case 16:
		if !unhex(f.id[8:], id) {
			return false
		}
	default:
		return false
	}
	return len(span) == 16 && unhex(f.span[:], span) && f.id != [16]byte{} && f.span != [8]byte{}
}

// b3Parent tells whether a parent's id is one; it is of no use here.
func b3Parent(id string) bool {
	var span [8]byte
	return len(id) == 16 && unhex(span[:], id) && span != [8]byte{}
}

func b3Decision(f *incoming, s string) bool {
	switch s {
	case "1", "true", "d":
		f.sampledFlag, f.decided = true, true
	case "0", "false":
		f.decided = true
	default:
		return false
	}
	return true
}

// unhex reads lower-case hexadecimal; dst says how much.
func unhex(dst []byte, s string) bool {
	if len(s) != 2*len(dst) {
		return false
	}
	for i := range dst {
		hi, lo := nibble(s[2*i]), nibble(s[2*i+1])
		if hi|lo > 15 {
			return false
		}
		dst[i] = hi<<4 | lo
	}
	return true
}

func nibble(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}

// inject writes the place of the service's call: a trace with span as its parent.
func (t *tracing) inject(c *rpc.Call, trace rpc.Trace, span [8]byte, state string) {
	for _, p := range t.propagators {
		switch p {
		case traceContext:
			c.Header.Set("traceparent", string(appendTraceparent(make([]byte, 0, traceparentSize), trace.ID, span, trace.Sampled)))
			c.Header.Del("tracestate")
			if state != "" {
				c.Header.Add("tracestate", state)
			}
		case b3Single:
			b := hex.AppendEncode(make([]byte, 0, 64), trace.ID[:])
			b = append(b, '-')
			b = hex.AppendEncode(b, span[:])
			b = append(b, '-', bit(trace.Sampled))
			c.Header.Set("b3", string(b))
		case b3Multi:
			c.Header.Set("x-b3-traceid", hex.EncodeToString(trace.ID[:]))
			c.Header.Set("x-b3-spanid", hex.EncodeToString(span[:]))
			c.Header.Set("x-b3-sampled", bits[bit(trace.Sampled)-'0'])
			c.Header.Del("x-b3-parentspanid")
			c.Header.Del("x-b3-flags")
		}
	}
}

var bits = [...]string{"0", "1"}

func bit(on bool) byte {
	if on {
		return '1'
	}
	return '0'
}

func appendTraceparent(b []byte, id [16]byte, span [8]byte, sampled bool) []byte {
	b = append(b, "00-"...)
	b = hex.AppendEncode(b, id[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, span[:])
	return append(b, '-', '0', bit(sampled))
}

// freshIDs are places in traces that begin here and are not sampled, written in advance: several for one allocation.
type freshIDs struct {
	mu   sync.Mutex
	text string
}

const freshAhead = 16

// take returns a traceparent of a trace that begins here and is not sampled.
func (f *freshIDs) take() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.text == "" {
		b := make([]byte, 0, freshAhead*traceparentSize)
		for range freshAhead {
			b = appendTraceparent(b, newTraceID(), newSpanID(), false)
		}
		f.text = string(b)
	}
	p := f.text[:traceparentSize]
	f.text = f.text[traceparentSize:]
	return p
}

// injectFresh writes the place of a trace that begins here and of which the gateway sends no span.
func (t *tracing) injectFresh(c *rpc.Call) {
	if c.Trace.Sampled || len(t.propagators) != 1 || t.propagators[0] != traceContext {
		t.inject(c, c.Trace, c.Trace.Span, "")
		return
	}
	p := t.fresh.take()
	unhex(c.Trace.ID[:], p[3:35])
	unhex(c.Trace.Span[:], p[36:52])
	c.Header.Del("tracestate")
	c.Header.Set("traceparent", p)
}
