package source

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// maxFaults bounds how many faults one error tells.
const maxFaults = 20

// check turns the wire bytes of a FileDescriptorSet, from whatever source, into a Set. It is the one place where
// descriptors are judged. The stages: count and decode, names, built-in files, imports, options, link, compile.
func check(data []byte, l Limits) (set *Set, err error) {
	// Last defence: descriptors are outside input, and a fault in linking them must not end the gateway.
	defer func() {
		if p := recover(); p != nil {
			set, err = nil, fmt.Errorf("the descriptor set cannot be linked: %v", p)
		}
	}()
	counter := &counter{l: l.withDefaults()}
	decoded, err := counter.decodeSet(data)
	if err != nil {
		return nil, err
	}
	c := &checker{files: map[string]*descriptorpb.FileDescriptorProto{}, builtin: map[string]bool{}, types: typesFor(decoded)}
	for _, fd := range decoded {
		c.add(fd)
	}
	c.imports()
	if err := c.result(); err != nil {
		return nil, err
	}
	if err := c.order(); err != nil {
		return nil, err
	}
	counter.exts = c.types
	options := &optionReader{counter: counter, types: c.types}
	for _, fd := range c.ordered {
		if err := options.file(fd); err != nil {
			return nil, fmt.Errorf("%s: %w", fd.GetName(), err)
		}
		c.messageSets(fd)
	}
	c.symbols()
	if err := c.result(); err != nil {
		return nil, err
	}
	linked, err := c.link()
	if err != nil {
		return nil, err
	}
	compiled, err := schema.New(linked)
	if err != nil {
		return nil, err
	}
	digest, err := c.digest()
	if err != nil {
		return nil, err
	}
	return &Set{Files: &descriptorpb.FileDescriptorSet{File: c.ordered}, Digest: digest, schema: compiled}, nil
}

// checker holds one set on its way through the stages.
type checker struct {
	files   map[string]*descriptorpb.FileDescriptorProto
	builtin map[string]bool // files taken from the bundle
	ordered []*descriptorpb.FileDescriptorProto
	types   extensionTypes
	faults  []error
}

func (c *checker) fault(format string, args ...any) {
	c.faults = append(c.faults, fmt.Errorf(format, args...))
}

// result joins the faults found so far, one a line, or returns nil.
func (c *checker) result() error {
	if n := len(c.faults) - maxFaults; n > 0 {
		c.faults = append(c.faults[:maxFaults], fmt.Errorf("and %d more", n))
	}
	return errors.Join(c.faults...)
}

// add takes one file into the set: its name, whether it may be what it says, whether it is there already.
func (c *checker) add(fd *descriptorpb.FileDescriptorProto) {
	name := fd.GetName()
	if err := fileNameFault(name); err != nil {
		c.faults = append(c.faults, err)
		return
	}
	if protected(name) && !languageFeatures(fd) {
		own, ok := bundled().files[name]
		if !ok {
			c.fault("%s: the folder %s is for protobuf's own files, and this is none of them; %s", name, protobufFolder, shadowFix)
			return
		}
		if err := shadow(fd, own); err != nil {
			c.faults = append(c.faults, err)
			return
		}
		c.addBuiltin(own)
		return
	}
	if misplaced(fd) {
		c.fault("%s: declares package %s, which is kept for protobuf's own files; if this is a copy of one of them, compile with the folder above google/ as import root (protoc -I)", name, fd.GetPackage())
		return
	}
	if was, ok := c.files[name]; ok {
		if !proto.Equal(withoutInfo(was), withoutInfo(fd)) {
			c.fault("%s: is in the set twice, with different content", name)
		}
		return
	}
	c.files[name] = fd
}

func misplaced(fd *descriptorpb.FileDescriptorProto) bool {
	p := fd.GetPackage()
	return p == "google.protobuf" || strings.HasPrefix(p, "google.protobuf.")
}

func (c *checker) addBuiltin(own protoreflect.FileDescriptor) {
	if _, ok := c.files[own.Path()]; ok {
		return
	}
	c.files[own.Path()] = protodesc.ToFileDescriptorProto(own)
	c.builtin[own.Path()] = true
}

