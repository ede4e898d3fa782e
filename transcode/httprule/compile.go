package httprule

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// maxAdditional is how many additional bindings one rule may have.
const maxAdditional = 50

// Rule returns the google.api.http option of m, or nil if m has none. It is read from the options' wire form: whatever
// made the descriptor may have left the option unknown, or may know it under a definition of its own, and only the
// built-in definition counts. An option that cannot be read by it gives an empty rule, which Compile refuses.
func Rule(m *schema.Method) *annotations.HttpRule {
	options := m.Desc.Options()
	if options == nil || !options.ProtoReflect().IsValid() {
		return nil
	}
	raw, err := proto.MarshalOptions{AllowPartial: true}.Marshal(options)
	if err != nil {
		return nil
	}
	found := false
	var rule []byte // all occurrences: in sequence they are merged, as protobuf has it
	for len(raw) > 0 {
		num, typ, n := protowire.ConsumeField(raw)
		if n < 0 {
			return nil
		}
		if num == annotations.E_Http.TypeDescriptor().Number() {
			found = true
			if typ != protowire.BytesType {
				return &annotations.HttpRule{}
			}
			_, _, tag := protowire.ConsumeTag(raw)
			b, _ := protowire.ConsumeBytes(raw[tag:n])
			rule = append(rule, b...)
		}
		raw = raw[n:]
	}
	if !found {
		return nil
	}
	r := &annotations.HttpRule{}
	if err := proto.Unmarshal(rule, r); err != nil {
		return &annotations.HttpRule{}
	}
	return r
}

// Options are choices in how rules are read. The zero value is what google/api/http.proto says of HttpRule.
type Options struct {
	// RepeatedInPath lets a variable name a repeated field of scalars or enums, as grpc-gateway does: what is captured is
	// a list divided by commas. http.proto forbids it.
	RepeatedInPath bool
	Decoding       Decoding
}

// Decoding says what stays percent-encoded in variables of several segments. Those of one segment are always decoded
// whole.
type Decoding uint8

// The two texts of google/api/http.proto differ. HttpRule, "Path template syntax": the server "does the reverse
// decoding, except "%2F" and "%2f" are left unchanged". Http, fully_decode_reserved_expansion: "The default behavior is
// to not decode RFC 6570 reserved characters in multi segment matches", and set, they are decoded "except in cases of
// single segment matches in reserved expansion, where "%2F" will be left encoded". Set, it is therefore the first text;
// an encoded slash stays encoded behind "**" too, as in Envoy, or "a%2Fb" and "a/b" would be one name.
const (
	ExceptSlash    Decoding = iota // all is decoded but the slash
	ExceptReserved                 // nor are the reserved characters :/?#[]@!$&'()*+,;=
)

// Compile resolves r and its additional bindings against m: the bindings in the rule's order, r's own first. The error
// joins all faults, one line each; every one names the method, the binding and the part at fault.
func Compile(m *schema.Method, r *annotations.HttpRule) ([]*Binding, error) {
	return Options{}.Compile(m, r)
}

