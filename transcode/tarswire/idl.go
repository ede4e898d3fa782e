package tarswire

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	tarsv1 "github.com/causeway-gateway/causeway/protos/causeway/tars/v1"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// IDL writes the TARS IDL of the natural form of services, see Compiler.Natural, from which TARS clients are generated. A
// module is a package with _ for its dots, what is declared inside a message has the message's name before it, and what would
// be a keyword has a _ behind it. A method without such a form is a comment that says why. Services that were compiled from
// TARS IDL are left out: they have theirs.
func IDL(services []*schema.Service) []byte {
	w := &idlWriter{done: map[protoreflect.FullName]bool{}}
	for _, s := range services {
		if _, ok := extension[*tarsv1.Interface](s.Desc.Options(), tarsv1.E_Interface); !ok && len(s.Methods) > 0 {
			w.service(s)
		}
	}
	w.open("")
	return []byte(w.out.String())
}

type idlWriter struct {
	out    strings.Builder
	module string // that is open
	done   map[protoreflect.FullName]bool
}

// open begins a module, unless it is open.
func (w *idlWriter) open(module string) {
	if module == w.module {
		return
	}
	if w.module != "" {
		w.out.WriteString("};\n")
	}
	if module != "" {
		if w.out.Len() > 0 {
			w.out.WriteString("\n")
		}
		fmt.Fprintf(&w.out, "module %s\n{\n", module)
	}
	w.module = module
}

func (w *idlWriter) service(s *schema.Service) {
	var c Compiler
	var lines []string
	for _, m := range s.Methods {
		name := string(m.Desc.Name())
		if f, err := c.Natural(m); err != nil {
			lines = append(lines, fmt.Sprintf("        // %s is not there: %s", name, err))
		} else {
			w.message(f.In.Schema)
			w.message(f.Out.Schema)
			lines = append(lines, fmt.Sprintf("        %s %s(%s %s);", w.name(m.Output.Desc, s.Desc), word(name), w.name(m.Input.Desc, s.Desc), NaturalParameter))
		}
	}
	w.open(moduleOf(s.Desc))
	fmt.Fprintf(&w.out, "    interface %s\n    {\n%s\n    };\n", word(string(s.Desc.Name())), strings.Join(lines, "\n"))
}

// message writes a struct, after what it is made of.
func (w *idlWriter) message(m *schema.Message) {
	if w.done[m.Desc.FullName()] {
		return
	}
	w.done[m.Desc.FullName()] = true
	fields := slices.DeleteFunc(slices.Clone(m.Fields), func(f *schema.Field) bool { return f.Desc.IsExtension() })
	slices.SortFunc(fields, func(a, b *schema.Field) int { return int(a.Number) - int(b.Number) })
	for _, f := range fields {
		if f.Message != nil {
			w.message(f.Message)
		}
		if f.Enum != nil {
			w.enum(f.Enum)
		}
	}
	w.open(moduleOf(m.Desc))
	fmt.Fprintf(&w.out, "    struct %s\n    {\n", local(m.Desc))
	for _, f := range fields {
		need := "optional"
		if f.Required {
			need = "require"
		}
		note := ""
		if f.Oneof >= 0 {
			note = " // one of " + m.Oneofs[f.Oneof].Name
		}
		fmt.Fprintf(&w.out, "        %d %s %s %s;%s\n", f.Number-1, need, w.fieldType(f), word(f.Name), note)
	}
	w.out.WriteString("    };\n")
}

func (w *idlWriter) enum(e *schema.Enum) {
	if w.done[e.Desc.FullName()] {
		return
	}
	w.done[e.Desc.FullName()] = true
	w.open(moduleOf(e.Desc))
	fmt.Fprintf(&w.out, "    enum %s\n    {\n", local(e.Desc))
	scope := strings.TrimSuffix(local(e.Desc), word(string(e.Desc.Name())))
	values := e.Desc.Values()
	for i := range values.Len() {
		comma := ","
		if i == values.Len()-1 {
			comma = ""
		}
		fmt.Fprintf(&w.out, "        %s = %d%s\n", word(scope+string(values.Get(i).Name())), values.Get(i).Number(), comma)
	}
	w.out.WriteString("    };\n")
}

func (w *idlWriter) fieldType(f *schema.Field) string {
	switch f.Cardinality {
	case schema.Map:
		return "map<" + w.valueType(f.MapKey, f) + ", " + closed(w.valueType(f.MapValue, f)) + ">"
	case schema.Repeated:
		return "vector<" + closed(w.valueType(f, f)) + ">"
	}
	return w.valueType(f, f)
}

// closed keeps two closing brackets apart, which older generators want.
func closed(t string) string {
	if strings.HasSuffix(t, ">") {
		return t + " "
	}
	return t
}

var idlTypes = map[tarsv1.Type]string{
	tarsv1.Type_BOOL: "bool", tarsv1.Type_INT: "int", tarsv1.Type_LONG: "long", tarsv1.Type_UNSIGNED_INT: "unsigned int", tarsv1.Type_FLOAT: "float",
	tarsv1.Type_DOUBLE: "double", tarsv1.Type_STRING: "string", tarsv1.Type_BYTES: "vector<byte>",
}

// valueType is the type of one value of in, or of a key or value of it.
func (w *idlWriter) valueType(f, in *schema.Field) string {
	switch t := naturalType(f); t {
	case tarsv1.Type_STRUCT:
		return w.name(f.Desc.Message(), in.Parent.Desc)
	case tarsv1.Type_ENUM:
		return w.name(f.Desc.Enum(), in.Parent.Desc)
	default:
		return idlTypes[t]
	}
}

// name is the name of a type where from stands.
func (w *idlWriter) name(d, from protoreflect.Descriptor) string {
	if m := moduleOf(d); m != moduleOf(from) {
		return m + "::" + local(d)
	}
	return local(d)
}

func moduleOf(d protoreflect.Descriptor) string {
	pkg := string(d.ParentFile().Package())
	if pkg == "" {
		return "proto"
	}
	return word(strings.ReplaceAll(pkg, ".", "_"))
}

// local is the name of a type in its module.
func local(d protoreflect.Descriptor) string {
	name := string(d.FullName())
	if pkg := string(d.ParentFile().Package()); pkg != "" {
		name = strings.TrimPrefix(name, pkg+".")
	}
	return word(strings.ReplaceAll(name, ".", "_"))
}

// keywords cannot be names.
var keywords = []string{
	"void", "struct", "bool", "byte", "short", "int", "double", "float", "long", "string", "vector", "map", "key", "routekey", "module",
	"interface", "out", "require", "optional", "false", "true", "enum", "const", "unsigned",
}

func word(name string) string {
	if slices.Contains(keywords, name) {
		return name + "_"
	}
	return name
}