// fileNameFault refuses names that are no relative, clean, slash-separated path.
func fileNameFault(name string) error {
	var why string
	switch {
	case name == "":
		return errors.New("a file of the set has no name")
	case len(name) > 1024:
		return fmt.Errorf("file name %.40q...: has %d bytes, more than 1024", name, len(name))
	case !printable(name):
		why = "holds characters that do not print"
	case strings.Contains(name, `\`):
		why = "holds a backslash; folders are separated by /"
	case strings.HasPrefix(name, "/") || len(name) > 1 && name[1] == ':':
		why = "is absolute; names are relative to an import root"
	case slices.ContainsFunc(strings.Split(name, "/"), func(part string) bool { return part == "" || part == "." || part == ".." }):
		why = `has an empty, "." or ".." part; names are relative to an import root (protoc -I)`
	default:
		return nil
	}
	return fmt.Errorf("file name %q %s", name, why)
}

// imports brings in the built-in files that are imported and not there, and names the imports that nobody has.
func (c *checker) imports() {
	todo := slices.Sorted(maps.Keys(c.files))
	for len(todo) > 0 {
		fd := c.files[todo[0]]
		todo = todo[1:]
		for i, dep := range fd.GetDependency() {
			if _, ok := c.files[dep]; ok {
				continue
			}
			if own, ok := bundled().files[dep]; ok {
				c.addBuiltin(own)
				todo = append(todo, dep)
				continue
			}
			c.fault("missing import %q, imported by %s%s: add --include_imports to protoc, or make the set with buf build",
				dep, fd.GetName(), importLine(fd, i))
		}
	}
}

// importLine is ":<line>" of the i-th import, from source info, or "".
func importLine(fd *descriptorpb.FileDescriptorProto, i int) string {
	for _, loc := range fd.GetSourceCodeInfo().GetLocation() {
		if p := loc.GetPath(); len(p) == 2 && p[0] == fileDependency && int(p[1]) == i {
			return fmt.Sprintf(":%d", loc.GetSpan()[0]+1)
		}
	}
	return ""
}

// order puts files after those they import, otherwise by name, and refuses cycles.
func (c *checker) order() error {
	if len(c.files) == 0 {
		return errors.New("the descriptor set holds no files; " + howToMake)
	}
	const (
		entered = 1
		done    = 2
	)
	state := make(map[string]int, len(c.files))
	var stack []string
	var visit func(name string) error
	visit = func(name string) error {
		switch state[name] {
		case done:
			return nil
		case entered:
			return fmt.Errorf("import cycle: %s -> %s", strings.Join(stack[slices.Index(stack, name):], " -> "), name)
		}
		state[name] = entered
		stack = append(stack, name)
		fd := c.files[name]
		for _, dep := range fd.GetDependency() {
			if err := visit(dep); err != nil {
				return err
			}
		}
		stack = stack[:len(stack)-1]
		state[name] = done
		c.ordered = append(c.ordered, fd)
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(c.files)) {
		if err := visit(name); err != nil {
			return err
		}
	}
	graph := make(importGraph, len(c.ordered))
	for _, fd := range c.ordered {
		graph.add(fd)
	}
	return graph.check()
}

// messageSets names the messages with the retired wire format of MessageSet.
func (c *checker) messageSets(fd *descriptorpb.FileDescriptorProto) {
	var walk func(scope string, ms []*descriptorpb.DescriptorProto)
	walk = func(scope string, ms []*descriptorpb.DescriptorProto) {
		for _, m := range ms {
			name := join(scope, m.GetName())
			if m.GetOptions().GetMessageSetWireFormat() {
				c.fault("%s: message %s has option message_set_wire_format, which protobuf itself has retired: use a plain message with extensions", fd.GetName(), name)
			}
			walk(name, m.GetNestedType())
		}
	}
	walk(fd.GetPackage(), fd.GetMessageType())
}

// symbols refuses what two files declare both. Conflicts inside one file are found when it is linked; below the top
// level they cannot be between files.
func (c *checker) symbols() {
	in := map[string]string{}       // symbol -> file
	packages := map[string]string{} // package -> file
	declare := func(fd *descriptorpb.FileDescriptorProto, name string) {
		symbol := join(fd.GetPackage(), name)
		if was, ok := in[symbol]; ok && was != fd.GetName() {
			c.fault("%s is declared by both %s and %s", symbol, was, fd.GetName())
			return
		}
		in[symbol] = fd.GetName()
	}
	for _, fd := range c.ordered {
		for p := fd.GetPackage(); p != ""; {
			if _, ok := packages[p]; !ok {
				packages[p] = fd.GetName()
			}
			dot := strings.LastIndexByte(p, '.')
			p = p[:max(dot, 0)]
		}
		for _, m := range fd.GetMessageType() {
			declare(fd, m.GetName())
		}
		for _, e := range fd.GetEnumType() {
			declare(fd, e.GetName())
			for _, v := range e.GetValue() {
				declare(fd, v.GetName())
			}
		}
		for _, s := range fd.GetService() {
			declare(fd, s.GetName())
		}
		for _, x := range fd.GetExtension() {
			declare(fd, x.GetName())
		}
	}
	for _, symbol := range slices.Sorted(maps.Keys(packages)) {
		if was, ok := in[symbol]; ok {
			c.fault("%s is declared by %s and is a package in %s", symbol, was, packages[symbol])
		}
	}
}

// link resolves every reference. Built-in files at protected paths are the linked-in descriptors themselves.
func (c *checker) link() (*protoregistry.Files, error) {
	linked := &protoregistry.Files{}
	for _, fd := range c.ordered {
		var d protoreflect.FileDescriptor
		if c.builtin[fd.GetName()] && protected(fd.GetName()) {
			d = bundled().files[fd.GetName()]
		} else {
			var err error
			if d, err = protodesc.NewFile(fd, linked); err != nil {
				return nil, fmt.Errorf("%s: %w", fd.GetName(), plain(err))
			}
		}
		if err := linked.RegisterFile(d); err != nil {
			return nil, fmt.Errorf("%s: %w", fd.GetName(), plain(err))
		}
	}
	c.extensions(linked)
	return linked, c.result()
}

// extensions refuses two extensions with one number, and any that would take the place of google.api.http.
func (c *checker) extensions(linked *protoregistry.Files) {
	at := map[extensionKey]protoreflect.ExtensionDescriptor{}
	one := func(x protoreflect.ExtensionDescriptor) {
		k := extensionKey{x.ContainingMessage().FullName(), x.Number()}
		file := x.ParentFile().Path()
		if k.number == httpNumber && k.extendee == methodOptions && file != annotationsFile {
			c.fault("%s: extension %s of %s has the number %d of %s, which only %s may declare",
				file, x.FullName(), k.extendee, k.number, httpExtension, annotationsFile)
			return
		}
		was, ok := at[k]
		if !ok {
			at[k] = x
			return
		}
		c.fault("extensions %s in %s and %s in %s both have number %d of %s",
			was.FullName(), was.ParentFile().Path(), x.FullName(), file, k.number, k.extendee)
	}
	all := func(xs protoreflect.ExtensionDescriptors) {
		for i := range xs.Len() {
			one(xs.Get(i))
		}
	}
	var nested func(ms protoreflect.MessageDescriptors)
	nested = func(ms protoreflect.MessageDescriptors) {
		for i := range ms.Len() {
			all(ms.Get(i).Extensions())
			nested(ms.Get(i).Messages())
		}
	}
	for _, fd := range c.ordered {
		d, err := linked.FindFileByPath(fd.GetName())
		if err != nil {
			c.faults = append(c.faults, plain(err))
			continue
		}
		all(d.Extensions())
		nested(d.Messages())
	}
}

// digest is over the files that can differ between sources. Those that are always the built-in ones are left out: they
// are the program's, and differ between versions of it.
func (c *checker) digest() (string, error) {
	own := make([]*descriptorpb.FileDescriptorProto, 0, len(c.ordered))
	for _, fd := range c.ordered {
		if !c.builtin[fd.GetName()] || !protected(fd.GetName()) {
			own = append(own, fd)
		}
	}
	slices.SortFunc(own, func(a, b *descriptorpb.FileDescriptorProto) int { return cmp.Compare(a.GetName(), b.GetName()) })
	h := sha256.New()
	for _, fd := range own {
		// One file at a time, as the encoding of a set would have it.
		set := &descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{withoutInfo(fd)}}
		b, err := proto.MarshalOptions{Deterministic: true, AllowPartial: true}.Marshal(set)
		if err != nil {
			return "", fmt.Errorf("%s: %w", fd.GetName(), plain(err))
		}
		h.Write(b)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

// withoutInfo is fd without source info. It shares everything else with fd.
func withoutInfo(fd *descriptorpb.FileDescriptorProto) *descriptorpb.FileDescriptorProto {
	if fd.SourceCodeInfo == nil {
		return fd
	}
	bare := &descriptorpb.FileDescriptorProto{}
	m := bare.ProtoReflect()
	fd.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.Number() != fileSourceInfo {
			m.Set(f, v)
		}
		return true
	})
	return bare
}