// Compile is the function Compile with the choices of o.
func (o Options) Compile(m *schema.Method, r *annotations.HttpRule) ([]*Binding, error) {
	rules := append([]*annotations.HttpRule{r}, r.GetAdditionalBindings()...)
	if n := len(rules) - 1; n > maxAdditional {
		return nil, fmt.Errorf("http rule of %s: wanted at most %d additional_bindings, found %d", fullName(m), maxAdditional, n)
	}
	bindings := make([]*Binding, 0, len(rules))
	var faults []error
	for i, r := range rules {
		c := compiler{options: o, method: m, rule: r, additional: i}
		if b := c.compile(); b != nil {
			if other := sameRequests(bindings, b); other != nil {
				c.fail("%s %s of the same rule takes the same requests", other.Verb, other.Template)
			}
			bindings = append(bindings, b)
		}
		faults = append(faults, c.faults...)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return bindings, nil
}

// sameRequests is the one of bindings that takes the requests that b would take, or nil.
func sameRequests(bindings []*Binding, b *Binding) *Binding {
	for _, other := range bindings {
		if other.Verb != b.Verb || other.Template.verb != b.Template.verb {
			continue
		}
		for segs := range b.Template.equals {
			if slices.Equal(other.Template.segs, segs) {
				return other
			}
		}
	}
	return nil
}

// Default is the binding of a method without a rule: POST /package.Service/Method with the whole message as body.
func Default(m *schema.Method) *Binding {
	return &Binding{Verb: http.MethodPost, Template: Path(m.Name), Method: m, Body: WholeBody}
}

// Path is the template of a path as it is, which begins with a slash.
func Path(path string) *Template {
	t := &Template{keep: reserveSlash}
	for part := range strings.SplitSeq(path[1:], "/") {
		t.segs = append(t.segs, segment{text: part})
	}
	t.finish()
	return t
}

// Takes says that b answers requests of an HTTP verb, as far as that goes: a binding for GET answers HEAD, too, where no
// other does.
func (b *Binding) Takes(verb string) bool {
	return b.Verb == verb || b.Verb == "*" || verb == http.MethodHead && b.Verb == http.MethodGet
}

// String returns the binding in one line, as "GET /v1/{name=orders/*} -> demo.orders.v1.Orders/GetOrder".
func (b *Binding) String() string {
	return b.Verb + " " + b.Template.String() + " -> " + fullName(b.Method)
}

// fullName is the method's name as "package.Service/Method".
func fullName(m *schema.Method) string { return strings.TrimPrefix(m.Name, "/") }

// compiler compiles one rule.
type compiler struct {
	options    Options
	method     *schema.Method
	rule       *annotations.HttpRule
	additional int // 1 for the first additional binding
	pattern    string
	faults     []error
}

func (c *compiler) fail(format string, args ...any) {
	var b strings.Builder
	b.WriteString("http rule of " + fullName(c.method))
	if c.additional > 0 {
		fmt.Fprintf(&b, ", additional binding %d", c.additional)
	}
	if c.pattern != "" {
		b.WriteString(", " + c.pattern)
	}
	b.WriteString(": ")
	fmt.Fprintf(&b, format, args...)
	c.faults = append(c.faults, errors.New(b.String()))
}

// compile returns the binding, or nil when there was a fault.
func (c *compiler) compile() *Binding {
	verb, path := c.verb()
	if verb == "" {
		return nil
	}
	c.pattern = verb + " " + abridge(path)
	if c.additional > 0 && len(c.rule.GetAdditionalBindings()) > 0 {
		c.fail("an additional binding cannot have additional_bindings of its own; move them one level up")
	}
	b := &Binding{Verb: verb, Method: c.method}
	c.template(b, path)
	c.body(b)
	if name := c.rule.GetResponseBody(); name != "" && name != "*" {
		field, err := c.method.Output.Path(name)
		if err != nil {
			c.fail("response_body %q: %v", abridge(name), err)
		}
		b.ResponseBody = field
	}
	if len(c.faults) > 0 {
		return nil
	}
	return b
}

// verb returns the rule's HTTP verb and path; "" after a fault.
func (c *compiler) verb() (verb, path string) {
	switch p := c.rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		return http.MethodGet, p.Get
	case *annotations.HttpRule_Put:
		return http.MethodPut, p.Put
	case *annotations.HttpRule_Post:
		return http.MethodPost, p.Post
	case *annotations.HttpRule_Delete:
		return http.MethodDelete, p.Delete
	case *annotations.HttpRule_Patch:
		return http.MethodPatch, p.Patch
	case *annotations.HttpRule_Custom:
		if kind := p.Custom.GetKind(); token(kind) {
			return kind, p.Custom.GetPath()
		}
		c.fail("custom kind: wanted an HTTP method or \"*\" for any, found %q", abridge(p.Custom.GetKind()))
	default:
		c.fail("wanted one of get, put, post, delete, patch and custom, found none")
	}
	return "", ""
}

func (c *compiler) template(b *Binding, path string) {
	t, err := Parse(path)
	if syntax, ok := errors.AsType[*SyntaxError](err); ok {
		c.fail("path column %d: wanted %s, found %s", syntax.Column, syntax.Want, syntax.Found)
		return
	}
	if c.options.Decoding == ExceptReserved {
		t.keep = reserve6570
	}
	b.Template = t
	b.Vars = make([]schema.Path, len(t.vars)) // nil where there was a fault
	for i, v := range t.vars {
		path, err := c.method.Input.Path(v.Field)
		if err != nil {
			c.fail("variable {%s}: %v", abridge(v.Field), err)
			continue
		}
		if last := path.Last(); !c.fromString(last) {
			c.fail("variable {%s}: wanted a field that one string can set, found %s", v.Field, last.Shape())
			continue
		}
		for j, other := range b.Vars {
			if other != nil && (within(path, other) || within(other, path)) {
				c.fail("variable {%s}: {%s} sets the same field", v.Field, t.vars[j].Field)
			}
		}
		b.Vars[i] = path
	}
}

func (c *compiler) body(b *Binding) {
	name := c.rule.GetBody()
	if name == "" {
		return
	}
	if b.Verb == http.MethodGet || b.Verb == http.MethodHead {
		c.fail("body %q: a %s request has no body; leave body out, or use post", abridge(name), b.Verb)
		return
	}
	if name == "*" {
		b.Body = WholeBody
		return
	}
	path, err := c.method.Input.Path(name)
	if err != nil {
		c.fail("body %q: %v", abridge(name), err)
		return
	}
	for _, v := range b.Vars {
		// A variable inside the body's field is fine (patch: "/v1/{book.name=books/*}", body: "book").
		if v != nil && within(path, v) {
			c.fail("body %q: the variable {%s} sets the same field", name, v)
		}
	}
	b.Body, b.BodyField = FieldBody, path
}

// within says that p is outer or a field below it.
func within(p, outer schema.Path) bool {
	if len(p) < len(outer) {
		return false
	}
	for i, f := range outer {
		if p[i] != f {
			return false
		}
	}
	return true
}

// fromString says that one string can set f: no repeated field or map, and of messages only those whose JSON form is a
// string, and the wrappers. By choice a repeated field of scalars or enums is one, too.
func (c *compiler) fromString(f *schema.Field) bool {
	if f.Cardinality == schema.Repeated && f.Message == nil {
		return c.options.RepeatedInPath
	}
	if f.Cardinality != schema.Singular {
		return false
	}
	if f.Message == nil {
		return true
	}
	switch w := f.Message.WellKnown; w {
	case schema.Timestamp, schema.Duration, schema.FieldMask:
		return true
	default:
		return w.Wrapper()
	}
}

// token says that s is an HTTP method by its characters (RFC 9110, section 5.6.2); "*" is one of them.
func token(s string) bool {
	const most = 32
	if s == "" || len(s) > most {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return true
}
