package tarsidl

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/descriptorpb"

	tarsv1 "github.com/causeway-gateway/causeway/protos/causeway/tars/v1"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// File is one .tars file.
type File struct {
	Name string // what tells it from others: two includes that come to the same name mean the same file
	Path string // what errors call it
	Text []byte
}

// Includer finds the files that others include.
type Includer interface {
	// Include finds the file that #include "path" means in the file with a name. The error says why there is none; its
	// place is put before it.
	Include(from, path string) (File, error)
}

// Options are choices in the mapping. The zero value is the default.
type Options struct {
	// Package is put before the names of modules: with "acme.tars" module Kit is package acme.tars.Kit.
	Package string
	// MaxFiles bounds the number of files, those included among them. 0: 5,000.
	MaxFiles int
}

// Result is what files compile to.
type Result struct {
	// Files stand after those they import, but for causeway/tars/v1/tars.proto, which has the options and is not among them.
	Files []*descriptorpb.FileDescriptorProto
	// Warnings are about what is legal but not understood alike by the code generators of TARS.
	Warnings []*Error
}

// Compile compiles files and those they include. The error holds everything that is wrong, one fault a line, as
// path:line:column; each fault can be had with errors.As as an *Error.
func Compile(files []File, from Includer, o Options) (*Result, error) {
	if o.MaxFiles <= 0 {
		o.MaxFiles = 5_000
	}
	c := &compiler{
		options: o,
		from:    from,
		state:   map[string]readState{},
		modules: map[string]*scope{},
	}
	for _, f := range files {
		if err := c.read(f); err != nil {
			return nil, err
		}
	}
	// What is missing because it could not be read would be reported again as undefined.
	if err := c.faults.err(); err != nil {
		return nil, err
	}
	c.declare()
	c.resolve()
	if err := c.faults.err(); err != nil {
		return nil, err
	}
	c.circles()
	groups := c.groups()
	if err := c.faults.err(); err != nil {
		return nil, err
	}
	res := &Result{Files: c.emit(groups), Warnings: c.warnings.list}
	if err := c.faults.err(); err != nil {
		return nil, err
	}
	return res, nil
}

type readState uint8

const (
	reading readState = iota + 1
	done
)

type compiler struct {
	options  Options
	from     Includer
	faults   faults
	warnings faults
	state    map[string]readState
	stack    []string // paths of the files being read
	files    []*file  // after those they include
	modules  map[string]*scope
	order    []*scope // in the order of their first declaration
}

// scope is a module with all its blocks.
type scope struct {
	name    string
	types   map[string]declaration // enums and structs
	ifaces  map[string]*iface
	decl    []declaration
	typeIDs []string // names of types, for near misses
}

// read parses a file and, before it is added, those it includes.
func (c *compiler) read(in File) error {
	if c.state[in.Name] != 0 {
		return nil
	}
	if len(c.state) >= c.options.MaxFiles {
		return fmt.Errorf("more than %d .tars files, the limit", c.options.MaxFiles)
	}
	c.state[in.Name] = reading
	c.stack = append(c.stack, in.Path)
	f := &file{name: in.Name, path: in.Path}
	parse(f, in.Text, &c.faults)
	for _, inc := range f.includes {
		dep, err := c.from.Include(f.name, inc.path)
		if err != nil {
			c.faults.add(f, inc.at, "%s", err)
			continue
		}
		if c.state[dep.Name] == reading {
			at := max(slices.Index(c.stack, dep.Path), 0)
			c.faults.add(f, inc.at, "include cycle: %s -> %s", strings.Join(c.stack[at:], " -> "), dep.Path)
			continue
		}
		if err := c.read(dep); err != nil {
			return err
		}
	}
	c.stack = c.stack[:len(c.stack)-1]
	c.state[in.Name] = done
	c.files = append(c.files, f)
	return nil
}

