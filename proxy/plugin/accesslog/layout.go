package accesslog

import (
	"slices"
	"strings"

	accesslogv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/accesslog/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// field is one field of a line.
type field uint8

const (
	fieldTime field = iota
	fieldRequestID
	fieldTraceID
	fieldSpanID
	fieldPeer
	fieldClient
	fieldPath
	fieldUserAgent
	fieldGroups
	fieldBytesIn
	fieldBytesOut
	fieldDuration
	fieldUpstream
	fieldBody
	fieldAttempts
	fieldReason
	fieldError

	// Those that are the same from call to call: see writer.
	fieldProtocol
	fieldMethod
	fieldScheme
	fieldHost
	fieldStatus
	fieldCode
	fieldRoute
	fieldService
	fieldRPCMethod
	fieldNode
	fieldConsumer

	// Those that the configuration names.
	fieldRequestHeaders
	fieldResponseHeaders
	fieldClaims
)

// repeats tells a field that has the same few values in nearly all calls.
func (f field) repeats() bool { return f >= fieldProtocol && f <= fieldConsumer }

// defaultFields are those of a line where the configuration names none, in their order.
func defaultFields() []string {
	return []string{
		"time", "request_id", "trace_id", "peer", "path", "method", "host", "protocol", "status", "code", "route", "service",
		"rpc_method", "node", "consumer", "user_agent", "bytes_in", "bytes_out", "duration_ms", "upstream_ms", "body_ms",
		"attempts", "reason", "error",
	}
}

// furtherFields are those that a configuration may name beside.
func furtherFields() []string { return []string{"client", "groups", "scheme", "span_id"} }

// fieldsByName are the fields that a configuration may name.
func fieldsByName() map[string]field {
	return map[string]field{
		"time": fieldTime, "request_id": fieldRequestID, "trace_id": fieldTraceID, "span_id": fieldSpanID,
		"peer": fieldPeer, "client": fieldClient, "path": fieldPath, "user_agent": fieldUserAgent, "groups": fieldGroups,
		"bytes_in": fieldBytesIn, "bytes_out": fieldBytesOut, "duration_ms": fieldDuration, "upstream_ms": fieldUpstream,
		"body_ms": fieldBody, "attempts": fieldAttempts, "reason": fieldReason, "error": fieldError,
		"protocol": fieldProtocol, "method": fieldMethod, "scheme": fieldScheme, "host": fieldHost, "status": fieldStatus,
		"code": fieldCode, "route": fieldRoute, "service": fieldService, "rpc_method": fieldRPCMethod, "node": fieldNode,
		"consumer": fieldConsumer,
	}
}

// step is one field of a layout, or a run of fields that repeat.
type step struct {
	field
	key string // what stands before the value: `,"status":`, ` status=`

	// For a run, of which this is the first.
	run  []step
	slot int // which of the writer's texts it is
}

// layout is the form of a line. It never changes.
type layout struct {
	logfmt bool
	steps  []step
	runs   int

	request, response names
	claims            []claim
}

// claim is one claim with the way to it.
type claim struct {
	name string
	path []string
}

func newLayout(conf *accesslogv1.AccessLog) (*layout, error) {
	l := &layout{}
	switch conf.GetFormat() {
	case "", "json":
	case "logfmt":
		l.logfmt = true
	default:
		return nil, plugin.Faultf("format", "write json or logfmt", "unknown format %q%s", conf.GetFormat(),
			schema.DidYouMean(conf.GetFormat(), []string{"json", "logfmt"}))
	}
	fields, err := fieldsOf(conf)
	if err != nil {
		return nil, err
	}
	deny, err := denyList(conf.GetDeny())
	if err != nil {
		return nil, err
	}
	if l.request, err = namesOf("request_headers", conf.GetRequestHeaders(), deny); err != nil {
		return nil, err
	}
	if l.response, err = namesOf("response_headers", conf.GetResponseHeaders(), deny); err != nil {
		return nil, err
	}
	if l.claims, err = claimsOf(conf.GetClaims(), deny); err != nil {
		return nil, err
	}
	for _, f := range fields {
		l.add(f.field, f.key)
	}
	if !l.request.empty() {
		l.add(fieldRequestHeaders, "request_headers")
	}
	if !l.response.empty() {
		l.add(fieldResponseHeaders, "response_headers")
	}
	if len(l.claims) > 0 {
		l.add(fieldClaims, "claims")
	}
	return l, nil
}

// fieldsOf are the chosen fields; their keys are their names.
func fieldsOf(conf *accesslogv1.AccessLog) ([]step, error) {
	chosen := conf.GetFields()
	if len(chosen) == 0 {
		chosen = []string{"default"}
	}
	known := fieldsByName()
	var out []step
	add := func(at int, name string) error {
		f, ok := known[name]
		if !ok {
			all := slices.Concat([]string{"default"}, defaultFields(), furtherFields())
			return plugin.Faultf(indexed("fields", at), "name any of: "+strings.Join(all, ", "),
				"unknown field %q%s", name, schema.DidYouMean(name, all))
		}
		if slices.ContainsFunc(out, func(s step) bool { return s.field == f }) {
			return plugin.Faultf(indexed("fields", at), "name it once", "the field %q a second time", name)
		}
		out = append(out, step{field: f, key: name})
		return nil
	}
	for i, name := range chosen {
		names := []string{name}
		if name == "default" {
			names = defaultFields()
		}
		for _, n := range names {
			if err := add(i, n); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// add appends a field, to the run before it if both repeat.
func (l *layout) add(f field, name string) {
	s := step{field: f, key: `,"` + name + `":`}
	if l.logfmt {
		s.key = " " + name + "="
	}
	if !f.repeats() {
		l.steps = append(l.steps, s)
		return
	}
	if n := len(l.steps); n == 0 || l.steps[n-1].run == nil {
		l.steps = append(l.steps, step{field: f, slot: l.runs})
		l.runs++
	}
	last := &l.steps[len(l.steps)-1]
	last.run = append(last.run, s)
}
