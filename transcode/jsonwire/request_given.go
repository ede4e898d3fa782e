package jsonwire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// given is a field that parameters give, or a message on the way to one: a node of a tree whose edges are in parser.keys.
// It lets one walk over the body find all that the parameters go against.
type given struct {
	field *schema.Field // nil at the root
	below uint64        // the numbers, modulo 64, of the fields below that are given, and of all members of their oneofs
	param int32         // the first parameter for it
	whole bool          // the field itself is given, not a part of it
	taken bool          // it keeps captured parameters
	same  bool          // what the body gives of it, in several places, was found to be the same
}

// The kinds of edges in the tree of given fields.
const (
	edgeField = 'f'
	edgeOneof = 'o'
)

// edge is the key of an edge that leaves a node.
func (g *merge) edge(kind byte, node, number uint32) []byte {
	g.prefix = append(g.prefix[:0], kind)
	g.prefix = binary.LittleEndian.AppendUint32(g.prefix, node)
	g.prefix = binary.LittleEndian.AppendUint32(g.prefix, number)
	return g.prefix
}

// note keeps that parameter i gives its field, and which member of their oneofs the fields on the way to it are. When
// that goes against what was noted before, it says how.
func (g *merge) note(scope uint32, r *Request, i int) (against string) {
	a := &r.Params[i]
	at := uint32(0)
	for depth, f := range a.Field {
		if f.Oneof >= 0 {
			was, found := g.keys.put(scope, g.edge(edgeOneof, at, uint32(f.Oneof)), uint32(f.Number)<<2|uint32(a.From))
			switch {
			case !found:
				for _, member := range f.Parent.Oneofs[f.Oneof].Fields {
					g.nodes[at].below |= 1 << (member.Number & 63)
				}
			case *was>>2 != uint32(f.Number):
				return fmt.Sprintf("another member of oneof %q is given by the %s", f.Parent.Oneofs[f.Oneof].Name, Source(*was&3))
			}
		}
		last := depth == len(a.Field)-1
		if !last && (f.Cardinality != schema.Singular || f.Message == nil) {
			return fmt.Sprintf("field %q is %s and has no fields of its own", f.Name, shapeOf(f))
		}
		whole := last && !(a.Captured && f.Cardinality == schema.Singular)
		was, found := g.keys.put(scope, g.edge(edgeField, at, uint32(f.Number)), uint32(len(g.nodes)))
		if !found {
			g.nodes[at].below |= 1 << (f.Number & 63)
			at = uint32(len(g.nodes))
			g.nodes = append(g.nodes, given{field: f, param: int32(i), whole: whole, taken: last && a.Captured})
			continue
		}
		at = *was
		n := &g.nodes[at]
		before := r.Params[n.param].From
		switch {
		case !n.whole && !whole:
		case n.whole && whole && before == a.From && f.Cardinality != schema.Singular:
		case n.whole && whole && before == a.From:
			return "it is given twice"
		case n.whole:
			return fmt.Sprintf("the %s gives %q", before, a.Field[:depth+1].String())
		default:
			return "the " + before.String() + " gives a part of it"
		}
	}
	return ""
}

// isGiven says whether a parameter gives the field at the end of a path, or a part of it.
func (g *merge) isGiven(path schema.Path) bool {
	at := uint32(0)
	for _, f := range path {
		next, ok := g.keys.get(scopeParams, g.edge(edgeField, at, uint32(f.Number)))
		if !ok {
			return false
		}
		at = next
	}
	return true
}

// settle holds the body, which is all of out from start on, against the parameters. It takes out of it what the path
// gives too, so that nothing is joined.
func (g *merge) settle(r *Request) error {
	if _, err := g.walk(r, 0, r.Message, g.start, len(g.out)); err != nil {
		return err
	}
	if len(g.cuts) == 0 {
		return nil
	}
	g.tmp = append(g.tmp[:0], g.out[g.start:]...)
	g.out = g.out[:g.start]
	g.copyKept(g.cuts, g.tmp, 0, len(g.tmp))
	g.cuts = g.cuts[:0]
	g.spread()
	return nil
}

// walk goes over the fields of a message in out[i:end] that a node of the tree has fields below. A group ends at its end
// tag, so that groups in groups are not measured over and over; next is behind it.
func (g *merge) walk(r *Request, node uint32, m *schema.Message, i, end int) (next int, err error) {
	for i < end {
		g.steps++
		num, typ, n := protowire.ConsumeTag(g.out[i:])
		if typ == protowire.EndGroupType {
			return i + n, nil
		}
		if g.nodes[node].below>>(num&63)&1 != 0 {
			if f := m.ByNumber(num); f != nil {
				if i, err = g.meet(r, node, f, typ, span{i, i + n}, end); err != nil {
					return 0, err
				}
				continue
			}
		}
		i += n + protowire.ConsumeFieldValue(num, typ, g.out[i+n:end])
	}
	return i, nil
}

