package tarsidl

import (
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	tarsv1 "github.com/causeway-gateway/causeway/protos/causeway/tars/v1"
)

// optionsFile has the options.
const optionsFile = "causeway/tars/v1/tars.proto"

// Field numbers of descriptor.proto, as paths of source info have them.
const (
	filePackage   = 2
	fileMessages  = 4
	fileEnums     = 5
	fileServices  = 6
	messageFields = 2
	enumValues    = 2
	methods       = 2
)

// emitter writes descriptors.
type emitter struct {
	options Options
	names   map[*scope]*symbols
	files   map[declaration]string // the file that a declaration is in
	values  map[*enumerator]string // names of values that differ from the IDL's
}

// symbols are the names in one package.
type symbols struct {
	exact  map[string]bool
	folded map[string]bool // without case and underscores: code generators for protobuf do not tell them apart
}

// take claims the first free candidate, and with underscores behind it when none is free.
func (s *symbols) take(candidates ...string) string {
	last := candidates[len(candidates)-1]
	for i := 0; ; i++ {
		n := last + strings.Repeat("_", max(0, i-len(candidates)+1))
		if i < len(candidates) {
			n = candidates[i]
		}
		if !s.exact[n] && (!s.folded[fold(n)] || i >= len(candidates)) {
			s.claim(n)
			return n
		}
	}
}

func (s *symbols) claim(n string) {
	s.exact[n] = true
	s.folded[fold(n)] = true
}

func fold(s string) string { return strings.ToLower(strings.ReplaceAll(s, "_", "")) }

func (c *compiler) emit(groups []*group) []*descriptorpb.FileDescriptorProto {
	e := &emitter{options: c.options, names: map[*scope]*symbols{}, files: map[declaration]string{}, values: map[*enumerator]string{}}
	for _, s := range c.order {
		e.symbols(s)
	}
	for _, g := range groups {
		for _, d := range g.decl {
			e.files[d] = e.fileName(g)
		}
	}
	out := make([]*descriptorpb.FileDescriptorProto, 0, len(groups))
	for _, g := range groups {
		out = append(out, e.file(g))
	}
	return sorted(out)
}

// sorted puts files after those they import, otherwise as they were.
func sorted(files []*descriptorpb.FileDescriptorProto) []*descriptorpb.FileDescriptorProto {
	byName := map[string]*descriptorpb.FileDescriptorProto{}
	for _, f := range files {
		byName[f.GetName()] = f
	}
	var out []*descriptorpb.FileDescriptorProto
	var visit func(f *descriptorpb.FileDescriptorProto)
	visit = func(f *descriptorpb.FileDescriptorProto) {
		if f == nil || byName[f.GetName()] == nil {
			return
		}
		delete(byName, f.GetName())
		for _, dep := range f.GetDependency() {
			visit(byName[dep])
		}
		out = append(out, f)
	}
	for _, f := range files {
		visit(f)
	}
	return out
}

// symbols settles the names that differ from the IDL's: types keep theirs, the values of enums come next in the order of
// declaration, since protobuf has them beside their enum.
func (e *emitter) symbols(s *scope) {
	n := &symbols{exact: map[string]bool{}, folded: map[string]bool{}}
	e.names[s] = n
	for name := range s.types {
		n.claim(name)
	}
	for _, d := range s.decl {
		en, ok := d.(*enum)
		if !ok {
			continue
		}
		// Protobuf does not take values of one enum, unless they are equal, whose names differ only by case, underscores or
		// the enum's name before them.
		bare := map[string]int32{}
		for _, v := range en.values {
			number, ok := bare[bareName(en.name, v.name)]
			clash := ok && number != v.number
			bare[bareName(en.name, v.name)] = v.number
			name := v.name
			if clash {
				name += "_" + strings.ReplaceAll(strconv.Itoa(int(v.number)), "-", "NEG")
				bare[bareName(en.name, name)] = v.number
			}
			switch {
			case n.exact[name]:
				e.values[v] = n.take(en.name+"_"+name, en.module.name+"_"+en.name+"_"+name)
			case clash:
				e.values[v] = n.take(name)
			default:
				n.claim(name)
			}
		}
	}
}

