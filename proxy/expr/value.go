package expr

import (
	"fmt"
	"reflect"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// lookup has texts by name.
type lookup interface {
	get(key string) (string, bool)
	names() []string
}

// headers are metadata by name.
type headers rpc.Metadata

func (h headers) get(key string) (string, bool) {
	m := rpc.Metadata(h)
	return m.Get(key), m.Has(key)
}

func (h headers) names() []string {
	var out []string
	for i := range h {
		if !rpc.Metadata(h[:i]).Has(h[i].Key) {
			out = append(out, h[i].Key)
		}
	}
	return out
}

// params are the variables of a path.
type params struct{ rpc.Params }

func (p params) get(key string) (string, bool) {
	if p.Params == nil {
		return "", false
	}
	return p.Param(key)
}

func (params) names() []string { return nil } // they are known by name only

// labels are those of a consumer.
type labels map[string]string

func (l labels) get(key string) (string, bool) { v, ok := l[key]; return v, ok }

func (l labels) names() []string {
	out := make([]string, 0, len(l))
	for k := range l {
		out = append(out, k)
	}
	return out
}

// table is a lookup as a value of CEL: a map from string to string in which what is not there is "". has() and `in` tell the
// difference.
type table struct{ lookup }

var (
	_ traits.Indexer     = table{}
	_ traits.FieldTester = table{}
	_ traits.Container   = table{}
	_ traits.Iterable    = table{}
	_ traits.Sizer       = table{}
)

// Get implements traits.Indexer.
func (t table) Get(key ref.Val) ref.Val {
	s, ok := key.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(key)
	}
	v, _ := t.get(string(s))
	return types.String(v)
}

// IsSet implements traits.FieldTester.
func (t table) IsSet(key ref.Val) ref.Val { return t.Contains(key) }

// Contains implements traits.Container.
func (t table) Contains(key ref.Val) ref.Val {
	s, ok := key.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(key)
	}
	_, found := t.get(string(s))
	return types.Bool(found)
}

func (t table) list() traits.Lister {
	return types.NewStringList(types.DefaultTypeAdapter, t.names())
}

// Iterator implements traits.Iterable.
func (t table) Iterator() traits.Iterator { return t.list().Iterator() }

// Size implements traits.Sizer.
func (t table) Size() ref.Val { return t.list().Size() }

// ConvertToNative implements ref.Val.
func (t table) ConvertToNative(typ reflect.Type) (any, error) {
	return nil, fmt.Errorf("no %s can be made of texts by name", typ)
}

// ConvertToType implements ref.Val.
func (t table) ConvertToType(typ ref.Type) ref.Val {
	return types.NewErr("no %s can be made of texts by name", typ.TypeName())
}

// Equal implements ref.Val: tables are not compared, their values are.
func (t table) Equal(ref.Val) ref.Val { return types.False }

// Type implements ref.Val.
func (t table) Type() ref.Type { return types.MapType }

// Value implements ref.Val.
func (t table) Value() any { return t.lookup }
