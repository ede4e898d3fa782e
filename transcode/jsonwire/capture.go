package jsonwire

import (
	"cmp"
	"fmt"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// capture is a way to keep parameters that name no field.
type capture uint8

const (
	noCapture     capture = iota
	captureMap            // map<string, string>: a name once
	captureLists          // map<string, M>, M with one repeated string and nothing else
	captureStruct         // google.protobuf.Struct: a string, or a list where a name is repeated
	capturePairs          // repeated string: "name=value"
)

// grouped says that all values of a name are written together.
func (c capture) grouped() bool { return c == captureLists || c == captureStruct }

// captureOf says how a field keeps parameters.
func captureOf(f *schema.Field) capture {
	switch {
	case f.Cardinality == schema.Map && f.MapKey.Kind != protoreflect.StringKind:
		return noCapture
	case f.Cardinality == schema.Map && f.MapValue.Kind == protoreflect.StringKind:
		return captureMap
	case f.Cardinality == schema.Map && f.MapValue.Kind == protoreflect.MessageKind:
		if m := f.MapValue.Message; (m.WellKnown == schema.NotWellKnown || m.WellKnown == schema.TarsItems) && len(m.Fields) == 1 &&
			m.Fields[0].Cardinality == schema.Repeated && m.Fields[0].Kind == protoreflect.StringKind {
			return captureLists
		}
	case f.Cardinality == schema.Repeated && f.Kind == protoreflect.StringKind:
		return capturePairs
	case f.Cardinality == schema.Singular && f.Kind == protoreflect.MessageKind && f.Message.WellKnown == schema.Struct:
		return captureStruct
	}
	return noCapture
}

// CaptureField finds the field of m, by its name or a dotted one, that may keep the parameters that name no field:
//   - map<string, string>: a name given twice is refused;
//   - map<string, M>, where M has one repeated string field and no other: each name with all its values;
//   - google.protobuf.Struct: a string for each name, a list of strings for one that is repeated;
//   - repeated string: "name=value" for each, in order.
//
// It is for use when a configuration is loaded; the error says what is accepted.
func CaptureField(m *schema.Message, name string) (schema.Path, error) {
	path, err := m.Path(name)
	if err != nil {
		return nil, err
	}
	if f := path.Last(); captureOf(f) == noCapture {
		return nil, fmt.Errorf("wanted a field that can keep query parameters (map<string, string>, a map from string to a message "+
			"with one repeated string field, google.protobuf.Struct or repeated string), found %q of %s, which is %s",
			f.Name, f.Parent.Name, shapeOf(f))
	}
	return path, nil
}

// shapeOf is a field's shape with the parts of a map.
func shapeOf(f *schema.Field) string {
	if f.Cardinality != schema.Map {
		return f.Shape()
	}
	value := f.MapValue.Kind.String()
	switch {
	case f.MapValue.Message != nil:
		value = f.MapValue.Message.Name
	case f.MapValue.Enum != nil:
		value = f.MapValue.Enum.Name
	}
	return "map<" + f.MapKey.Kind.String() + ", " + value + ">"
}

// namedValue writes a captured parameter as "name=value".
func (g *merge) namedValue(a *Param, f *schema.Field) bool {
	if captureOf(f) != capturePairs {
		return g.failf(0, "field %q is %s, which keeps no parameters", f.Name, shapeOf(f))
	}
	g.out = appendVarint(g.out, f.Tag)
	l := g.openLen()
	if !g.utf8(a.Key) || !g.utf8(a.Value) {
		return false
	}
	g.out = append(append(append(g.out, a.Key...), '='), a.Value...)
	g.closeLen(l)
	return true
}

// captureGroups writes the captured parameters whose fields keep all values of a name together.
func (g *merge) captureGroups(r *Request, from Source) error {
	g.group = g.group[:0]
	for i := range r.Params {
		if a := &r.Params[i]; a.From == from && a.Captured && captureOf(a.Field.Last()).grouped() {
			g.group = append(g.group, int32(i))
		}
	}
	slices.SortStableFunc(g.group, func(x, y int32) int { return cmp.Compare(r.Params[x].Key, r.Params[y].Key) })
	for from := 0; from < len(g.group); {
		first := &r.Params[g.group[from]]
		to := from + 1
		for to < len(g.group) && r.Params[g.group[to]].Key == first.Key && slices.Equal(r.Params[g.group[to]].Field, first.Field) {
			to++
		}
		if !g.captured(r, first, g.group[from:to]) {
			return refused(first, g.failMsg)
		}
		from = to
	}
	return nil
}

// captured writes all values of one name.
func (g *merge) captured(r *Request, first *Param, all []int32) bool {
	outer, ok := g.enter(first.Field)
	if !ok {
		return false
	}
	f := first.Field.Last()
	g.out = appendVarint(g.out, f.Tag)
	l := g.openLen()
	if captureOf(f) == captureLists {
		ok = g.listEntry(r, f.MapKey, f.MapValue, first.Key, all)
	} else {
		entry := f.Message.Fields[0]
		g.out = appendVarint(g.out, entry.Tag)
		inner := g.openLen()
		if ok = g.valueEntry(r, first.Key, all); ok {
			g.closeLen(inner)
		}
	}
	if !ok {
		return false
	}
	g.closeLen(l)
	g.leave(first.Field, outer)
	return true
}

// listEntry writes key and value of an entry whose value is a message of strings.
func (g *merge) listEntry(r *Request, key, value *schema.Field, name string, all []int32) bool {
	g.out = appendVarint(g.out, key.Tag)
	if !g.paramString(name) {
		return false
	}
	g.out = appendVarint(g.out, value.Tag)
	l := g.openLen()
	for _, i := range all {
		g.out = appendVarint(g.out, value.Message.Fields[0].Tag)
		if !g.paramString(r.Params[i].Value) {
			return false
		}
	}
	g.closeLen(l)
	return true
}

// valueEntry writes key and value of an entry of a google.protobuf.Struct.
func (g *merge) valueEntry(r *Request, name string, all []int32) bool {
	g.out = append(g.out, tagBytes1)
	if !g.paramString(name) {
		return false
	}
	g.out = append(g.out, tagBytes2)
	value := g.openLen()
	if len(all) == 1 {
		g.out = append(g.out, tagBytes3)
		if !g.paramString(r.Params[all[0]].Value) {
			return false
		}
		g.closeLen(value)
		return true
	}
	g.out = append(g.out, tagBytes6)
	list := g.openLen()
	for _, i := range all {
		g.out = append(g.out, tagBytes1)
		element := g.openLen()
		g.out = append(g.out, tagBytes3)
		if !g.paramString(r.Params[i].Value) {
			return false
		}
		g.closeLen(element)
	}
	g.closeLen(list)
	g.closeLen(value)
	return true
}
