package jsonwire_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	tarsv1 "github.com/causeway-gateway/causeway/protos/causeway/tars/v1"
	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// The oracle for messages of TARS is protojson, too: JSON as users of TARS know it is turned, over a tree and by the
// descriptors' options, into what protojson takes, and what protojson writes into what they know.

// node is a value of JSON with the order of its members, of which two may have one name.
type node struct {
	kind byte   // '{', '[', '"', or '0' for all else
	text string // of strings, decoded, and literals
	keys []string
	kids []*node
}

// readNode reads JSON text; nothing may follow.
func readNode(text []byte) (*node, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	n, err := nextNode(d)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something follows")
	}
	return n, nil
}

func nextNode(d *json.Decoder) (*node, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case json.Delim:
		n := &node{kind: byte(t)}
		if t != '{' && t != '[' {
			return nil, errors.New("wanted a value")
		}
		for d.More() {
			if t == '{' {
				key, err := d.Token()
				if err != nil {
					return nil, err
				}
				n.keys = append(n.keys, key.(string))
			}
			kid, err := nextNode(d)
			if err != nil {
				return nil, err
			}
			n.kids = append(n.kids, kid)
		}
		_, err := d.Token()
		return n, err
	case string:
		return &node{kind: '"', text: t}, nil
	case nil:
		return literal("null"), nil
	default:
		return literal(fmt.Sprint(t)), nil
	}
}

func literal(text string) *node       { return &node{kind: '0', text: text} }
func textNode(text string) *node      { return &node{kind: '"', text: text} }
func (n *node) null() bool            { return n.kind == '0' && n.text == "null" }
func list(kids ...*node) *node        { return &node{kind: '[', kids: kids} }
func (n *node) add(k string, v *node) { n.keys, n.kids = append(n.keys, k), append(n.kids, v) }

func (n *node) String() string { return string(n.append(nil)) }

func (n *node) append(b []byte) []byte {
	switch n.kind {
	case '"':
		return jsonwire.AppendString(b, n.text)
	case '0':
		return append(b, n.text...)
	}
	b = append(b, n.kind)
	for i, kid := range n.kids {
		if i > 0 {
			b = append(b, ',')
		}
		if n.kind == '{' {
			b = append(jsonwire.AppendString(b, n.keys[i]), ':')
		}
		b = kid.append(b)
	}
	return append(b, n.kind+2)
}

// kindOf is what a message is in TARS.
func kindOf(md protoreflect.MessageDescriptor) tarsv1.Struct_Kind {
	s, _ := proto.GetExtension(md.Options(), tarsv1.E_Struct).(*tarsv1.Struct)
	return s.GetKind()
}

// returnOf is the return value among the fields of an answer when it is known as tars_ret, or nil.
func returnOf(md protoreflect.MessageDescriptor) protoreflect.FieldDescriptor {
	if kindOf(md) != tarsv1.Struct_RESPONSE || md.Fields().ByName("tars_ret") != nil {
		return nil
	}
	return md.Fields().ByNumber(1)
}

// toProto turns the JSON of a message of TARS into that of protobuf.
type toProto struct {
	inKey bool
	err   error
}

func (x *toProto) message(md protoreflect.MessageDescriptor, n *node) *node {
	switch {
	case kindOf(md) == tarsv1.Struct_WRAPPER && n.null():
		return &node{kind: '{'}
	case kindOf(md) == tarsv1.Struct_WRAPPER:
		out := &node{kind: '{'}
		out.add("items", x.field(md.Fields().Get(0), n))
		return out
	case n.kind != '{':
		return n
	}
	out := &node{kind: '{'}
	for i, key := range n.keys {
		fd := md.Fields().ByJSONName(key)
		if fd == nil {
			fd = md.Fields().ByTextName(key)
		}
		if fd == nil && key == "tars_ret" {
			if fd = returnOf(md); fd != nil {
				key = fd.JSONName()
			}
		}
		kid := n.kids[i]
		if fd != nil && !kid.null() {
			kid = x.field(fd, kid)
		}
		out.add(key, kid)
	}
	return out
}

