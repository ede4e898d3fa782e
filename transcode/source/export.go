package source

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jhump/protoreflect/desc" //nolint:staticcheck // deprecated, but the printer takes its descriptors
	"github.com/jhump/protoreflect/desc/protoprint"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	tarsv1 "github.com/causeway-gateway/causeway/protos/causeway/tars/v1"
)

// ExportOptions are choices in Export.
type ExportOptions struct {
	// TarsOptions keeps the options that say how messages are written in TARS. Then causeway/tars/v1/tars.proto is imported
	// and is among the files, and what is compiled from them is as good a schema as the .tars files. Without them the files
	// are for clients and servers that speak gRPC: comments say what they should know of the options.
	TarsOptions bool
}

// TextFile is one .proto file.
type TextFile struct {
	Name string // as imports have it
	Text []byte
}

// Export writes the files of a set as .proto text, with their comments, sorted by name. The files that any protobuf
// compiler or this package bundles are left out: google/protobuf, google/api and the like.
func Export(s *Set, o ExportOptions) (files []TextFile, err error) {
	// Last defence, as in check: the printer is not ours.
	defer func() {
		if p := recover(); p != nil {
			files, err = nil, fmt.Errorf("the descriptor set cannot be written as .proto: %v", p)
		}
	}()
	set := &descriptorpb.FileDescriptorSet{}
	for _, fd := range s.Files.GetFile() {
		var more notes
		if !o.TarsOptions {
			if fd.GetName() == tarsOptionsFile {
				continue
			}
			more = tarsNotes(fd)
			fd = withoutTars(fd)
		}
		fd = inOrder(fd, more)
		if fd.GetSyntax() == "proto3" {
			apart(fd.GetMessageType())
		}
		set.File = append(set.File, fd)
	}
	linked, err := desc.CreateFileDescriptorsFromSet(set)
	if err != nil {
		return nil, plain(err)
	}
	printer := &protoprint.Printer{Indent: "  ", Compact: true}
	for _, name := range slices.Sorted(maps.Keys(linked)) {
		if bundledPath(name) && name != tarsOptionsFile {
			continue
		}
		printer.ForceFullyQualifiedNames = namedLikeScalars(linked[name])
		text, err := printer.PrintProtoToString(linked[name])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		files = append(files, TextFile{Name: name, Text: spaced(text)})
	}
	return files, nil
}

// spaced puts an empty line before each declaration at the top level, which the printer's compact form has not; its other
// form has one before each field too.
func spaced(text string) []byte {
	var out []byte
	before := ""
	for line := range strings.Lines(text) {
		top := !strings.HasPrefix(line, " ") && !strings.HasPrefix(line, "}") && line != "\n"
		goesOn := before == "" || before == "\n" || strings.HasPrefix(before, "//") || strings.HasPrefix(before, "import ") && strings.HasPrefix(line, "import ")
		if top && !goesOn {
			out = append(out, '\n')
		}
		out = append(out, line...)
		before = line
	}
	return out
}

// Field numbers of descriptor.proto, as paths of source info have them.
const (
	pathPackage   = 2
	pathImports   = 3
	pathMessages  = 4
	pathEnums     = 5
	pathServices  = 6
	pathExtension = 7
	pathFields    = 2 // of a message; values of an enum; methods of a service
	pathNested    = 3
	pathNestEnums = 4
	pathNestExtns = 6
	pathOneofs    = 8
)