// meet decides on one field of the body that may be given by a parameter, or be in a oneof with one that is. Its tag
// stands in out at a span; next is behind its value.
func (g *merge) meet(r *Request, node uint32, f *schema.Field, typ protowire.Type, tag span, end int) (next int, err error) {
	at, value := tag.from, tag.to
	child, ok := g.keys.get(scopeParams, g.edge(edgeField, node, uint32(f.Number)))
	if ok && !g.nodes[child].whole && !g.nodes[child].taken {
		if f.Kind == protoreflect.GroupKind {
			return g.walk(r, child, f.Message, value, end)
		}
		size, n := protowire.ConsumeVarint(g.out[value:end])
		return g.walk(r, child, f.Message, value+n, value+n+int(size))
	}
	next = value + protowire.ConsumeFieldValue(f.Number, typ, g.out[value:end])
	if !ok {
		if f.Oneof < 0 {
			return next, nil
		}
		member, ok := g.keys.get(scopeParams, g.edge(edgeOneof, node, uint32(f.Oneof)))
		if !ok {
			return next, nil
		}
		child, _ = g.keys.get(scopeParams, g.edge(edgeField, node, member>>2))
		return next, g.otherMember(r, &g.nodes[child], f, span{at, next})
	}
	n := &g.nodes[child]
	a := &r.Params[n.param]
	switch {
	case a.From != FromPath:
		return next, refused(a, "the body gives it")
	case r.Override || n.same || f.Cardinality == schema.Singular && !f.Presence && isZero(f, g.out[value:next]):
	default:
		if err := g.compare(r, n, span{at, next}); err != nil {
			return next, err
		}
		n.same = true
	}
	g.cuts = append(g.cuts, span{at, next})
	return next, nil
}

// otherMember decides on field f of the body where a parameter gives another member of its oneof.
func (g *merge) otherMember(r *Request, n *given, f *schema.Field, at span) error {
	a := &r.Params[n.param]
	oneof := f.Parent.Oneofs[f.Oneof].Name
	if a.From != FromPath {
		return refused(a, fmt.Sprintf("the body gives %q, another member of oneof %q", f.Name, oneof))
	}
	if !r.Override {
		depth := slices.Index(a.Field, n.field)
		return &Error{
			Path:    joinPath(jsonPath(a.Field[:depth]), f.JSONName),
			Message: fmt.Sprintf("the path gives %q, another member of oneof %q; leave %q out of the body%s", n.field.Name, oneof, f.Name, orOverride),
		}
	}
	g.cuts = append(g.cuts, at)
	return nil
}

// orOverride is the other way out of a conflict between path and body.
const orOverride = " (a route may set path_conflict: override)"

// isZero says whether the wire form of a scalar is that of its zero.
func isZero(f *schema.Field, value []byte) bool {
	if f.Message != nil {
		return false
	}
	for _, c := range value {
		if c != 0 {
			return false
		}
	}
	return true
}

// compare refuses what the path gives for a field unless the body, which has it at a span, gives the same. The path's
// value is written to the end of out for that.
func (g *merge) compare(r *Request, n *given, at span) error {
	end := len(g.out)
	field := r.Params[n.param].Field
	for i := range r.Params {
		a := &r.Params[i]
		if a.From == FromPath && slices.Equal(a.Field, field) && !g.paramValue(field.Last(), a.Value, field) {
			return refused(a, g.failMsg)
		}
	}
	g.spread()
	fromPath := g.out[end:]
	g.out = g.out[:end]
	f := n.field
	if f.Cardinality == schema.Singular && f.Message == nil && bytes.Equal(fromPath, g.out[at.from:at.to]) {
		return nil
	}
	inPath, ok := valueText(fromPath, f.Parent, f.Self, &g.opts)
	inBody, ok2 := valueText(g.out[g.start:], r.Message, field, &g.opts)
	if ok && ok2 && sameValue(f, inPath, inBody) {
		return nil
	}
	return &Error{
		Path: jsonPath(field),
		Message: fmt.Sprintf("wanted in the body what the path gives, %s, found %s; leave %q out of the body or give the same value%s",
			abridged(inPath), abridged(inBody), f.Name, orOverride),
	}
}

// valueText is a field of a message as JSON.
func valueText(wire []byte, m *schema.Message, path schema.Path, o *Options) (text string, ok bool) {
	json, err := AppendFieldJSON(nil, wire, m, path, &Options{MaxDepth: o.MaxDepth, MaxElements: o.MaxElements})
	if err != nil {
		return "a value that has no JSON form", false
	}
	return string(json), true
}

// sameValue compares two values of f by their JSON.
func sameValue(f *schema.Field, a, b string) bool {
	if a != b && f.Cardinality == schema.Singular && f.Message != nil && f.Message.WellKnown == schema.FieldMask {
		return slices.Equal(pathSet(a), pathSet(b))
	}
	return a == b
}

// pathSet are the paths of a mask in JSON, sorted, each once.
func pathSet(mask string) []string {
	paths := strings.Split(strings.Trim(mask, `"`), ",")
	slices.Sort(paths)
	return slices.Compact(paths)
}

// abridged is the JSON of a value as messages show it.
func abridged(s string) string {
	const longest = 64
	if len(s) > longest {
		return string(validPrefix([]byte(s), longest)) + "..."
	}
	return s
}

// copyKept appends wire[i:end], the content of a message, to out without what is cut, which lies in wire from the message
// on; it returns the cuts behind end.
func (g *merge) copyKept(cuts []span, wire []byte, i, end int) []span {
	from := i
	for i < end && len(cuts) > 0 && cuts[0].from-g.start < end {
		num, typ, n := protowire.ConsumeTag(wire[i:])
		next := i + n + protowire.ConsumeFieldValue(num, typ, wire[i+n:])
		switch cut := cuts[0].from - g.start; {
		case cut == i:
			g.out = append(g.out, wire[from:i]...)
			from = next
			cuts = cuts[1:]
		case cut < next:
			g.out = append(g.out, wire[from:i+n]...)
			if typ == protowire.StartGroupType {
				endTag := protowire.SizeTag(num)
				cuts = g.copyKept(cuts, wire, i+n, next-endTag)
				from = next - endTag
			} else {
				_, size := protowire.ConsumeVarint(wire[i+n:])
				l := g.openLen()
				cuts = g.copyKept(cuts, wire, i+n+size, next)
				g.closeLen(l)
				from = next
			}
		}
		i = next
	}
	g.out = append(g.out, wire[from:end]...)
	return cuts
}