func (x *toProto) field(fd protoreflect.FieldDescriptor, n *node) *node {
	switch {
	case n.null() && (fd.IsMap() || fd.IsList()):
		x.err = errors.New("null for the content of a vector or map")
		return n
	case fd.IsMap() && n.kind == '{':
		out := &node{kind: '{'}
		for i, key := range n.keys {
			if fd.MapKey().Kind() == protoreflect.BoolKind {
				key = map[string]string{"1": "true", "0": "false", "true": "true", "false": "false"}[key]
			}
			out.add(key, x.single(fd.MapValue(), n.kids[i]))
		}
		return out
	case fd.IsMap():
		return n
	case fd.IsList() && n.kind == '[':
		out := list()
		for _, kid := range n.kids {
			out.kids = append(out.kids, x.single(fd, kid))
		}
		return out
	case fd.IsList() && n.kind == '{' && fd.Message() != nil && kindOf(fd.Message()) == tarsv1.Struct_ENTRY:
		out := list()
		for i, key := range n.keys {
			entry := &node{kind: '{'}
			entry.add("key", x.key(fd.Message().Fields().ByNumber(1), key))
			if value := n.kids[i]; !value.null() {
				entry.add("value", x.field(fd.Message().Fields().ByNumber(2), value))
			}
			out.kids = append(out.kids, entry)
		}
		return out
	case fd.IsList():
		return n
	}
	return x.single(fd, n)
}

// key is a key from the name of a member.
func (x *toProto) key(fd protoreflect.FieldDescriptor, text string) *node {
	number := text != "" && (text[0] == '-' || '0' <= text[0] && text[0] <= '9')
	asJSON := fd.IsList() || fd.IsMap()
	switch fd.Kind() {
	case protoreflect.BoolKind:
		if v, ok := map[string]string{"1": "true", "0": "false", "true": "true", "false": "false"}[text]; ok && !asJSON {
			return literal(v)
		}
	case protoreflect.MessageKind:
		asJSON = true
	case protoreflect.BytesKind:
		asJSON = asJSON || strings.HasPrefix(text, "[")
	case protoreflect.EnumKind:
		asJSON = asJSON || number
	}
	if !asJSON {
		return x.single(fd, textNode(text))
	}
	n, err := readNode([]byte(text))
	if err != nil || x.inKey || n.null() {
		x.err = fmt.Errorf("the key %q is no value, or it is inside another key", text)
		return textNode(text)
	}
	x.inKey = true
	defer func() { x.inKey = false }()
	return x.field(fd, n)
}

// single is one value.
func (x *toProto) single(fd protoreflect.FieldDescriptor, n *node) *node {
	switch {
	case fd.Kind() == protoreflect.BytesKind && n.null():
		return textNode("")
	case fd.Kind() == protoreflect.BytesKind && n.kind == '[':
		raw := []byte{}
		for _, kid := range n.kids {
			v, err := strconv.ParseFloat(kid.text, 64)
			if kid.kind != '0' || err != nil || v != float64(int(v)) || v < -128 || v > 255 {
				return n
			}
			raw = append(raw, byte(int(v)))
		}
		return textNode(base64.StdEncoding.EncodeToString(raw))
	case fd.Kind() == protoreflect.EnumKind && n.kind == '"' && fd.Enum().Values().ByName(protoreflect.Name(n.text)) == nil:
		for i := range fd.Enum().Values().Len() {
			v := fd.Enum().Values().Get(i)
			if o, _ := proto.GetExtension(v.Options(), tarsv1.E_Enumerator).(*tarsv1.Enumerator); n.text != "" && o.GetName() == n.text {
				return textNode(string(v.Name()))
			}
		}
	case fd.Message() != nil:
		return x.message(fd.Message(), n)
	}
	return n
}

// tarsParse is what the oracle makes of JSON.
func (w *world) tarsParse(m *schema.Message, in []byte, ignoreUnknown bool) (proto.Message, error) {
	n, err := readNode(in)
	if err != nil {
		return nil, err
	}
	var x toProto
	n = x.message(m.Desc, n)
	if x.err != nil {
		return nil, x.err
	}
	return w.oracleParse(m, n.append(nil), ignoreUnknown)
}

