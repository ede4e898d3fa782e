package config

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/anypb"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// reader turns YAML nodes into messages, and notes a place for each value and a fault for all that does not fit.
type reader struct {
	doc        *Document
	types      Types
	newMessage func(protoreflect.MessageDescriptor) (protoreflect.Message, error)
	file       *source
	faults     Faults
	names      map[protoreflect.MessageDescriptor]map[string]protoreflect.FieldDescriptor

	open     []*yaml.Node // aliases being expanded
	expanded int          // nodes read through aliases
	bomb     bool         // more than maxExpanded
}

// linkedMessage makes an empty message of a type that is compiled into this program.
func linkedMessage(md protoreflect.MessageDescriptor) (protoreflect.Message, error) {
	mt, err := protoregistry.GlobalTypes.FindMessageByName(md.FullName())
	if err != nil {
		return nil, err
	}
	return mt.New(), nil
}

func (r *reader) fault(at span, path, format string, args ...any) *Fault {
	f := at.fault(path, prefixed(path, fmt.Sprintf(format, args...)))
	r.faults = append(r.faults, f)
	return f
}

// maxExpanded bounds how many nodes aliases may stand for: a few lines can otherwise ask for billions.
const maxExpanded = 10_000

// resolve follows an alias. nil: a fault was noted. The caller calls leave with the same node when it is done.
func (r *reader) resolve(n *yaml.Node, at *place) *yaml.Node {
	if len(r.open) > 0 {
		r.expanded++
	}
	switch {
	case r.expanded > maxExpanded:
		if !r.bomb {
			r.fault(spanOf(r.file, r.open[0]), at.path(), "aliases stand for more than %d values", maxExpanded).
				WithFix("write the values out where they are used")
		}
		r.bomb, r.doc.root.failed = true, true
		at.failed = true
		return nil
	case n.Kind == yaml.AliasNode:
		if slices.ContainsFunc(r.open, func(o *yaml.Node) bool { return o.Alias == n.Alias }) {
			r.fault(spanOf(r.file, n), at.path(), "the alias *%s stands for something that contains it", n.Value).
				WithFix("write the value out")
			at.failed = true
			return nil
		}
		r.open = append(r.open, n)
		return n.Alias
	case n.Style&yaml.TaggedStyle != 0:
		r.fault(spanOf(r.file, n), at.path(), "the tag %s is not taken", n.Tag).
			WithFix("remove the tag; quote the value if it is text")
		at.failed = true
		return nil
	}
	return n
}

func (r *reader) leave(n *yaml.Node) {
	if n.Kind == yaml.AliasNode && len(r.open) > 0 && r.open[len(r.open)-1] == n {
		r.open = r.open[:len(r.open)-1]
	}
}

// message reads a node into m, whose place is at. Fields are merged into what m holds: lists grow (fragments).
func (r *reader) message(n *yaml.Node, m protoreflect.Message, at *place) bool {
	target := r.resolve(n, at)
	defer r.leave(n)
	if target == nil {
		return false
	}
	md := m.Descriptor()
	if handled, ok := r.wellKnown(target, m, at); handled {
		return ok
	}
	if target.Kind != yaml.MappingNode {
		r.wanted(target, at, "a mapping").
			WithFix("write it as a mapping; its keys are: " + list(keysOf(md)))
		return false
	}
	if at.file == nil {
		at.span = spanOf(r.file, target)
	}
	f := fields{r: r, m: m, at: at, byName: r.namesOf(md)}
	ok := true
	for i := 0; i+1 < len(target.Content); i += 2 {
		ok = f.read(target.Content[i], target.Content[i+1]) && ok
	}
	if f.anyNode != nil {
		ok = r.settings(f.anyKey, f.anyNode, m, at) && ok
	}
	return ok
}

// wanted notes that a node is of the wrong kind.
func (r *reader) wanted(n *yaml.Node, at *place, what string) *Fault {
	at.failed = true
	return r.fault(at.where(), at.path(), "wanted %s, found %s", what, shape(n, false))
}

// fields reads the entries of one mapping.
type fields struct {
	r      *reader
	m      protoreflect.Message
	at     *place
	byName map[string]protoreflect.FieldDescriptor
	keys   map[protoreflect.FieldNumber]*yaml.Node

	anyKey, anyNode *yaml.Node // settings: read when the name that they are of is known
}