// declare puts what the files declare into the scopes of modules.
func (c *compiler) declare() {
	for _, f := range c.files {
		for _, m := range f.modules {
			s := c.modules[m.name]
			if s == nil {
				s = &scope{name: m.name, types: map[string]declaration{}, ifaces: map[string]*iface{}}
				c.modules[m.name] = s
				c.order = append(c.order, s)
			}
			for _, d := range m.decl {
				id := d.id()
				if i, ok := d.(*iface); ok {
					if was := s.ifaces[id.name]; was != nil {
						c.twice("interface", m, d, was)
						continue
					}
					s.ifaces[id.name] = i
				} else {
					if was := s.types[id.name]; was != nil {
						c.twice("type", m, d, was)
						continue
					}
					s.types[id.name] = d
					s.typeIDs = append(s.typeIDs, id.name)
				}
				s.decl = append(s.decl, d)
			}
		}
	}
}

func moduleOf(d declaration) *module {
	switch d := d.(type) {
	case *enum:
		return d.module
	case *structure:
		return d.module
	case *iface:
		return d.module
	}
	return nil
}

// twice passes over a declaration that says the same as the one before it, for services keep copies of each other's files;
// one that differs is refused.
func (c *compiler) twice(what string, m *module, d, was declaration) {
	if moduleOf(was).file != m.file && signature(d) == signature(was) {
		return
	}
	at, name := was.id().at, d.id().name
	how := "already"
	if moduleOf(was).file != m.file {
		how = "already, and differs"
	}
	c.faults.add(m.file, d.id().at, "%s %s::%s is declared at %s:%d:%d %s", what, m.name, name, moduleOf(was).file.path, at.line, at.column, how)
}

// signature is what a declaration says, without comments and without the order of what has tags or names.
func signature(d declaration) string {
	var parts []string
	switch d := d.(type) {
	case *enum:
		parts = append(parts, "enum")
		for _, v := range d.values {
			text := v.name
			if v.value != nil {
				text += "=" + v.value.String()
			}
			parts = append(parts, text)
		}
		return strings.Join(parts, ",") // a value may follow from the one before it
	case *structure:
		for _, f := range d.members {
			text := fmt.Sprintf("%d %v %s %s[%d]", f.tag, f.require, f.typ, f.name, f.length)
			if f.def != nil {
				text += "=" + f.def.String()
			}
			parts = append(parts, text)
		}
	case *iface:
		for _, f := range d.functions {
			text := []string{"void " + f.name}
			if f.ret != nil {
				text[0] = f.ret.String() + " " + f.name
			}
			for _, p := range f.parameters {
				text = append(text, fmt.Sprintf("%v %v %s %s", p.out, p.routekey, p.typ, p.name))
			}
			parts = append(parts, strings.Join(text, ","))
		}
	}
	slices.Sort(parts)
	return fmt.Sprintf("%T{%s}", d, strings.Join(parts, ";"))
}

// resolve gives every name in the modules its meaning and checks what can only be checked then.
func (c *compiler) resolve() {
	for _, s := range c.order {
		for _, d := range s.decl {
			if e, ok := d.(*enum); ok {
				c.enumerators(e)
			}
		}
	}
	for _, s := range c.order {
		for _, d := range s.decl {
			switch d := d.(type) {
			case *structure:
				c.members(d)
			case *iface:
				c.functions(d)
			}
		}
	}
}

