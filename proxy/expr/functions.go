package expr

import (
	"net/netip"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// functions are what expressions can call beside the standard ones of CEL.
func functions() []cel.EnvOption {
	return []cel.EnvOption{
		// ip_in(address, networks) tells whether an address is of one of the networks.
		cel.Function("ip_in", cel.Overload("ip_in_string_list", []*cel.Type{cel.StringType, cel.ListType(cel.StringType)}, cel.BoolType,
			cel.BinaryBinding(ipIn))),
	}
}

func ipIn(address, networks ref.Val) ref.Val {
	text, ok := address.(types.String)
	list, isList := networks.(traits.Lister)
	if !ok || !isList {
		return types.MaybeNoSuchOverloadErr(address)
	}
	a, err := netip.ParseAddr(string(text))
	if err != nil {
		return types.WrapErr(err)
	}
	a = a.Unmap().WithZone("")
	for it := list.Iterator(); it.HasNext() == types.True; {
		n, ok := it.Next().(types.String)
		if !ok {
			return types.MaybeNoSuchOverloadErr(networks)
		}
		p, err := netip.ParsePrefix(string(n))
		if err != nil {
			return types.WrapErr(err)
		}
		if p.Contains(a) {
			return types.True
		}
	}
	return types.False
}