func (f *fields) read(key, value *yaml.Node) bool {
	r, md := f.r, f.m.Descriptor()
	if key.Kind != yaml.ScalarNode || key.Style&yaml.TaggedStyle != 0 {
		r.fault(spanOf(r.file, key), f.at.path(), "a key must be a plain word").
			WithFix("keys here are: " + list(keysOf(md)))
		f.at.failed = true
		return false
	}
	if key.Value == "<<" && key.Style == 0 {
		r.fault(spanOf(r.file, key), f.at.path(), "merge keys (<<) are not taken").
			WithFix("write the keys out, or give a whole value an &anchor and use it as *alias")
		f.at.failed = true
		return false
	}
	fd := f.byName[key.Value]
	if fd == nil {
		f.unknown(key)
		return false
	}
	if f.keys == nil {
		f.keys = map[protoreflect.FieldNumber]*yaml.Node{}
	}
	if first := f.keys[fd.Number()]; first != nil {
		fault := r.fault(spanOf(r.file, key), f.at.path(), "the key %q stands twice, first in line %d", key.Value, first.Line).
			WithFix("keep one of the two")
		if first.Value != key.Value {
			fault.Message = prefixed(f.at.path(), fmt.Sprintf("%q and %q are the same key, first in line %d", key.Value, first.Value, first.Line))
		}
		return false
	}
	if od := fd.ContainingOneof(); od != nil && !od.IsSynthetic() {
		if set := f.m.WhichOneof(od); set != nil {
			r.fault(spanOf(r.file, key), f.at.path(), "%q and %q exclude each other, and both are set", string(set.Name()), key.Value).
				WithFix("keep one of " + list(oneofKeys(od)))
			return false
		}
	}
	f.keys[fd.Number()] = key
	return f.value(fd, key, value)
}

// value reads the value of a known field.
func (f *fields) value(fd protoreflect.FieldDescriptor, key, value *yaml.Node) bool {
	r := f.r
	name := string(fd.Name())
	if fd.Message() != nil && fd.Message().FullName() == "google.protobuf.Any" && named(f.m.Descriptor()) {
		f.anyKey, f.anyNode = key, value
		return true
	}
	kid := f.at.kid(name)
	secret := isSecret(fd)
	switch {
	case kid == nil:
		kid = f.at.child(name, -1, valueSpan(r.file, key, value))
	case kid.file == nil: // guessed for a misspelt key
		kid.span = valueSpan(r.file, key, value)
	case !fd.IsList(): // in another fragment; lists are joined
		other := kid.where()
		r.fault(spanOf(r.file, key), kid.path(), "set in two fragments, first at %s", other).
			WithFix("keep it in one fragment; only lists are joined")
		return false
	}
	if isNull(value) && !(fd.Message() != nil && fd.Message().FullName() == "google.protobuf.Value") {
		if fd.IsList() || fd.IsMap() || wraps(fd) { // all its elements commented out; a scalar that may be null
			return true
		}
		kid.failed = true
		fix := "write a value, or remove the key"
		if fd.Message() != nil && fd.Message().Fields().Len() == 0 {
			fix = "write `" + name + ": {}`, or remove the key"
		}
		r.fault(kid.where(), kid.path(), "wanted %s, found nothing", kindName(fd)).WithFix(fix)
		return false
	}
	kid.secret = secret
	switch {
	case fd.IsMap():
		return r.mapField(value, f.m.Mutable(fd).Map(), fd, kid)
	case fd.IsList():
		return r.list(value, f.m.Mutable(fd).List(), fd, kid)
	case fd.Message() != nil:
		m := f.m.NewField(fd).Message()
		ok := r.message(value, m, kid)
		f.m.Set(fd, protoreflect.ValueOfMessage(m))
		return ok
	}
	v, ok := r.scalar(value, fd, kid)
	if ok {
		f.m.Set(fd, v)
	}
	if ok && secret {
		r.doc.hide(v.String())
	}
	return ok
}

// isSecret tells whether a field's value is secret however it is written: it is marked debug_redact in its .proto file.
func isSecret(fd protoreflect.FieldDescriptor) bool {
	o, ok := fd.Options().(*descriptorpb.FieldOptions)
	return ok && o.GetDebugRedact()
}

