package expr

import (
	"fmt"
	"reflect"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// headers are metadata as a map whose missing keys are "".
type headers rpc.Metadata

// params are the variables of a path as a map whose missing keys are "".
type params struct{ rpc.Params }

func (h headers) get(key string) (string, bool) {
	m := rpc.Metadata(h)
	return m.Get(key), m.Has(key)
}

func (p params) get(key string) (string, bool) {
	if p.Params == nil {
		return "", false
	}
	return p.Param(key)
}

// lookup is what has texts by name.
type lookup interface {
	get(key string) (string, bool)
}

// table is a lookup as a value of CEL.
type table struct{ lookup }

// Get implements traits.Indexer.
func (t table) Get(key ref.Val) ref.Val {
	s, ok := key.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(key)
	}
	v, _ := t.get(string(s))
	return types.String(v)
}

// Contains implements traits.Container.
func (t table) Contains(key ref.Val) ref.Val {
	s, ok := key.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(key)
	}
	_, found := t.get(string(s))
	return types.Bool(found)
}

// Find implements traits.Mapper.
func (t table) Find(key ref.Val) (ref.Val, bool) {
	s, ok := key.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(key), false
	}
	v, _ := t.get(string(s))
	return types.String(v), true
}

// ConvertToNative implements ref.Val.
func (t table) ConvertToNative(typ reflect.Type) (any, error) {
	return nil, fmt.Errorf("no %s can be made of headers", typ)
}

// ConvertToType implements ref.Val.
func (t table) ConvertToType(typ ref.Type) ref.Val {
	return types.NewErr("no %s can be made of headers", typ.TypeName())
}

// Equal implements ref.Val.
func (t table) Equal(ref.Val) ref.Val { return types.False }

// Type implements ref.Val.
func (t table) Type() ref.Type { return types.MapType }

// Value implements ref.Val.
func (t table) Value() any { return t.lookup }
