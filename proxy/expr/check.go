package expr

import (
	"fmt"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// ReadsMessage tells whether the expression asks for the request's message.
func (p *Program) ReadsMessage() bool { return p.message }

// Misfit is why an expression fails over calls of a method: its requests have no such field, or are not one message.
type Misfit struct {
	Text string
	// Always: it fails whatever the call is; else where what is asked in front of it lets it come to that.
	Always bool
}

// Suits looks whether the expression can be evaluated over calls of a method, as far as that is known before there is one; nil:
// nothing speaks against it. What decides before a field is asked for is followed where it is the method or the service of the
// call (rpc.method == 'Create' && message.name == ...).
func (p *Program) Suits(m *schema.Method) *Misfit {
	if !p.message {
		return nil
	}
	o := checker{method: m}.of(p.ast)
	if p.decides {
		o = truth(o)
	}
	if o.fails != never {
		return &Misfit{Text: o.why, Always: o.fails == always}
	}
	return nil
}

// Holds tells whether a condition holds over all calls of a method, or over none, as far as that is known before there is one.
// protocol names the one that calls come by where that is not HTTP; "": any.
func (p *Program) Holds(m *schema.Method, protocol string) (holds, known bool) {
	o := checker{m, protocol}.of(p.ast)
	return o.is(true), o.is(true) || o.is(false)
}

// certainty is how surely something is so.
type certainty uint8

const (
	never certainty = iota
	maybe
	always
)

// outcome is what is known of a part of an expression before a call is there.
type outcome struct {
	fails certainty
	why   string
	value ref.Val         // nil: not known
	typ   *schema.Message // of a message; nil: it is none, or not known
	none  string          // not "": the message that is not there, and why
	kind  kind
}

// is tells whether the outcome is surely a truth value.
func (o outcome) is(b bool) bool { return o.fails == never && o.value == types.Bool(b) }

// failing is what of o is failure, at most as sure as that.
func (o outcome) failing(most certainty) outcome {
	return outcome{fails: min(o.fails, most), why: o.why}
}

func fails(format string, args ...any) outcome {
	return outcome{fails: always, why: fmt.Sprintf(format, args...)}
}

// worst is the one that fails more surely, the first of equals.
func worst(list ...outcome) outcome {
	var o outcome
	for _, one := range list {
		if one.fails > o.fails {
			o = one.failing(always)
		}
	}
	return o
}

type checker struct {
	method   *schema.Method
	protocol string // not "": calls come by it, and not by HTTP
}

// of goes through a part of an expression once, by the rules of CEL: && and || go by one side where that decides, whatever
// the other does.
func (c checker) of(e ast.Expr) outcome {
	switch e.Kind() {
	case ast.LiteralKind:
		return outcome{value: e.AsLiteral(), kind: kindOf(e.AsLiteral())}
	case ast.IdentKind:
		return c.variable(e.AsIdent())
	case ast.SelectKind:
		s := e.AsSelect()
		return c.field(c.of(s.Operand()), s.FieldName(), s.IsTestOnly())
	case ast.CallKind:
		return c.call(e.AsCall())
	case ast.ListKind:
		return worst(c.each(e.AsList().Elements())...)
	case ast.MapKind:
		var o outcome
		for _, entry := range e.AsMap().Entries() {
			m := entry.AsMapEntry()
			o = worst(o, c.of(m.Key()), c.of(m.Value()))
		}
		return o
	case ast.ComprehensionKind:
		o := e.AsComprehension()
		over := worst(c.of(o.IterRange()), c.of(o.AccuInit()))
		if o.IterVar() == "message" || o.IterVar2() == "message" {
			return over // its own
		}
		return worst(over, c.of(o.LoopStep()).failing(maybe)) // where there are elements
	default:
		return outcome{}
	}
}

func (c checker) each(list []ast.Expr) []outcome {
	out := make([]outcome, len(list))
	for i, e := range list {
		out[i] = c.of(e)
	}
	return out
}

func (c checker) variable(name string) outcome {
	service, method, _ := strings.Cut(c.method.Name[1:], "/")
	if c.protocol != "" {
		switch name {
		case "request.protocol":
			return outcome{value: types.String(c.protocol)}
		case "request.method", "request.scheme", "request.host", "request.query":
			return outcome{value: types.String("")}
		case "request.path":
			return outcome{value: types.String(c.method.Name)}
		}
	}
	switch name {
	case "message":
		if c.method.Kind != schema.Unary {
			return outcome{none: fmt.Sprintf("`message` is the request of a unary call, and %s is a %s method", c.method.Name[1:], c.method.Kind)}
		}
		return outcome{typ: c.method.Input}
	case "rpc.service":
		return outcome{value: types.String(service)}
	case "rpc.method":
		return outcome{value: types.String(method)}
	}
	return outcome{}
}

// field is a field of what o is; test: whether it is there.
func (c checker) field(o outcome, name string, test bool) outcome {
	switch {
	case o.none != "" && test:
		return outcome{value: types.False}
	case o.none != "":
		return fails("%s", o.none)
	}
	if o.fails != never || o.typ == nil || !fielded(o.typ) {
		return o.failing(always)
	}
	f := o.typ.ByNameString(name)
	switch {
	case f == nil && test:
		return outcome{value: types.False}
	case f == nil:
		_, why := message{typ: o.typ}.field(types.String(name))
		return fails("%s, which %s takes", why, c.method.Name[1:])
	case f.Cardinality == schema.Singular && !test:
		return outcome{typ: f.Message, kind: kindOfField(f)}
	}
	return outcome{}
}

// fielded tells the messages that expressions see as such; see known.
func fielded(m *schema.Message) bool {
	return m.WellKnown != schema.Timestamp && m.WellKnown != schema.Duration && !m.WellKnown.Wrapper()
}

func (c checker) call(call ast.CallExpr) outcome {
	args := c.each(call.Args())
	switch call.FunctionName() {
	case operators.LogicalAnd:
		return decided(truth(args[0]), truth(args[1]), false)
	case operators.LogicalOr:
		return decided(truth(args[0]), truth(args[1]), true)
	case operators.LogicalNot:
		args[0] = truth(args[0])
		if b, ok := args[0].value.(types.Bool); ok {
			args[0].value = !b
		}
		return args[0]
	case operators.Conditional:
		return chosen(truth(args[0]), args[1], args[2])
	case operators.Equals, operators.NotEquals:
		o := applied(call.FunctionName(), args)
		if a, b := args[0].value, args[1].value; o.fails == never && a != nil && b != nil {
			o.value = types.Bool((a.Equal(b) == types.True) == (call.FunctionName() == operators.Equals))
		}
		return o
	case operators.In:
		o := applied(call.FunctionName(), args)
		if list := call.Args()[1]; o.fails == never && args[0].value != nil && list.Kind() == ast.ListKind {
			o.value = among(args[0].value, list.AsList().Elements())
		}
		return o
	case operators.Index:
		if name, ok := args[1].value.(types.String); ok {
			return c.field(args[0], string(name), false)
		}
	}
	if call.IsMemberFunction() {
		args = append([]outcome{c.of(call.Target())}, args...)
	}
	return applied(call.FunctionName(), args)
}

// decided is that of a && or ||, which one side decides by being so; then the other may fail.
func decided(a, b outcome, by bool) outcome {
	switch {
	case a.is(by) || b.is(by):
		return outcome{value: types.Bool(by)}
	case a.is(!by):
		return b
	case b.is(!by):
		return a
	case a.fails == always && b.fails == always:
		return a
	}
	return worst(a, b).failing(maybe)
}

// chosen is that of a ?:.
func chosen(when, yes, no outcome) outcome {
	switch {
	case when.is(true):
		return yes
	case when.is(false):
		return no
	case yes.fails == always && no.fails == always:
		return worst(when, yes)
	}
	return worst(when, worst(yes, no).failing(maybe))
}

// among is whether a value is one of a list of literals; nil: not known.
func among(v ref.Val, list []ast.Expr) ref.Val {
	found := types.False
	for _, e := range list {
		if e.Kind() != ast.LiteralKind {
			return nil
		}
		if v.Equal(e.AsLiteral()) == types.True {
			found = types.True
		}
	}
	return found
}