// bareName is the name of a value as protobuf compares it: without the enum's name before it, in CamelCase.
func bareName(enum, value string) string {
	s, prefix := value, strings.ToLower(strings.ReplaceAll(enum, "_", ""))
	for len(s) > 0 && len(prefix) > 0 {
		if s[0] == '_' {
			s = s[1:]
			continue
		}
		if strings.ToLower(s[:1]) != prefix[:1] {
			break
		}
		s, prefix = s[1:], prefix[1:]
	}
	if s = strings.TrimLeft(s, "_"); len(prefix) > 0 || s == "" {
		s = value
	}
	var b strings.Builder
	for part := range strings.SplitSeq(s, "_") {
		if part != "" {
			b.WriteString(strings.ToUpper(part[:1]) + strings.ToLower(part[1:]))
		}
	}
	return b.String()
}

func (e *emitter) pkg(module string) string {
	if e.options.Package == "" {
		return module
	}
	return e.options.Package + "." + module
}

func (e *emitter) fileName(g *group) string {
	base := g.scope.name
	if g.part > 0 {
		base += "." + strconv.Itoa(g.part)
	}
	return path.Join(strings.ReplaceAll(e.options.Package, ".", "/"), base+".proto")
}

// fileBuilder is one file in the making.
type fileBuilder struct {
	*emitter
	fd      *descriptorpb.FileDescriptorProto
	imports map[string]bool
	symbols *symbols
}

func (e *emitter) file(g *group) *descriptorpb.FileDescriptorProto {
	b := &fileBuilder{
		emitter: e,
		fd: &descriptorpb.FileDescriptorProto{
			Name:           proto.String(e.fileName(g)),
			Package:        proto.String(e.pkg(g.scope.name)),
			Syntax:         proto.String("proto3"),
			SourceCodeInfo: &descriptorpb.SourceCodeInfo{},
		},
		imports: map[string]bool{},
		symbols: e.names[g.scope],
	}
	if len(g.decl) > 0 {
		b.note(&moduleOf(g.decl[0]).ident, filePackage)
	}
	for _, d := range g.decl {
		switch d := d.(type) {
		case *enum:
			b.enum(d)
		case *structure:
			b.structure(d)
		}
	}
	for _, d := range g.decl {
		if i, ok := d.(*iface); ok {
			b.service(i)
		}
	}
	delete(b.imports, b.fd.GetName())
	b.fd.Dependency = slices.Sorted(maps.Keys(b.imports))
	return b.fd
}

// note keeps the comments of what stands at a path, if there are any.
func (b *fileBuilder) note(id *ident, path ...int32) {
	if id.doc == "" && id.trail == "" {
		return
	}
	line, column := int32(max(id.at.line-1, 0)), int32(max(id.at.column-1, 0))                                          //nolint:gosec // files are smaller than that
	loc := &descriptorpb.SourceCodeInfo_Location{Path: path, Span: []int32{line, column, column + int32(len(id.name))}} //nolint:gosec // as above
	if id.doc != "" {
		loc.LeadingComments = proto.String(id.doc)
	}
	if id.trail != "" {
		loc.TrailingComments = proto.String(id.trail)
	}
	b.fd.SourceCodeInfo.Location = append(b.fd.SourceCodeInfo.Location, loc)
}

// index is a count as paths of source info have it.
func index[T any](list []T) int32 { return int32(len(list)) } //nolint:gosec // declarations of a file

func (b *fileBuilder) enum(e *enum) {
	ed := &descriptorpb.EnumDescriptorProto{Name: proto.String(e.name)}
	at := index(b.fd.EnumType)
	b.note(&e.ident, fileEnums, at)
	values := slices.Clone(e.values)
	zero := slices.IndexFunc(values, func(v *enumerator) bool { return v.number == 0 })
	if zero > 0 {
		v := values[zero]
		values = slices.Insert(slices.Delete(values, zero, zero+1), 0, v)
	}
	if zero < 0 {
		name := b.symbols.take(b.zeroName(e), e.name+"_ZERO_UNSPECIFIED")
		ed.Value = append(ed.Value, &descriptorpb.EnumValueDescriptorProto{
			Name: proto.String(name), Number: proto.Int32(0), Options: enumeratorOptions(&tarsv1.Enumerator{Synthetic: true}),
		})
		b.imports[optionsFile] = true
	}
	seen := map[int32]bool{}
	for _, v := range values {
		vd := &descriptorpb.EnumValueDescriptorProto{Name: proto.String(v.name), Number: proto.Int32(v.number)}
		if other, ok := b.values[v]; ok {
			vd.Name = proto.String(other)
			vd.Options = enumeratorOptions(&tarsv1.Enumerator{Name: v.name})
			b.imports[optionsFile] = true
		}
		if seen[v.number] {
			ed.Options = &descriptorpb.EnumOptions{AllowAlias: proto.Bool(true)}
		}
		seen[v.number] = true
		b.note(&v.ident, fileEnums, at, enumValues, index(ed.Value))
		ed.Value = append(ed.Value, vd)
	}
	b.fd.EnumType = append(b.fd.EnumType, ed)
}

