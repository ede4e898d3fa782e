package jsonwire

import (
	"fmt"
	"math"
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Request is what one HTTP request carries for one message.
type Request struct {
	Message *schema.Message
	// Body is JSON, or with Raw the content of a google.api.HttpBody; empty: no body. A form comes as Params instead.
	Body []byte
	// BodyField is the field the body is read into; nil: the whole message.
	BodyField schema.Path
	Params    []Param
	// Override lets a field that the path binds win over the body silently. Without it the body may give the field only
	// with the same value.
	Override bool
	// Mask is the FieldMask that is filled with the paths that the body gives, when the request itself gives none; nil:
	// none is filled. MaskField finds it.
	Mask schema.Path
	// Raw says that the body is not JSON but the content of the google.api.HttpBody that it is read into, of ContentType.
	Raw         bool
	ContentType string
	// GRPCGateway takes a body as grpc-gateway does: what follows its JSON value is ignored, and Mask goes on into the keys
	// of Struct and Value, which are no fields.
	GRPCGateway bool
}

// Param is one field given as text outside of JSON.
type Param struct {
	Field schema.Path
	// Key is the key of the entry where Field is a map, and the parameter's name where it is Captured.
	Key   string
	Value string
	From  Source
	// Captured says that no field has the parameter's name, and that Field keeps such parameters: see CaptureField.
	Captured bool
}

// Source says where a Param came from.
type Source uint8

// The sources of parameters. A form is a body: the path is held against it as against a JSON body.
const (
	FromPath Source = iota
	FromQuery
	FromForm
)

// String names the source as messages do.
func (s Source) String() string { return [...]string{"path", "query", "form", "body"}[s&3] }

// AppendRequest appends to dst the wire form of the message that one HTTP request stands for: its body, then the
// parameters of its query, then those of its path.
//
// A parameter is text in the form that grpc-gateway takes:
//   - Numbers are in base 10, bools as strconv.ParseBool has them, bytes in either base64 alphabet, enum values by name or
//     known number (in JSON an open enum takes any number; a parameter with an unknown one is more likely a slip).
//   - Timestamp, Duration, FieldMask and the wrappers are in their JSON form without quotes. A Duration may also be Go's,
//     1h30m. The paths of a FieldMask may be declared names or JSON names; a path without underscore is taken as JSON names,
//     and the message gets declared ones. (grpc-gateway passes the text on as it is.)
//   - Struct, Value and ListValue are JSON text, Empty is nothing or {}. (grpc-gateway has no ListValue.) So are vectors and
//     maps of TARS inside others, and the entries of a map whose keys protobuf does not allow.
//   - A repeated field is given by repetition, a map entry by entry. (In a path grpc-gateway splits at commas: AppendPath.)
//
// Refused are: a parameter for an Any or a message that is not listed; two for one singular field, for one map key, for a
// message and a part of it, or for two members of one oneof; one of the query for what the body or the path gives; and
// one of the path against what the body gives, unless r.Override. There a zero of a field without presence counts as
// not given, and values are compared by what they mean: a FieldMask as a set of paths, other messages by their JSON.
//
// Nothing of r is kept. o may be nil. The error is an *Error, and dst is then returned as it was.
func AppendRequest(dst []byte, r *Request, o *Options) ([]byte, error) {
	p := newParser(dst, r.Body, o)
	defer p.release()
	if len(r.Params) == 0 && r.BodyField == nil && r.Mask == nil && !r.Raw {
		if len(r.Body) == 0 {
			if !p.complete(r.Message, 0, 0, &seenSet{wide: -1}) {
				return dst, &Error{Message: p.failMsg}
			}
			return dst, nil
		}
		if !p.fits() || !p.message(r.Message) || !r.GRPCGateway && !p.end() {
			return dst, p.fault("")
		}
		p.spread()
		return p.out, nil
	}
	g := merges.Get().(*merge)
	g.parser, g.start = p, len(dst)
	defer g.release()
	p.partial = 1
	if err := g.request(r); err != nil {
		return dst, err
	}
	if r.Message.HasRequired {
		if err := checkRequired(p.out[len(dst):], r.Message, o); err != nil {
			return dst, err
		}
	}
	return p.out, nil
}

// checkRequired says whether a message that was put together from several sources has all its required fields.
func checkRequired(wire []byte, m *schema.Message, o *Options) error {
	p := newPrinter(nil, wire, o)
	defer p.release()
	p.demand = true
	if !p.root() || !p.checkMessage(m, 0, 1) {
		return p.err
	}
	return nil
}

// merge is what a parser needs besides to put a message together from several sources.
type merge struct {
	*parser
	start  int // of the message in out
	nodes  []given
	cuts   []span
	prefix []byte  // of the paths of a mask; a key of parser.keys
	group  []int32 // captured parameters, by name
}

// span is a stretch of parser.out.
type span struct{ from, to int }

var merges = sync.Pool{New: func() any { return new(merge) }}

// release gives g back to the pool without what it was given.
func (g *merge) release() {
	g.parser = nil
	clear(g.nodes)
	g.nodes, g.cuts, g.prefix, g.group = g.nodes[:0], g.cuts[:0], g.prefix[:0], g.group[:0]
	if cap(g.nodes)*32+cap(g.cuts)*16+cap(g.prefix)+cap(g.group)*4 > keepScratch {
		g.nodes, g.cuts, g.prefix, g.group = nil, nil, nil, nil
	}
	merges.Put(g)
}

// The scopes of parser.keys while a request is put together; those of JSON maps count up from 1.
const (
	scopeParams uint32 = 0
	scopeForm          = math.MaxUint32 - iota
	scopeMask
	scopeKeys
)

func (g *merge) request(r *Request) error {
	var has [3]bool
	for i := range r.Params {
		has[r.Params[i].From%3] = true
	}
	// A query is held against all that the body gives, so that its zeros must be there to be seen.
	g.keepZero = has[FromQuery]
	bodyGiven, err := g.body(r, has[FromForm])
	if err != nil {
		return err
	}
	g.keepZero = false
	g.nodes = append(g.nodes, given{})
	for _, from := range [...]Source{FromPath, FromQuery} {
		if has[from] {
			if err := g.admitAll(r, from, scopeParams, bodyGiven); err != nil {
				return err
			}
		}
	}
	if len(g.nodes) > 1 && len(g.out) > g.start {
		if err := g.settle(r); err != nil {
			return err
		}
	}
	if r.Mask != nil && bodyGiven {
		if err := g.mask(r, has[FromForm]); err != nil {
			return err
		}
	}
	for _, from := range [...]Source{FromQuery, FromPath} {
		if has[from] {
			if err := g.writeAll(r, from); err != nil {
				return err
			}
		}
	}
	g.spread()
	return nil
}

// body writes what the body gives, and says whether that is anything.
func (g *merge) body(r *Request, form bool) (bool, error) {
	switch {
	case form && (r.Raw || len(r.Body) > 0):
		return false, &Error{Message: "wanted a form or another body, found both"}
	case form:
		g.nodes = append(g.nodes, given{})
		if err := g.admitAll(r, FromForm, scopeForm, false); err != nil {
			return false, err
		}
		if err := g.writeAll(r, FromForm); err != nil {
			return false, err
		}
		clear(g.nodes)
		g.nodes = g.nodes[:0]
	case r.Raw:
		if err := g.rawBody(r); err != nil {
			return false, err
		}
	case len(r.Body) == 0:
		return false, nil
	case !g.fits():
		return false, g.fault("")
	case r.BodyField == nil:
		if !g.message(r.Message) || !r.GRPCGateway && !g.end() {
			return false, g.fault("")
		}
	default:
		v := g.bodyField(r.BodyField)
		if v == bad || !r.GRPCGateway && !g.end() {
			return false, g.fault(jsonPath(r.BodyField))
		}
		if v == dropped {
			return false, nil
		}
	}
	g.spread()
	return true, nil
}

// bodyField reads the text into one field, wrapped in the messages that lead to it.
func (p *parser) bodyField(path schema.Path) verdict {
	f := path.Last()
	p.depth += len(path)
	if p.depth > p.maxDepth {
		p.tooDeep()
		return bad
	}
	if p.peek() == 'n' && !takesNull(f) && p.null() {
		return dropped
	}
	start := len(p.out)
	outer, ok := p.enter(path)
	if !ok {
		return bad
	}
	at := len(p.out)
	v := p.value(f)
	if v == bad {
		return bad
	}
	if len(p.out) == at && len(path) > 1 {
		if outer >= 0 {
			p.dropLen(outer, start)
		}
		p.out = p.out[:start]
		return v
	}
	p.leave(path, outer)
	return v
}

// enter writes the tags of the messages that lead to the end of a path, and opens their lengths; the result is the first
// gap.
func (p *parser) enter(path schema.Path) (outer int, ok bool) {
	outer = -1
	for _, f := range path[:len(path)-1] {
		if f.Cardinality != schema.Singular || f.Message == nil {
			return outer, p.failf(p.pos, "field %q is %s and has no fields of its own", f.Name, f.Shape())
		}
		p.out = appendVarint(p.out, f.Tag)
		if f.Kind == protoreflect.MessageKind {
			if g := p.openLen(); outer < 0 {
				outer = g
			}
		}
	}
	return outer, true
}

func (p *parser) leave(path schema.Path, outer int) {
	g := outer
	for _, f := range path[:len(path)-1] {
		if f.Kind == protoreflect.MessageKind {
			g++
		}
	}
	for i := len(path) - 2; i >= 0; i-- {
		if path[i].Kind == protoreflect.GroupKind {
			p.out = appendVarint(p.out, path[i].EndTag)
			continue
		}
		g--
		p.closeLen(g)
	}
}

// admitAll notes the parameters of one source in the order given, and refuses those that cannot stand beside the others.
func (g *merge) admitAll(r *Request, from Source, scope uint32, bodyGiven bool) error {
	for i := range r.Params {
		a := &r.Params[i]
		if a.From != from {
			continue
		}
		var against string
		switch g.elements++; {
		case g.elements > g.maxElements:
			against = fmt.Sprintf("more than %d fields and elements in one message", g.maxElements)
		case len(a.Field) > g.maxDepth:
			against = fmt.Sprintf("nested deeper than %d levels", g.maxDepth)
		default:
			against = g.note(scope, r, i)
		}
		if against == "" && from == FromQuery && bodyGiven && r.BodyField != nil {
			against = besideBody(a.Field, r.BodyField)
		}
		if against != "" {
			return refused(a, against)
		}
	}
	return nil
}

// refused is the error of a parameter.
func refused(a *Param, why string) *Error {
	return &Error{Path: paramPath(a), Message: "a parameter of the " + a.From.String() + " is refused: " + why}
}

// besideBody says how a parameter of the query goes against a body that is read into a field; "" when it does not.
func besideBody(path, body schema.Path) string {
	for i, f := range body {
		if i == len(path) {
			return "the body gives a part of it"
		}
		if f != path[i] {
			if f.Oneof >= 0 && f.Oneof == path[i].Oneof {
				return fmt.Sprintf("another member of oneof %q is given by the body", f.Parent.Oneofs[f.Oneof].Name)
			}
			return ""
		}
	}
	return fmt.Sprintf("the body gives %q", body.String())
}

// jsonPath is a path with JSON names.
func jsonPath(path schema.Path) string {
	s := ""
	for _, f := range path {
		s = joinPath(s, f.JSONName)
	}
	return s
}
