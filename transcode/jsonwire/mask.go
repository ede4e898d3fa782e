package jsonwire

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// smallMask is the size in bytes that a mask made from a body may always have. Otherwise it may be as large as the body:
// so it grows with the body only, though each path repeats the names above it.
const smallMask = 64 << 10

// MaskField finds the field of a request that Request.Mask can fill, as grpc-gateway's generator does: the one field of
// type google.protobuf.FieldMask, whatever its name; nil when there is none, more than one, or a repeated one.
func MaskField(m *schema.Message) schema.Path {
	var found schema.Path
	for _, f := range m.Fields {
		switch {
		case f.Kind != protoreflect.MessageKind || f.Message == nil || f.Message.WellKnown != schema.FieldMask:
		case found != nil || f.Cardinality != schema.Singular:
			return nil
		default:
			found = f.Self
		}
	}
	return found
}

// mask fills r.Mask with the paths of what the body gives, unless the request gives a mask that is not empty.
//
// A path is in declared names, below the message that the body is read into, and ends at a field that is a scalar,
// repeated, a map, a type with a JSON form of its own, an empty object or null. grpc-gateway does the same, but goes on
// into Struct and Value, whose keys are no fields (Request.GRPCGateway), fills the mask also from an empty object (with the
// empty path), and sorts the paths; here they have the order of the body.
func (g *merge) mask(r *Request, form bool) error {
	if g.isGiven(r.Mask) || maskHasPaths(g.out[g.start:], r.Mask) {
		return nil
	}
	m := r.Message
	if len(r.BodyField) > 0 {
		f := r.BodyField.Last()
		if m = f.Message; m == nil || f.Cardinality != schema.Singular {
			return nil
		}
	}
	if r.Raw || m.WellKnown != schema.NotWellKnown {
		return nil
	}
	at, gaps, extra := len(g.out), len(g.gaps), g.extra
	outer, ok := g.enter(r.Mask)
	if !ok {
		return &Error{Path: jsonPath(r.Mask), Message: g.failMsg}
	}
	g.out = appendVarint(g.out, r.Mask.Last().Tag)
	l := g.openLen()
	first := len(g.out)
	if form {
		ok = g.maskForm(r, first)
	} else {
		g.pos = 0
		g.peek()
		g.prefix = g.prefix[:0]
		ok = g.maskObject(m, r, r.Mask, first)
	}
	if !ok {
		return &Error{Path: jsonPath(r.Mask), Message: g.failMsg}
	}
	if len(g.out) == first {
		g.out, g.gaps, g.extra = g.out[:at], g.gaps[:gaps], extra
		return nil
	}
	g.closeLen(l)
	g.leave(r.Mask, outer)
	return nil
}

// maskObject writes the paths of the object at pos, which has been read as m once: so its grammar holds, and no member
// comes twice. The path above is in g.prefix. skip is the field of the mask where m is the request.
func (g *merge) maskObject(m *schema.Message, r *Request, skip schema.Path, first int) bool {
	above := len(g.prefix)
	if g.pos++; g.peek() == '}' {
		g.pos++
		return true
	}
	for {
		g.peek()
		name, ok := g.str()
		if !ok {
			return false
		}
		f := m.ByName(name)
		g.peek()
		g.pos++ // the colon
		c := g.peek()
		switch {
		case f == nil || len(skip) == 1 && f == skip[0]:
			g.pass(c)
		default:
			if g.prefix, ok = appendName(g.prefix[:above], f); !ok {
				return g.fail(0, noPath(f))
			}
			switch object := c == '{' && f.Cardinality == schema.Singular && f.Message != nil && !g.emptyObject(); {
			case object && f.Message.WellKnown == schema.NotWellKnown:
				ok = g.maskObject(f.Message, r, nil, first)
			case object && r.GRPCGateway && (f.Message.WellKnown == schema.Struct || f.Message.WellKnown == schema.Value):
				ok = g.maskKeys(first)
			default:
				g.pass(c)
				ok = g.maskPath(first)
			}
			if !ok {
				return false
			}
		}
		c = g.peek()
		g.pos++
		if c == '}' {
			g.prefix = g.prefix[:above]
			return true
		}
	}
}