// inOrder is a file with source info that puts all declarations in the order of the descriptor and keeps their comments, with more behind them: a
// set has only what has comments, and the printer needs all places or none.
func inOrder(fd *descriptorpb.FileDescriptorProto, more notes) *descriptorpb.FileDescriptorProto {
	p := &places{comments: map[string]*descriptorpb.SourceCodeInfo_Location{}, more: more, info: &descriptorpb.SourceCodeInfo{}}
	for _, loc := range fd.GetSourceCodeInfo().GetLocation() {
		p.comments[fmt.Sprint(loc.GetPath())] = loc
	}
	p.add(pathPackage)
	for i := range fd.GetDependency() {
		p.add(pathImports, int32(i))
	}
	for i, e := range fd.GetEnumType() {
		p.enum(e, pathEnums, int32(i))
	}
	for i, m := range fd.GetMessageType() {
		p.message(m, pathMessages, int32(i))
	}
	for i := range fd.GetExtension() {
		p.add(pathExtension, int32(i))
	}
	for i, s := range fd.GetService() {
		p.add(pathServices, int32(i))
		for j := range s.GetMethod() {
			p.add(pathServices, int32(i), pathFields, int32(j))
		}
	}
	placed := proto.CloneOf(fd)
	placed.SourceCodeInfo = p.info
	return placed
}

// places gives each declaration a line of its own.
type places struct {
	comments map[string]*descriptorpb.SourceCodeInfo_Location
	more     notes
	info     *descriptorpb.SourceCodeInfo
}

func (p *places) add(path ...int32) {
	line := int32(len(p.info.GetLocation())) //nolint:gosec // declarations of one file
	loc := &descriptorpb.SourceCodeInfo_Location{Path: slices.Clone(path), Span: []int32{line, 0, 1}}
	if was := p.comments[fmt.Sprint(path)]; was != nil {
		loc.LeadingComments, loc.TrailingComments, loc.LeadingDetachedComments = was.LeadingComments, was.TrailingComments, was.LeadingDetachedComments
	}
	if note := p.more[fmt.Sprint(path)]; note != "" {
		before := loc.GetLeadingComments()
		if before != "" && !strings.HasSuffix(before, "\n") {
			before += "\n"
		}
		loc.LeadingComments = proto.String(before + " " + note + "\n")
	}
	p.info.Location = append(p.info.Location, loc)
}

func (p *places) enum(e *descriptorpb.EnumDescriptorProto, path ...int32) {
	p.add(path...)
	for i := range e.GetValue() {
		p.add(append(slices.Clone(path), pathFields, int32(i))...)
	}
}

func (p *places) message(m *descriptorpb.DescriptorProto, path ...int32) {
	at := func(kind, i int) []int32 {
		return append(slices.Clone(path), int32(kind), int32(i)) //nolint:gosec // declarations of one file
	}
	p.add(path...)
	oneofs := map[int32]bool{}
	for i, f := range m.GetField() {
		if n := f.GetOneofIndex(); f.OneofIndex != nil && !f.GetProto3Optional() && !oneofs[n] {
			oneofs[n] = true
			p.add(at(pathOneofs, int(n))...)
		}
		p.add(at(pathFields, i)...)
	}
	for i, e := range m.GetEnumType() {
		p.enum(e, at(pathNestEnums, i)...)
	}
	for i, n := range m.GetNestedType() {
		p.message(n, at(pathNested, i)...)
	}
	for i := range m.GetExtension() {
		p.add(at(pathNestExtns, i)...)
	}
}

// apart gives other names to fields that compilers refuse beside an earlier one, since both would have one JSON name by
// default (user_id and userId). The JSON names that they do have stay as they are.
func apart(ms []*descriptorpb.DescriptorProto) {
	for _, m := range ms {
		seen := map[string]bool{}
		for _, f := range m.GetField() {
			seen[f.GetName()] = true
		}
		for _, f := range m.GetField() {
			name := f.GetName()
			for n := 0; seen["json:"+lowerCamel(name)]; n++ {
				name = fmt.Sprintf("%s_%d", f.GetName(), int(f.GetNumber())+n*1000)
				for seen[name] {
					name += "_"
				}
			}
			seen[name], seen["json:"+lowerCamel(name)] = true, true
			if name != f.GetName() {
				renameEntry(m, f, name)
				f.Name = proto.String(name)
			}
		}
		apart(m.GetNestedType())
	}
}