// zeroName is a name for the zero of an enum that has none.
func (b *fileBuilder) zeroName(e *enum) string {
	taken := map[string]bool{}
	for _, v := range e.values {
		name := v.name
		if other, ok := b.values[v]; ok {
			name = other
		}
		taken[bareName(e.name, name)] = true
	}
	name := "UNSPECIFIED"
	for taken[bareName(e.name, name)] {
		name = "ZERO_" + name
	}
	return e.name + "_" + name
}

func enumeratorOptions(e *tarsv1.Enumerator) *descriptorpb.EnumValueOptions {
	o := &descriptorpb.EnumValueOptions{}
	proto.SetExtension(o, tarsv1.E_Enumerator, e)
	return o
}

func (b *fileBuilder) structure(s *structure) {
	m := b.message(s.name, tarsv1.Struct_STRUCT)
	at := index(b.fd.MessageType)
	b.note(&s.ident, fileMessages, at)
	for _, f := range s.members {
		m.used[f.name] = true
	}
	for _, f := range s.members {
		b.note(&f.ident, fileMessages, at, messageFields, index(m.d.Field))
		o := b.field(m, f.name, f.tag, f.typ, true)
		o.Require = f.require
		o.Length = int32(f.length) //nolint:gosec // bounded by the parser
		if f.def != nil {
			o.Default, _ = value(f.def, f.typ)
		}
		m.done(o)
	}
	b.fd.MessageType = append(b.fd.MessageType, m.d)
}

func (b *fileBuilder) service(i *iface) {
	names := b.symbols
	sd := &descriptorpb.ServiceDescriptorProto{
		Name:    proto.String(names.take(i.name, i.name+"Service")),
		Options: &descriptorpb.ServiceOptions{},
	}
	proto.SetExtension(sd.Options, tarsv1.E_Interface, &tarsv1.Interface{Name: i.module.name + "." + i.name})
	at := index(b.fd.Service)
	b.note(&i.ident, fileServices, at)
	for _, f := range i.functions {
		in := b.message(names.take(f.name+"Request", i.name+"_"+f.name+"Request"), tarsv1.Struct_REQUEST)
		out := b.message(names.take(f.name+"Response", i.name+"_"+f.name+"Response"), tarsv1.Struct_RESPONSE)
		fn := &tarsv1.Function{Name: f.name}
		for _, p := range f.parameters {
			fn.Parameters = append(fn.Parameters, p.name)
			in.used[p.name], out.used[p.name] = true, true
		}
		if f.ret != nil {
			ret := unused(out.used, "ret", "tars_ret", "tars_ret_")
			out.used[ret] = true
			o := b.field(out, ret, 0, f.ret, true)
			o.Require = true
			out.done(o)
		}
		for n, p := range f.parameters {
			m := in
			if p.out {
				m = out
			}
			o := b.field(m, p.name, n+1, p.typ, true)
			o.Require = true
			o.Routekey = p.routekey
			m.done(o)
		}
		b.note(&f.ident, fileServices, at, methods, index(sd.Method))
		md := &descriptorpb.MethodDescriptorProto{
			Name:       proto.String(f.name),
			InputType:  proto.String("." + in.full),
			OutputType: proto.String("." + out.full),
			Options:    &descriptorpb.MethodOptions{},
		}
		proto.SetExtension(md.Options, tarsv1.E_Function, fn)
		sd.Method = append(sd.Method, md)
		b.fd.MessageType = append(b.fd.MessageType, in.d, out.d)
	}
	b.imports[optionsFile] = true
	b.fd.Service = append(b.fd.Service, sd)
}

// unused is the first candidate that is not used, else the last with underscores behind it.
func unused(used map[string]bool, candidates ...string) string {
	for _, c := range candidates {
		if !used[c] {
			return c
		}
	}
	c := candidates[len(candidates)-1]
	for used[c] {
		c += "_"
	}
	return c
}