// maskKeys writes the paths of the object at pos, which is not empty, by its keys; the path above is in g.prefix.
func (g *merge) maskKeys(first int) bool {
	above := len(g.prefix)
	g.pos++
	for {
		g.peek()
		key, ok := g.str()
		if !ok {
			return false
		}
		g.prefix = append(append(g.prefix[:above], '.'), key...)
		g.peek()
		g.pos++ // the colon
		if c := g.peek(); c == '{' && !g.emptyObject() {
			ok = g.maskKeys(first)
		} else {
			g.pass(c)
			ok = g.maskPath(first)
		}
		if !ok {
			return false
		}
		c := g.peek()
		g.pos++
		if c == '}' {
			g.prefix = g.prefix[:above]
			return true
		}
	}
}

// emptyObject says whether the object at pos is empty; pos stays.
func (g *merge) emptyObject() bool {
	at := g.pos
	g.pos++
	c := g.peek()
	g.pos = at
	return c == '}'
}

// appendName adds a field to a path; ok is false for an extension, which has no place in one.
func appendName(path []byte, f *schema.Field) (_ []byte, ok bool) {
	if f.Desc.IsExtension() {
		return path, false
	}
	if len(path) > 0 {
		path = append(path, '.')
	}
	return append(path, f.Desc.Name()...), true
}

func noPath(f *schema.Field) string {
	return fmt.Sprintf("extension %s of the body has no path in a field mask; give the mask in the query", f.Name)
}

// maskPath writes g.prefix as a path.
func (g *merge) maskPath(first int) bool {
	if limit := max(smallMask, len(g.in)); len(g.out)-first+len(g.prefix) > limit {
		return g.failf(0, "wanted a mask of at most %d bytes from the paths of the body, found a larger one; give the mask in the query", limit)
	}
	g.out = append(g.out, tagBytes1)
	g.out = appendVarint(g.out, uint64(len(g.prefix)))
	g.out = append(g.out, g.prefix...)
	return true
}

// pass goes over a value of known grammar that begins with c, without recursion.
func (g *merge) pass(c byte) {
	switch c {
	case '"':
		g.pos = stringEnd(g.in, g.pos)
	case '{', '[':
		for depth := 0; g.pos < len(g.in); {
			switch g.in[g.pos] {
			case '"':
				g.pos = stringEnd(g.in, g.pos)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				depth--
			}
			if g.pos++; depth == 0 {
				return
			}
		}
	default:
		for g.pos < len(g.in) && wordByte(g.in[g.pos]) {
			g.pos++
		}
	}
}

// maskForm writes the paths of the fields that a form gives, each once.
func (g *merge) maskForm(r *Request, first int) bool {
	for i := range r.Params {
		a := &r.Params[i]
		if a.From != FromForm || a.Captured || len(a.Field) <= len(r.BodyField) {
			continue
		}
		below := a.Field[len(r.BodyField):]
		if len(r.BodyField) == 0 && below[0] == r.Mask[0] && len(r.Mask) == 1 {
			continue
		}
		g.prefix = g.prefix[:0]
		for _, f := range below {
			var ok bool
			if g.prefix, ok = appendName(g.prefix, f); !ok {
				return g.fail(0, noPath(f))
			}
			if f.Message != nil && f.Message.WellKnown != schema.NotWellKnown {
				break
			}
		}
		if _, twice := g.keys.put(scopeMask, g.prefix, 0); !twice && !g.maskPath(first) {
			return false
		}
	}
	return true
}

// maskHasPaths says whether the wire form of a message has a mask with a path in it.
func maskHasPaths(wire []byte, path schema.Path) bool {
	if len(path) == 0 {
		return len(wire) > 0
	}
	for i := 0; i < len(wire); {
		num, typ, n := protowire.ConsumeTag(wire[i:])
		value := wire[i+n:]
		size := protowire.ConsumeFieldValue(num, typ, value)
		if num == path[0].Number {
			content, n := protowire.ConsumeBytes(value)
			if typ == protowire.StartGroupType {
				content, n = protowire.ConsumeGroup(num, value)
			}
			if n >= 0 && maskHasPaths(content, path[1:]) {
				return true
			}
		}
		i += n + size
	}
	return false
}