// renameEntry gives the entry of a map the name that goes with the field's.
func renameEntry(m *descriptorpb.DescriptorProto, f *descriptorpb.FieldDescriptorProto, name string) {
	scope, was := "", f.GetTypeName()
	if dot := strings.LastIndexByte(was, '.'); dot >= 0 {
		scope, was = was[:dot+1], was[dot+1:]
	}
	for _, n := range m.GetNestedType() {
		if n.GetName() == was && n.GetOptions().GetMapEntry() && strings.HasSuffix(scope, "."+m.GetName()+".") {
			camel := lowerCamel("_" + name)
			n.Name = proto.String(camel + "Entry")
			f.TypeName = proto.String(scope + n.GetName())
		}
	}
}

// lowerCamel is the JSON name that a field has by default.
func lowerCamel(s string) string {
	var b strings.Builder
	upper := false
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '_':
			upper = true
			continue
		case upper && 'a' <= c && c <= 'z':
			c -= 'a' - 'A'
		}
		upper = false
		b.WriteByte(c)
	}
	return b.String()
}

// withoutTars is a file without the options of TARS and their import.
func withoutTars(fd *descriptorpb.FileDescriptorProto) *descriptorpb.FileDescriptorProto {
	if !slices.Contains(fd.GetDependency(), tarsOptionsFile) {
		return fd
	}
	fd = proto.CloneOf(fd)
	at := slices.Index(fd.GetDependency(), tarsOptionsFile)
	fd.Dependency = slices.Delete(fd.Dependency, at, at+1)
	fd.PublicDependency = withoutIndex(fd.PublicDependency, int32(at)) //nolint:gosec // imports of one file
	fd.WeakDependency = withoutIndex(fd.WeakDependency, int32(at))     //nolint:gosec // as above
	var strip func(ms []*descriptorpb.DescriptorProto)
	strip = func(ms []*descriptorpb.DescriptorProto) {
		for _, m := range ms {
			without(&m.Options, tarsv1.E_Struct)
			for _, f := range m.GetField() {
				without(&f.Options, tarsv1.E_Member)
			}
			stripEnums(m.GetEnumType())
			strip(m.GetNestedType())
		}
	}
	strip(fd.GetMessageType())
	stripEnums(fd.GetEnumType())
	for _, s := range fd.GetService() {
		without(&s.Options, tarsv1.E_Interface)
		for _, m := range s.GetMethod() {
			without(&m.Options, tarsv1.E_Function)
		}
	}
	return fd
}

func stripEnums(es []*descriptorpb.EnumDescriptorProto) {
	for _, e := range es {
		for _, v := range e.GetValue() {
			without(&v.Options, tarsv1.E_Enumerator)
		}
	}
}

// without clears an option, and the options when they have no other.
func without[T interface {
	comparable
	proto.Message
}](options *T, x protoreflect.ExtensionType) {
	var none T
	if *options == none {
		return
	}
	proto.ClearExtension(*options, x)
	if proto.Size(*options) == 0 {
		*options = none
	}
}

// withoutIndex is a list of positions in a list that has lost one.
func withoutIndex(list []int32, at int32) []int32 {
	var out []int32
	for _, i := range list {
		switch {
		case i < at:
			out = append(out, i)
		case i > at:
			out = append(out, i-1)
		}
	}
	return out
}

// namedLikeScalars says that a type of the file's package has the name of a scalar of protobuf, so that names must be
// written in full.
func namedLikeScalars(fd *desc.FileDescriptor) bool {
	scalar := func(name string) bool {
		_, ok := descriptorpb.FieldDescriptorProto_Type_value["TYPE_"+name]
		return ok
	}
	for _, f := range append(slices.Clone(fd.GetDependencies()), fd) {
		if f.GetPackage() != fd.GetPackage() {
			continue
		}
		for _, m := range f.GetMessageTypes() {
			if scalar(upper(m.GetName())) {
				return true
			}
		}
		for _, e := range f.GetEnumTypes() {
			if scalar(upper(e.GetName())) {
				return true
			}
		}
	}
	return false
}

// upper is the name of a scalar as descriptor.proto has it; a name that is not in lower case is none.
func upper(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			return ""
		}
		if 'a' <= c && c <= 'z' {
			b[i] = c - 'a' + 'A'
		}
	}
	return string(b)
}