// fromProto turns the JSON of protobuf into that of a message of TARS.
type fromProto struct {
	w    *world
	ours *jsonwire.Options
	opts protojson.MarshalOptions
}

func (x *fromProto) message(md protoreflect.MessageDescriptor, n *node) *node {
	fields := md.Fields()
	kind := kindOf(md)
	if x.ours.Protobuf {
		kind = tarsv1.Struct_STRUCT
	}
	if kind == tarsv1.Struct_WRAPPER || kind == tarsv1.Struct_ENTRY {
		for i := range fields.Len() {
			if fd := fields.Get(i); !slices.Contains(n.keys, fd.JSONName()) {
				n.add(fd.JSONName(), x.zero(fd))
			}
		}
	}
	if kind == tarsv1.Struct_WRAPPER {
		return x.field(fields.Get(0), n.kids[0])
	}
	out := &node{kind: '{'}
	for i := range fields.Len() { // an entry has its value first when the key is zero
		fd := fields.Get(i)
		at := slices.Index(n.keys, fd.JSONName())
		if at < 0 {
			continue
		}
		name := fd.JSONName()
		if x.ours.TarsReturn && fd == returnOf(md) {
			name = "tars_ret"
		}
		out.add(name, x.field(fd, n.kids[at]))
	}
	return out
}

// zero is what protojson writes of a field that is not set.
func (x *fromProto) zero(fd protoreflect.FieldDescriptor) *node {
	switch {
	case fd.IsMap():
		return &node{kind: '{'}
	case fd.IsList():
		return list()
	case fd.Message() != nil:
		text, err := x.opts.Marshal(dynamicpb.NewMessage(fd.Message()))
		n, err2 := readNode(text)
		if err != nil || err2 != nil {
			return textNode("not to be written")
		}
		return n
	}
	opts := x.opts
	opts.EmitDefaultValues = true
	text, err := opts.Marshal(dynamicpb.NewMessage(fd.ContainingMessage()))
	n, err2 := readNode(text)
	if err != nil || err2 != nil {
		return textNode("not to be written")
	}
	return n.kids[slices.Index(n.keys, fd.JSONName())]
}

func (x *fromProto) field(fd protoreflect.FieldDescriptor, n *node) *node {
	if !fd.IsMap() && !fd.IsList() {
		return x.single(fd, n)
	}
	out := &node{kind: n.kind, keys: n.keys}
	if fd.IsMap() {
		fd = fd.MapValue()
	}
	for _, kid := range n.kids {
		out.kids = append(out.kids, x.single(fd, kid))
	}
	return out
}

func (x *fromProto) single(fd protoreflect.FieldDescriptor, n *node) *node {
	switch {
	case fd.Message() != nil:
		return x.message(fd.Message(), n)
	case fd.Kind() == protoreflect.BytesKind && x.ours.BytesAsArray:
		raw, err := base64.StdEncoding.DecodeString(n.text)
		if err != nil {
			return n
		}
		out := list()
		for _, c := range raw {
			out.kids = append(out.kids, literal(strconv.Itoa(int(int8(c)))))
		}
		return out
	case fd.Kind() == protoreflect.Int64Kind && x.ours.Int64Numbers:
		return literal(n.text)
	}
	return n
}

// tarsOptions are options by their bits.
func tarsOptions(flags byte) jsonwire.Options {
	return jsonwire.Options{
		EmitUnpopulated: flags&1 != 0, EnumNumbers: flags&2 != 0, Int64Numbers: flags&4 != 0, BytesAsArray: flags&8 != 0, TarsReturn: flags&16 != 0,
		ProtoNames: flags&32 != 0, Protobuf: flags&64 != 0,
	}
}

