package expr

import (
	"maps"
	"slices"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Source is what a configuration has of expressions: a Program, or a Template.
type Source interface {
	// String is what was written.
	String() string
	// Suits is why it fails over calls of a method, nil where nothing speaks against it.
	Suits(m *schema.Method) *Misfit
	// Comparisons are the texts in it that variables are held against.
	Comparisons() []Comparison
	// Identity tells whether it asks for who calls.
	Identity() bool
}

var (
	_ Source = (*Program)(nil)
	_ Source = (*Template)(nil)
)

// Comparison is a text in an expression that a variable is held against, or that something is looked up by:
//
//	consumer.name == 'shop'               {"consumer.name", "", "shop"}
//	'admins' in consumer.groups           {"consumer.groups", "", "admins"}
//	consumer.labels['tier'] != 'gold'     {"consumer.labels", "tier", ""}, {"consumer.labels", "tier", "gold"}
type Comparison struct {
	Variable string
	Key      string // of a variable with texts by name
	Text     string // "": the key is looked up
}

// Identity tells whether the expression asks for who calls: the consumer, or claims of a token.
func (p *Program) Identity() bool { return p.who }

// Comparisons implements Source. Texts that are compared with what is not there, the empty ones, are left out.
func (p *Program) Comparisons() []Comparison {
	c := comparer{}
	c.walk(p.ast, nil)
	return slices.Compact(c.found)
}

// operand is one side of a comparison: a variable, or texts.
type operand struct {
	variable, key string
	texts         []string
}

// scope is what the variables of comprehensions stand for: each(g, ...) over consumer.groups is one of them.
type scope map[string]operand

type comparer struct{ found []Comparison }

// walk goes through an expression.
func (c *comparer) walk(e ast.Expr, in scope) {
	switch e.Kind() {
	case ast.SelectKind:
		c.lookup(e, in)
		c.walk(e.AsSelect().Operand(), in)
	case ast.CallKind:
		call := e.AsCall()
		switch call.FunctionName() {
		case operators.Equals, operators.NotEquals, operators.In:
			a, b := c.operand(call.Args()[0], in), c.operand(call.Args()[1], in)
			c.compare(a, b)
			c.compare(b, a)
		case operators.Index:
			c.lookup(e, in)
		}
		if call.IsMemberFunction() {
			c.walk(call.Target(), in)
		}
		for _, arg := range call.Args() {
			c.walk(arg, in)
		}
	case ast.ListKind:
		for _, one := range e.AsList().Elements() {
			c.walk(one, in)
		}
	case ast.MapKind:
		for _, entry := range e.AsMap().Entries() {
			c.walk(entry.AsMapEntry().Key(), in)
			c.walk(entry.AsMapEntry().Value(), in)
		}
	case ast.ComprehensionKind:
		o := e.AsComprehension()
		c.walk(o.IterRange(), in)
		inner := scope{}
		maps.Copy(inner, in)
		inner[o.AccuVar()], inner[o.IterVar2()] = operand{}, operand{}
		inner[o.IterVar()] = c.operand(o.IterRange(), in)
		c.walk(o.LoopStep(), inner)
	}
}

// lookup notes that a text is looked up by a literal name.
func (c *comparer) lookup(e ast.Expr, in scope) {
	if o := c.operand(e, in); o.key != "" {
		c.found = append(c.found, Comparison{o.variable, o.key, ""})
	}
}

// compare notes the texts of b that a is held against; of a variable with texts by name, that is a name.
func (c *comparer) compare(a, b operand) {
	for _, text := range b.texts {
		switch {
		case a.variable == "" || text == "":
		case a.key == "" && byName[a.variable].typ == texts:
			c.found = append(c.found, Comparison{a.variable, text, ""})
		default:
			c.found = append(c.found, Comparison{a.variable, a.key, text})
		}
	}
}

// operand is what an expression stands for, as far as it is a variable or made of literals.
func (c *comparer) operand(e ast.Expr, in scope) operand {
	switch e.Kind() {
	case ast.LiteralKind:
		if s, ok := e.AsLiteral().(types.String); ok {
			return operand{texts: []string{string(s)}}
		}
	case ast.ListKind:
		var o operand
		for _, one := range e.AsList().Elements() {
			o.texts = append(o.texts, c.operand(one, in).texts...)
		}
		return o
	case ast.IdentKind:
		name := e.AsIdent()
		if o, own := in[name]; own {
			return o
		}
		if byName[name] != nil {
			return operand{variable: name}
		}
	case ast.SelectKind:
		return c.entry(c.operand(e.AsSelect().Operand(), in), e.AsSelect().FieldName())
	case ast.CallKind:
		if call := e.AsCall(); call.FunctionName() == operators.Index {
			if key := c.operand(call.Args()[1], in); len(key.texts) == 1 && call.Args()[1].Kind() == ast.LiteralKind {
				return c.entry(c.operand(call.Args()[0], in), key.texts[0])
			}
		}
	}
	return operand{}
}

// entry is a text by its name.
func (c *comparer) entry(o operand, name string) operand {
	if v := byName[o.variable]; v == nil || v.typ != texts || o.key != "" {
		return operand{}
	}
	return operand{variable: o.variable, key: name}
}

// Comparisons implements Source.
func (t *Template) Comparisons() []Comparison {
	var out []Comparison
	for _, p := range t.parts {
		if p.value != nil {
			out = append(out, p.value.Comparisons()...)
		}
	}
	return out
}
