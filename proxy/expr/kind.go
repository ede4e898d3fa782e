package expr

import (
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// kind is the type that a part of an expression surely has; "": not known. CEL itself knows none of what comes out of a message.
type kind string

const (
	aBool   kind = "a truth value"
	aNumber kind = "a signed whole number"
	aUint   kind = "an unsigned whole number (write 10u beside it)"
	aDouble kind = "a fractional number"
	aText   kind = "text"
	aBytes  kind = "bytes"
)

// kindOf is the type of a literal.
func kindOf(v ref.Val) kind {
	switch v.(type) {
	case types.Bool:
		return aBool
	case types.Int:
		return aNumber
	case types.Uint:
		return aUint
	case types.Double:
		return aDouble
	case types.String:
		return aText
	case types.Bytes:
		return aBytes
	}
	return ""
}

// kindOfField is the type of a singular field; messages have none, and their wrappers may be null. See message.convert.
func kindOfField(f *schema.Field) kind {
	switch f.Kind {
	case protoreflect.BoolKind:
		return aBool
	case protoreflect.EnumKind, protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind,
		protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return aNumber
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind, protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return aUint
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return aDouble
	case protoreflect.StringKind:
		return aText
	case protoreflect.BytesKind:
		return aBytes
	case protoreflect.MessageKind, protoreflect.GroupKind:
	}
	return ""
}

// truth is o where a truth value is wanted.
func truth(o outcome) outcome {
	if o.fails == never && o.kind != "" && o.kind != aBool {
		return fails("wanted a truth value, found %s", o.kind)
	}
	return o
}

// applied is what a function makes of arguments none of which surely fails, as far as their types tell.
func applied(function string, args []outcome) outcome {
	o := worst(args...)
	if o.fails == always {
		return o
	}
	var kinds [2]kind
	for i := range min(len(args), 2) {
		kinds[i] = args[i].kind
	}
	a, b := kinds[0], kinds[1]
	switch function {
	case operators.Add, operators.Subtract, operators.Multiply, operators.Divide, operators.Modulo:
		if a != "" && b != "" && (a != b || !calculates(function, a)) {
			return fails("%s cannot be calculated with %s", a, b)
		}
		o.kind = a
		if a == "" || b == "" {
			o.kind = "" // a duration added to a time
		}
	case operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		if a != "" && b != "" && a != b && !(a.number() && b.number()) {
			return fails("%s is neither more nor less than %s", a, b)
		}
		o.kind = aBool
	case operators.Equals, operators.NotEquals, operators.In:
		o.kind = aBool
	case overloads.StartsWith, overloads.EndsWith, overloads.Contains, overloads.Matches:
		for _, k := range kinds {
			if k != "" && k != aText {
				return fails("wanted text, found %s", k)
			}
		}
		o.kind = aBool
	case overloads.Size:
		if a == aBool || a.number() {
			return fails("%s has no size", a)
		}
		o.kind = aNumber
	}
	return o
}

func (k kind) number() bool { return k == aNumber || k == aUint || k == aDouble }

// calculates tells whether CEL has an operator for two of a type.
func calculates(operator string, k kind) bool {
	switch operator {
	case operators.Add:
		return k != aBool
	case operators.Modulo:
		return k == aNumber || k == aUint
	default:
		return k.number()
	}
}