// tarsJSON is what the oracle writes.
func (w *world) tarsJSON(m *schema.Message, wire []byte, o *jsonwire.Options) ([]byte, error) {
	opts := protojson.MarshalOptions{Resolver: w.types, EmitDefaultValues: o.EmitUnpopulated, UseEnumNumbers: o.EnumNumbers}
	text, err := w.oracleJSON(m, wire, opts)
	if err != nil {
		return nil, err
	}
	n, err := readNode(text)
	if err != nil {
		return nil, err
	}
	x := fromProto{w, o, opts}
	return x.message(m.Desc, n).append(nil), nil
}

// diffProtobuf holds what is read with Options.Protobuf against protojson as it is: what that takes must be taken, and be the same.
func (w *world) diffProtobuf(m *schema.Message, in []byte) error {
	want, err := w.oracleParse(m, in, false)
	if err != nil {
		return nil // more is taken than that
	}
	wire, err := jsonwire.AppendWire(nil, in, m, &jsonwire.Options{Protobuf: true})
	if err != nil {
		if permittedBy(jsonDifferences, in, err, nil) != nil {
			return nil
		}
		return fmt.Errorf("as in protobuf: %s %q: %w", m.Name, in, err)
	}
	got, err := w.oracleDecode(m, wire)
	if err != nil {
		return err
	}
	if a, b := w.canonical(got), w.canonical(want); !bytes.Equal(a, b) {
		return fmt.Errorf("as in protobuf: %s %q\n got %v\nwant %v", m.Name, in, got, want)
	}
	return nil
}

// diffTarsJSON is diffJSON for messages of TARS.
func (w *world) diffTarsJSON(m *schema.Message, in []byte, ignoreUnknown bool) error {
	if err := w.diffProtobuf(m, in); err != nil {
		return err
	}
	before := bytes.Clone(in)
	dst, ours := w.codec.toWire([]byte(prefix), in, m, &jsonwire.Options{IgnoreUnknown: ignoreUnknown})
	if err := errors.Join(touched(dst, in, before), poor(ours, true)); err != nil {
		return err
	}
	want, theirs := w.tarsParse(m, in, ignoreUnknown)
	w.tally.mu.Lock()
	w.tally.texts++
	w.tally.mu.Unlock()
	if taken, err := w.tally.decide(tarsDifferences, in, ours, theirs); !taken {
		return err
	}
	got := dynamicpb.NewMessage(m.Desc)
	if err := proto.Unmarshal(dst[len(prefix):], got); err != nil {
		return fmt.Errorf("the wire form of %q is broken: %w", in, err)
	}
	if a, b := w.canonical(got), w.canonical(want); !bytes.Equal(a, b) {
		return fmt.Errorf("%s %q\n got %v\nwant %v\n got %x\nwant %x", m.Name, in, got, want, a, b)
	}
	return nil
}

// diffTarsWire is diffWire for messages of TARS; the bytes must be the same.
func (w *world) diffTarsWire(m *schema.Message, in []byte, flags byte) error {
	o := tarsOptions(flags)
	before := bytes.Clone(in)
	dst, ours := w.codec.toJSON([]byte(prefix), in, m, &o)
	if err := errors.Join(touched(dst, in, before), poor(ours, false)); err != nil {
		return err
	}
	want, theirs := w.tarsJSON(m, in, &o)
	w.tally.mu.Lock()
	w.tally.messages++
	w.tally.mu.Unlock()
	if taken, err := w.tally.decide(wireDifferences, in, ours, theirs); !taken {
		return err
	}
	if got := string(dst[len(prefix):]); got != string(want) {
		return fmt.Errorf("%s %x\n got %s\nwant %s", m.Name, in, got, want)
	}
	return nil
}

// sorted is the value with the members of objects by name, without those that are null or empty.
func (n *node) sorted() *node {
	out := &node{kind: n.kind, text: n.text}
	if n.kind == '[' {
		for _, kid := range n.kids {
			out.kids = append(out.kids, kid.sorted())
		}
		return out
	}
	for _, key := range slices.Sorted(slices.Values(n.keys)) {
		kid := n.kids[slices.Index(n.keys, key)].sorted()
		if !kid.null() && (kid.kind != '[' && kid.kind != '{' || len(kid.kids) > 0) {
			out.add(key, kid)
		}
	}
	return out
}
