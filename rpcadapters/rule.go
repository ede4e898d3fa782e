package rpcadapters

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/causeway-gateway/causeway/transcode/httprule"
	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Rule is an HTTP rule on a route, with what reading requests and writing answers by it takes, found once. Read-only.
type Rule struct {
	*httprule.Binding
	Query jsonwire.QueryOptions
	// Mask is the FieldMask that is filled with what the body gives (PATCH of a field); nil: none.
	Mask schema.Path
	// RawBody says that the body is the content of a google.api.HttpBody.
	RawBody bool
	// RawAnswer says that the answer, or the field of it that is sent, is a google.api.HttpBody.
	RawAnswer bool
}

// NewRule prepares a binding for a route. The error is about the field that captures query parameters.
func NewRule(b *httprule.Binding, o *REST) (*Rule, error) {
	r := &Rule{Binding: b}
	r.Query = jsonwire.QueryOptions{Unknown: o.Unknown, Unbound: b.Body == httprule.WholeBody, GRPCGateway: o.GRPCGateway, Bound: b.Vars}
	if o.Unknown == jsonwire.CaptureUnknown {
		path, err := jsonwire.CaptureField(b.Method.Input, o.Capture)
		if err != nil {
			return nil, fmt.Errorf("capture_query of %s: %w", b.Method.Name[1:], err)
		}
		r.Query.Capture = path
	}
	switch b.Body {
	case httprule.WholeBody:
		r.RawBody = jsonwire.IsHTTPBody(b.Method.Input)
	case httprule.FieldBody:
		r.Query.Bound = append(slices.Clip(r.Query.Bound), b.BodyField)
		last := b.BodyField.Last()
		r.RawBody = last.Cardinality == schema.Singular && last.Message != nil && jsonwire.IsHTTPBody(last.Message)
		if b.Verb == http.MethodPatch {
			r.Mask = jsonwire.MaskField(b.Method.Input)
		}
	case httprule.NoBody:
	}
	answer := b.Method.Output
	if b.ResponseBody != nil {
		last := b.ResponseBody.Last()
		if answer = last.Message; last.Cardinality != schema.Singular {
			answer = nil
		}
	}
	r.RawAnswer = answer != nil && jsonwire.IsHTTPBody(answer)
	return r, nil
}

// Param implements rpc.Params over what the rule's template captured.
func (m *Matched) Param(name string) (string, bool) {
	for i, p := range m.Rule.Vars {
		if p.Is(name) {
			return m.Vars[i], true
		}
	}
	return "", false
}