// unknown notes a key that the message does not have. What it was probably meant to be is not reported as missing.
func (f *fields) unknown(key *yaml.Node) {
	r, md := f.r, f.m.Descriptor()
	names := keysOf(md)
	where := "at the top"
	if p := f.at.path(); p != "" {
		where = "in " + p
	}
	near := schema.Nearest(key.Value, names)
	at := spanOf(r.file, key)
	fault := at.fault(f.at.path(), fmt.Sprintf("unknown key %q %s%s", abridge(key.Value), where, schema.DidYouMean(key.Value, names)))
	switch {
	case near != "":
		fault.Fix = "rename the key; keys here are: " + list(names)
		if f.at.kid(near) == nil {
			f.at.child(near, -1, span{}).failed = true
		}
	case key.Value == "@type" && (strings.HasSuffix(fault.Path, ".config") || strings.HasSuffix(fault.Path, ".options")):
		fault.Fix = "remove the key; the name beside it says what it is"
	case len(names) == 0:
		fault.Fix = "remove the key; there are no keys here"
	default:
		fault.Fix = "remove the key; keys here are: " + list(names)
	}
	if fd := f.byName[near]; fd != nil && isSecret(fd) { // its value is the secret, most likely
		rest := r.file.from(at.line, at.column)
		fault.Source = strings.TrimSuffix(r.file.line(at.line), rest) + key.Value + ": " + mask
	}
	r.faults = append(r.faults, fault)
}

// list appends a sequence's elements.
func (r *reader) list(n *yaml.Node, to protoreflect.List, fd protoreflect.FieldDescriptor, at *place) bool {
	target := r.resolve(n, at)
	defer r.leave(n)
	if target == nil {
		return false
	}
	if target.Kind != yaml.SequenceNode {
		f := r.wanted(target, at, "a list")
		switch {
		case target.Kind == yaml.ScalarNode:
			f.WithFix("write it as a list: [" + abridge(target.Value) + "]")
		case fd.Message() != nil:
			f.WithFix("put a `- ` before the first key and indent the others under it")
		default:
			f.WithFix("write each element on a line of its own after `- `")
		}
		return false
	}
	good := true
	for _, e := range target.Content {
		if r.bomb {
			return false
		}
		kid := at.child("", to.Len(), elementSpan(r.file, e))
		var v protoreflect.Value
		var ok bool
		switch {
		case isNull(e) && (fd.Message() == nil || fd.Message().FullName() != "google.protobuf.Value"):
			kid.failed = true
			r.fault(kid.where(), kid.path(), "wanted %s, found nothing", elementName(fd)).WithFix("write a value after `- `, or remove the line")
		case fd.Message() != nil:
			m := to.NewElement()
			ok = r.message(e, m.Message(), kid)
			v = m
		default:
			kid.secret = at.secret
			if v, ok = r.scalar(e, fd, kid); ok && at.secret {
				r.doc.hide(v.String())
			}
		}
		if !v.IsValid() { // keep the indexes: checks of what was read go on
			v = to.NewElement()
		}
		if !ok {
			good = false
		}
		to.Append(v)
	}
	return good
}

// mapField reads a mapping into a map field.
func (r *reader) mapField(n *yaml.Node, to protoreflect.Map, fd protoreflect.FieldDescriptor, at *place) bool {
	target := r.resolve(n, at)
	defer r.leave(n)
	if target == nil {
		return false
	}
	if target.Kind != yaml.MappingNode {
		r.wanted(target, at, "a mapping").WithFix("write `key: value` lines")
		return false
	}
	good := true
	for i := 0; i+1 < len(target.Content); i += 2 {
		key, value := target.Content[i], target.Content[i+1]
		kid := at.child("["+strconv.Quote(key.Value)+"]", -1, valueSpan(r.file, key, value))
		if key.Kind != yaml.ScalarNode || key.Style&yaml.TaggedStyle != 0 || key.Value == "<<" && key.Style == 0 {
			r.fault(spanOf(r.file, key), at.path(), "wanted a plain key, found %s", shape(key, false)).WithFix("write the keys out")
			good = false
			continue
		}
		k, bad := convertKey(fd.MapKey(), key.Value)
		if bad != nil {
			r.fault(spanOf(r.file, key), at.path(), "%s", bad.message).WithFix(bad.fix)
			good = false
			continue
		}
		if to.Has(k) {
			r.fault(spanOf(r.file, key), at.path(), "the key %q stands twice", key.Value).WithFix("keep one of the two")
			good = false
			continue
		}
		if vd := fd.MapValue(); vd.Message() != nil {
			v := to.NewValue()
			good = r.message(value, v.Message(), kid) && good
			to.Set(k, v)
			continue
		}
		kid.secret = at.secret
		v, ok := r.scalar(value, fd.MapValue(), kid)
		if !ok {
			good = false
			continue
		}
		to.Set(k, v)
		if at.secret {
			r.doc.hide(v.String())
		}
	}
	return good
}

