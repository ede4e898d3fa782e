package expr

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/interpreter"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// A variable is a name that expressions may use.
type variable struct {
	name string
	typ  *cel.Type
	get  func(a *activation) any
}

var texts = cel.MapType(cel.StringType, cel.StringType)

// all are the variables. Names of headers and metadata are in lower case; what is not there is "".
var all = []variable{
	{"request.method", cel.StringType, func(a *activation) any { return a.http().Method }},
	{"request.scheme", cel.StringType, func(a *activation) any { return a.http().Scheme }},
	{"request.host", cel.StringType, func(a *activation) any { return a.http().Host }},
	{"request.path", cel.StringType, func(a *activation) any { return path(a.path(), a.decides) }},
	{"request.query", cel.StringType, func(a *activation) any { return a.http().Query }},
	{"request.headers", texts, func(a *activation) any { return table{headers(a.headers())} }},
	{"request.protocol", cel.StringType, func(a *activation) any { return a.call.Protocol }},
	{"request.id", cel.StringType, func(a *activation) any { return a.call.ID }},
	{"request.caller", cel.StringType, func(a *activation) any { return a.call.Caller }},
	{"request.callee", cel.StringType, func(a *activation) any { return a.call.Callee }},
	{"request.address", cel.StringType, func(a *activation) any { return a.call.Address().String() }},
	{"metadata", texts, func(a *activation) any { return table{headers(a.call.Header)} }},
	{"path", texts, func(a *activation) any { return table{params{a.call.Params}} }},
	{"rpc.service", cel.StringType, func(a *activation) any { return serviceOf(a.call) }},
	{"rpc.method", cel.StringType, func(a *activation) any { return methodOf(a.call) }},
	{"route", cel.StringType, func(a *activation) any { return a.call.Route }},
	{"service", cel.StringType, func(a *activation) any { return a.call.Service }},
	{"consumer.name", cel.StringType, func(a *activation) any { return a.call.ConsumerName() }},
	{"consumer.groups", cel.ListType(cel.StringType), func(a *activation) any { return groups(a.call) }},
	{"consumer.labels", texts, func(a *activation) any { return table{labelsOf(a.call)} }},
	{"claims", cel.MapType(cel.StringType, cel.DynType), func(a *activation) any { return map[string]any(a.call.Claims) }},
	{"message", cel.DynType, func(a *activation) any { return request(a) }},
	{"answer.status", cel.IntType, func(a *activation) any { return a.sent.Status }},
	{"answer.code", cel.StringType, func(a *activation) any { return rpc.CodeName(a.sent.Code) }},
	{"answer.reason", cel.StringType, func(a *activation) any { return a.sent.Reason }},
	{"answer.duration", cel.DurationType, func(a *activation) any { return a.sent.End.Sub(a.call.Times.Start) }},
	{"answer.bytes_in", cel.IntType, func(a *activation) any { return a.sent.BytesIn }},
	{"answer.bytes_out", cel.IntType, func(a *activation) any { return a.sent.BytesOut }},
}

var byName = func() map[string]*variable {
	m := make(map[string]*variable, len(all))
	for i := range all {
		m[all[i].name] = &all[i]
	}
	return m
}()

func variables() []cel.EnvOption {
	var out []cel.EnvOption
	for _, v := range all {
		out = append(out, cel.Variable(v.name, v.typ))
	}
	return out
}

// activation gives the variables of one call.
type activation struct {
	ctx  context.Context //nolint:containedctx // of the evaluation, which it does not outlive
	call *rpc.Call
	sent *rpc.Sent
	work int // what was gone through of the message

	decides bool // the expression is true or false
}

var activations = sync.Pool{New: func() any { return &activation{} }}

// Parent implements cel.Activation.
func (a *activation) Parent() interpreter.Activation { return nil }

// ResolveName implements cel.Activation.
func (a *activation) ResolveName(name string) (any, bool) {
	v := byName[name]
	if v == nil || a.sent == nil && strings.HasPrefix(name, "answer.") {
		return nil, false
	}
	return v.get(a), true
}

var none rpc.HTTP

func (a *activation) http() *rpc.HTTP {
	if a.call.HTTP == nil {
		return &none
	}
	return a.call.HTTP
}

// path is that of the request; a call that does not come by HTTP has the path of its method, as gRPC writes it.
func (a *activation) path() string {
	if a.call.HTTP == nil && a.call.Method != nil {
		return a.call.Method.Name
	}
	return a.http().Path
}

// headers are those of the request; a call that does not come by HTTP has its metadata for them.
func (a *activation) headers() rpc.Metadata {
	if a.call.HTTP == nil {
		return a.call.Header
	}
	return a.call.HTTP.Header
}

func serviceOf(c *rpc.Call) string {
	if c.Method == nil {
		return ""
	}
	s, _, _ := strings.Cut(c.Method.Name[1:], "/")
	return s
}

func methodOf(c *rpc.Call) string {
	if c.Method == nil {
		return ""
	}
	_, m, _ := strings.Cut(c.Method.Name[1:], "/")
	return m
}

func groups(c *rpc.Call) []string {
	if c.Consumer == nil {
		return nil
	}
	return c.Consumer.Groups
}

func labelsOf(c *rpc.Call) labels {
	if c.Consumer == nil {
		return nil
	}
	return c.Consumer.Labels
}

// asks tells whether a compiled expression uses a variable whose name begins so.
func asks(a *cel.Ast, prefix string) bool {
	for _, r := range a.NativeRep().ReferenceMap() {
		if strings.HasPrefix(r.Name, prefix) {
			return true
		}
	}
	return false
}

// fault says what is wrong with an expression, in one line.
func fault(issues *cel.Issues) error {
	e := issues.Errors()[0]
	message, _, _ := strings.Cut(e.Message, " expecting {") // a list of all that there is
	return fmt.Errorf("column %d of the expression: %s", max(e.Location.Column()+1, 1), message)
}
