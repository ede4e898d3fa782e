package source

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	tarsv1 "github.com/causeway-gateway/causeway/protos/causeway/tars/v1"
)

// notes are comments to be added to declarations, by their path.
type notes map[string]string

// tarsNotes say in words what the options of TARS in a file say that somebody who writes a client without them should know:
// what is required, bounds and defaults.
func tarsNotes(fd *descriptorpb.FileDescriptorProto) notes {
	n := notes{}
	for i, e := range fd.GetEnumType() {
		for j, v := range e.GetValue() {
			o, ok := proto.GetExtension(v.GetOptions(), tarsv1.E_Enumerator).(*tarsv1.Enumerator)
			switch {
			case !ok:
			case o.GetSynthetic():
				n.add("Not in the TARS IDL: protobuf demands a zero.", pathEnums, i, pathFields, j)
			case o.GetName() != "":
				n.add(o.GetName()+" in the TARS IDL.", pathEnums, i, pathFields, j)
			}
		}
	}
	var walk func(m *descriptorpb.DescriptorProto, path ...int)
	walk = func(m *descriptorpb.DescriptorProto, path ...int) {
		s, _ := proto.GetExtension(m.GetOptions(), tarsv1.E_Struct).(*tarsv1.Struct)
		switch s.GetKind() {
		case tarsv1.Struct_WRAPPER:
			n.add("A vector or map inside another one. In JSON its items stand for it.", path...)
		case tarsv1.Struct_ENTRY:
			n.add("An entry of a map that cannot be one in protobuf. In JSON the map is a list of such objects.", path...)
		}
		for i, f := range m.GetField() {
			if o, ok := proto.GetExtension(f.GetOptions(), tarsv1.E_Member).(*tarsv1.Member); ok {
				n.add(inWords(o, s.GetKind()), append(slices.Clone(path), pathFields, i)...)
			}
		}
		for i, nested := range m.GetNestedType() {
			walk(nested, append(slices.Clone(path), pathNested, i)...)
		}
	}
	for i, m := range fd.GetMessageType() {
		walk(m, pathMessages, i)
	}
	return n
}

func (n notes) add(text string, path ...int) {
	if text == "" {
		return
	}
	wide := make([]int32, len(path))
	for i, p := range path {
		wide[i] = int32(p) //nolint:gosec // declarations of one file
	}
	n[fmt.Sprint(wide)] = text
}

// inWords says what holds for a member of a message of some kind: "Required, -128 to 127, default 7."
func inWords(o *tarsv1.Member, in tarsv1.Struct_Kind) string {
	var parts []string
	if o.GetRequire() && in != tarsv1.Struct_RESPONSE {
		parts = append(parts, "required")
	}
	bounds := map[tarsv1.Type][2]int{
		tarsv1.Type_BYTE: {math.MinInt8, math.MaxInt8}, tarsv1.Type_SHORT: {math.MinInt16, math.MaxInt16},
		tarsv1.Type_UNSIGNED_BYTE: {0, math.MaxUint8}, tarsv1.Type_UNSIGNED_SHORT: {0, math.MaxUint16},
	}
	if b, ok := bounds[o.GetType()]; ok {
		parts = append(parts, fmt.Sprintf("%d to %d", b[0], b[1]))
	}
	if b, ok := bounds[o.GetKey()]; ok {
		parts = append(parts, fmt.Sprintf("keys %d to %d", b[0], b[1]))
	}
	if o.GetLength() > 0 {
		parts = append(parts, fmt.Sprintf("%d elements", o.GetLength()))
	}
	switch d := o.GetDefault().GetValue().(type) {
	case *tarsv1.Default_Integer:
		text := strconv.FormatInt(d.Integer, 10)
		if o.GetType() == tarsv1.Type_BOOL {
			text = strconv.FormatBool(d.Integer != 0)
		}
		parts = append(parts, "default "+text)
	case *tarsv1.Default_Number:
		parts = append(parts, "default "+strconv.FormatFloat(d.Number, 'g', -1, 64))
	case *tarsv1.Default_Text:
		parts = append(parts, "default "+strconv.QuoteToGraphic(d.Text))
	}
	if len(parts) == 0 {
		return ""
	}
	text := strings.Join(parts, ", ")
	return strings.ToUpper(text[:1]) + text[1:] + "."
}