func (c *compiler) enumerators(e *enum) {
	known := map[string]*enumerator{}
	names := make([]string, 0, len(e.values))
	next := int64(0)
	for _, v := range e.values {
		if was := known[v.name]; was != nil {
			c.faults.add(e.module.file, v.at, "enum %s has a value %s already, at line %d", e.name, v.name, was.at.line)
			continue
		}
		switch {
		case v.alias != "":
			was := known[v.alias]
			if was == nil {
				c.faults.add(e.module.file, v.value.at, "enum %s has no value %q before this one%s", e.name, v.alias, schema.DidYouMean(v.alias, names))
				continue
			}
			next = int64(was.number)
			c.warnings.add(e.module.file, v.value.at, "%s is another name for %s (%d): code generated for Node has 0 in its place, and code for C++ does not compile",
				v.name, v.alias, next)
		case v.value != nil:
			d, why := value(v.value, &typ{kind: tarsv1.Type_ENUM, name: e.name})
			if why != "" {
				c.faults.add(e.module.file, v.value.at, "%s", why)
				continue
			}
			next = d.GetInteger()
		case next > 1<<31-1:
			c.faults.add(e.module.file, v.at, "the value of %s would be %d, which does not fit 32 bits", v.name, next)
			continue
		}
		v.number = int32(next)
		next++
		known[v.name] = v
		names = append(names, v.name)
	}
}

// typ resolves the names in a type.
func (c *compiler) typ(m *module, t *typ) {
	if t == nil {
		return
	}
	c.typ(m, t.key)
	c.typ(m, t.elem)
	if t.name == "" {
		return
	}
	in := t.scope
	if in == "" {
		in = m.name
	}
	s := c.modules[in]
	if s == nil {
		modules := make([]string, 0, len(c.order))
		for _, s := range c.order {
			modules = append(modules, s.name)
		}
		c.faults.add(m.file, t.at, "no module %q is declared in this file or those it includes%s", in, schema.DidYouMean(in, modules))
		return
	}
	switch d := s.types[t.name].(type) {
	case *enum:
		t.kind, t.enum = tarsv1.Type_ENUM, d
	case *structure:
		t.strukt = d
	default:
		c.faults.add(m.file, t.at, "type %s is not declared%s", t, c.nearType(s, t))
	}
}

// nearType is what a type that is not declared may have been meant to be.
func (c *compiler) nearType(s *scope, t *typ) string {
	switch t.name {
	case "char":
		return `; TARS has no char: use "byte"`
	case "int8", "int8_t", "uint8", "uint8_t", "int16", "int16_t", "uint16", "uint16_t", "int32", "int32_t", "uint32", "uint32_t", "int64", "int64_t":
		name := strings.TrimSuffix(t.name, "_t")
		word := map[string]string{"8": "byte", "16": "short", "32": "int", "64": "long"}[strings.TrimLeft(name, "uint")]
		if name[0] == 'u' {
			word = "unsigned " + word
		}
		return fmt.Sprintf("; did you mean %q?", word)
	case "uint64", "uint64_t":
		return `; TARS has no unsigned type of 64 bits: use "long"`
	}
	if t.scope == "" {
		for _, other := range c.order {
			if other != s && other.types[t.name] != nil {
				return fmt.Sprintf("; did you mean %q?", other.name+"::"+t.name)
			}
		}
		return schema.DidYouMean(t.name, append(slices.Clone(s.typeIDs), "bool", "byte", "short", "int", "long", "float", "double", "string", "vector", "map", "void"))
	}
	return schema.DidYouMean(t.name, s.typeIDs)
}

func (c *compiler) members(s *structure) {
	f := s.module.file
	if len(s.members) == 0 {
		c.warnings.add(f, s.at, "struct %s has no members: only the code generator for Go takes it", s.name)
	}
	tags, names := map[int]*member{}, map[string]*member{}
	for _, m := range s.members {
		if was := tags[m.tag]; was != nil {
			c.faults.add(f, m.tagAt, "tag %d of member %s is that of member %s already, at line %d", m.tag, m.name, was.name, was.tagAt.line)
		}
		if was := names[m.name]; was != nil {
			c.faults.add(f, m.at, "struct %s has a member %s already, at line %d", s.name, m.name, was.at.line)
		}
		tags[m.tag], names[m.name] = m, m
		c.typ(s.module, m.typ)
		if m.def != nil {
			c.def(s, m)
		}
	}
	slices.SortStableFunc(s.members, func(a, b *member) int { return a.tag - b.tag })
}

