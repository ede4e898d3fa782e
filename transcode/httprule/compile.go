package httprule

import (
	"errors"

	"google.golang.org/genproto/googleapis/api/annotations"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Rule is the google.api.http option of m, or nil.
func Rule(m *schema.Method) *annotations.HttpRule { return nil }

// Compile resolves r and its additional bindings against m.
func Compile(m *schema.Method, r *annotations.HttpRule) ([]*Binding, error) {
	return nil, errors.ErrUnsupported
}

// Default is the binding POST /package.Service/Method with the whole body.
func Default(m *schema.Method) *Binding { return &Binding{Verb: "POST", Method: m, Body: WholeBody} }

// String returns the binding as "GET /v1/{name=orders/*} -> demo.orders.v1.Orders/GetOrder".
func (b *Binding) String() string { return b.Verb }