// The messages that have settings of a type that a name beside them stands for.
var (
	pluginName     = (*configv1.Plugin)(nil).ProtoReflect().Descriptor().FullName()
	credentialName = (*configv1.Credential)(nil).ProtoReflect().Descriptor().FullName()
	serviceName    = (*configv1.Service)(nil).ProtoReflect().Descriptor().FullName()
	listenerName   = (*configv1.Listener)(nil).ProtoReflect().Descriptor().FullName()
)

func named(md protoreflect.MessageDescriptor) bool {
	switch md.FullName() {
	case pluginName, credentialName, serviceName, listenerName:
		return true
	}
	return false
}

// settings reads what a plugin, a credential, a service's adapter or a listener's protocol is told as the message that its
// name stands for. An unknown name is reported by the check of names.
func (r *reader) settings(key, n *yaml.Node, m protoreflect.Message, at *place) bool {
	if isNull(n) { // all its keys commented out
		return true
	}
	var name, field string
	var known Messages
	var to **anypb.Any
	switch p := m.Interface().(type) {
	case *configv1.Plugin:
		name, field, known, to = p.GetName(), "config", r.types.Plugins, &p.Config
	case *configv1.Credential:
		name, field, known, to = p.GetPlugin(), "config", r.types.Credentials, &p.Config
	case *configv1.Service:
		name, field, known, to = cmp.Or(p.GetAdapter(), defaultAdapter), "options", r.types.Adapters, &p.Options
	case *configv1.Listener:
		name, field, known, to = cmp.Or(p.GetProtocol(), defaultProtocol), "options", r.types.Protocols, &p.Options
	}
	kid := at.child(field, -1, valueSpan(r.file, key, n))
	md, ok := known[name]
	if !ok {
		return true
	}
	if md == nil {
		r.fault(kid.where(), kid.path(), "%s takes no options", name).WithFix("remove the key")
		return false
	}
	c, err := r.newMessage(md)
	if err != nil {
		r.fault(kid.where(), kid.path(), "the settings of %s cannot be made: %v", name, err)
		return false
	}
	if !r.message(n, c, kid) {
		return false
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(c.Interface())
	if err != nil {
		r.fault(kid.where(), kid.path(), "the settings cannot be encoded: %v", err)
		return false
	}
	*to = &anypb.Any{TypeUrl: "type.googleapis.com/" + string(md.FullName()), Value: b}
	return true
}

// valueSpan marks a scalar itself, and the key of everything else.
func valueSpan(src *source, key, value *yaml.Node) span {
	if value.Kind == yaml.AliasNode || value.Kind == yaml.ScalarNode && !(value.Value == "" && value.Style == 0) {
		at := spanOf(src, value)
		if value.Kind == yaml.AliasNode {
			at.width = len(value.Value) + 1
		}
		return at
	}
	return spanOf(src, key)
}

func elementSpan(src *source, n *yaml.Node) span {
	at := spanOf(src, n)
	if n.Kind == yaml.ScalarNode && n.Value == "" && n.Style == 0 { // `- ` with nothing after it: the parser points behind it
		if dash := strings.LastIndexByte(src.line(at.line), '-'); dash >= 0 {
			at.column, at.width = dash+1, 1
		}
	}
	return at
}

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Style&yaml.TaggedStyle == 0 && n.ShortTag() == "!!null"
}

// namesOf gives a message's fields under their declared and their JSON names.
func (r *reader) namesOf(md protoreflect.MessageDescriptor) map[string]protoreflect.FieldDescriptor {
	if names := r.names[md]; names != nil {
		return names
	}
	fds := md.Fields()
	names := make(map[string]protoreflect.FieldDescriptor, 2*fds.Len())
	for i := range fds.Len() {
		names[fds.Get(i).JSONName()] = fds.Get(i)
	}
	for i := range fds.Len() {
		names[string(fds.Get(i).Name())] = fds.Get(i)
	}
	if r.names == nil {
		r.names = map[protoreflect.MessageDescriptor]map[string]protoreflect.FieldDescriptor{}
	}
	r.names[md] = names
	return names
}

// keysOf lists a message's fields in declared order.
func keysOf(md protoreflect.MessageDescriptor) []string {
	out := make([]string, md.Fields().Len())
	for i := range out {
		out[i] = string(md.Fields().Get(i).Name())
	}
	return out
}

func oneofKeys(od protoreflect.OneofDescriptor) []string {
	out := make([]string, od.Fields().Len())
	for i := range out {
		out[i] = string(od.Fields().Get(i).Name())
	}
	return out
}

func list(names []string) string {
	const most = 30
	if len(names) > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}