// def checks the default of a member and, when it names a value of an enum, puts its number in its place.
func (c *compiler) def(s *structure, m *member) {
	f := s.module.file
	t := m.typ
	switch {
	case t.elem != nil || t.strukt != nil:
		c.faults.add(f, m.def.at, "member %s is a %s, which has no default", m.name, shape(t))
		return
	case t.kind == tarsv1.Type_STRUCT:
		return // not resolved
	case t.enum == nil || m.def.kind == number:
		if _, why := value(m.def, t); why != "" {
			c.faults.add(f, m.def.at, "%s", why)
		}
		return
	case m.def.kind != name:
		c.faults.add(f, m.def.at, "wanted a value of enum %s, found %s", t, m.def)
		return
	}
	l := m.def
	names := make([]string, len(t.enum.values))
	for i, v := range t.enum.values {
		names[i] = v.name
		if v.name == l.text {
			if !enumScope(l.scope, t.enum) {
				c.faults.add(f, l.at, "wanted a value of enum %s::%s, found %s", t.enum.module.name, t.enum.name, l)
				return
			}
			m.def = &literal{at: l.at, kind: number, text: strconv.FormatInt(max(int64(v.number), -int64(v.number)), 10), negative: v.number < 0}
			return
		}
	}
	c.faults.add(f, l.at, "enum %s has no value %q%s", t, l.text, schema.DidYouMean(l.text, names))
}

// enumScope says whether what stands before a value can mean its enum: nothing, the module, the enum or both.
func enumScope(scope []string, e *enum) bool {
	switch len(scope) {
	case 0:
		return true
	case 1:
		return scope[0] == e.module.name || scope[0] == e.name
	default:
		return len(scope) == 2 && scope[0] == e.module.name && scope[1] == e.name
	}
}

func shape(t *typ) string {
	switch {
	case t.mapping():
		return "map"
	case t.vector():
		return "vector"
	}
	return "struct"
}

func (c *compiler) functions(i *iface) {
	f := i.module.file
	names := map[string]*function{}
	for _, fn := range i.functions {
		if was := names[fn.name]; was != nil {
			c.faults.add(f, fn.at, "interface %s has a function %s already, at line %d; functions cannot be overloaded", i.name, fn.name, was.at.line)
		}
		names[fn.name] = fn
		c.typ(i.module, fn.ret)
		if len(fn.parameters) > maxTag {
			c.faults.add(f, fn.at, "function %s has %d parameters, more than the %d that have a tag", fn.name, len(fn.parameters), maxTag)
		}
		params := map[string]*parameter{}
		for _, p := range fn.parameters {
			if params[p.name] != nil {
				c.faults.add(f, p.at, "function %s has a parameter %s already", fn.name, p.name)
			}
			params[p.name] = p
			c.typ(i.module, p.typ)
		}
	}
}

// circles refuses structs that contain themselves without a vector or map in between: no value of them ends.
func (c *compiler) circles() {
	state := map[*structure]readState{}
	var stack []*structure
	var visit func(s *structure)
	visit = func(s *structure) {
		state[s] = reading
		stack = append(stack, s)
		for _, m := range s.members {
			to := m.typ.strukt
			if to == nil || state[to] == done {
				continue
			}
			if state[to] == reading {
				names := make([]string, 0, len(stack))
				for _, s := range stack[slices.Index(stack, to):] {
					names = append(names, s.name)
				}
				c.faults.add(s.module.file, m.typ.at, "struct %s contains itself (%s -> %s): put a vector or map in between", to.name, strings.Join(names, " -> "), to.name)
				continue
			}
			visit(to)
		}
		stack = stack[:len(stack)-1]
		state[s] = done
	}
	for _, s := range c.order {
		for _, d := range s.decl {
			if st, ok := d.(*structure); ok && state[st] == 0 {
				visit(st)
			}
		}
	}
}
