package limit

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"net/netip"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"

	limitv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/limit/v1"
	"github.com/causeway-gateway/causeway/proxy/expr"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// by is what calls are counted by.
type by uint8

const (
	byAddress by = iota
	byConsumer
	byHeader
	byClaim
	byVariable
	byExpression
	byNothing
)

// Keys finds the key of calls. It may be used by many goroutines.
type Keys struct {
	path       string // in the plugin's configuration
	by         by
	name       string
	expression *expr.Program
	byRoute    bool
	seed       maphash.Seed
}

// Key is what a call is counted under. The text is that of the call: it is valid as long as that.
type Key struct {
	kind  by
	text  string
	addr  netip.Addr // of kind byAddress
	route string
}

// NewKeys reads what a configuration says of keys, at path there. The error is a *plugin.Fault.
func NewKeys(conf *limitv1.Key, path string) (*Keys, error) {
	k := &Keys{path: path, byRoute: conf.GetByRoute(), seed: maphash.MakeSeed()}
	named := func(kind by, key, name string) error {
		k.by, k.name = kind, name
		if name == "" {
			return plugin.Faultf(path+"."+key, "write its name", "wanted a name, found an empty one")
		}
		return nil
	}
	chosen := func(kind by, key string, is bool) error {
		k.by = kind
		if !is {
			return plugin.Faultf(path+"."+key, "write true, or another key", "wanted true, found false")
		}
		return nil
	}
	switch b := conf.GetBy().(type) {
	case nil:
		return k, nil
	case *limitv1.Key_Address:
		return k, chosen(byAddress, "address", b.Address)
	case *limitv1.Key_Consumer:
		return k, chosen(byConsumer, "consumer", b.Consumer)
	case *limitv1.Key_Everybody:
		return k, chosen(byNothing, "everybody", b.Everybody)
	case *limitv1.Key_Header:
		return k, named(byHeader, "header", strings.ToLower(b.Header))
	case *limitv1.Key_Claim:
		return k, named(byClaim, "claim", b.Claim)
	case *limitv1.Key_PathVariable:
		return k, named(byVariable, "path_variable", b.PathVariable)
	case *limitv1.Key_Expression:
		k.by = byExpression
		var err error
		if k.expression, err = expr.Text(b.Expression); err != nil {
			return nil, plugin.Faultf(path+".expression", "mend the expression: https://cel.dev", "%s", err)
		}
		if k.expression.AfterAnswer() {
			return nil, plugin.Faultf(path+".expression", "ask for what is known of the request", "`answer` is not known yet when a call is counted")
		}
		return k, nil
	}
	return nil, fmt.Errorf("want a kind of key, found %T", conf.GetBy())
}

// ByCaller tells whether keys are of who calls.
func (k *Keys) ByCaller() bool { return k.by == byConsumer || k.by == byClaim }

// Expressions implements plugin.Evaluator.
func (k *Keys) Expressions(*schema.Method) []plugin.Expression {
	if k.expression == nil {
		return nil
	}
	return []plugin.Expression{{Path: k.path + ".expression", Source: k.expression}}
}

// Of finds the key of a call. The error refuses it.
func (k *Keys) Of(ctx context.Context, c *rpc.Call) (Key, error) {
	key := Key{kind: k.by}
	if k.byRoute {
		key.route = c.Route
	}
	switch k.by {
	case byConsumer:
		key.text = c.ConsumerName()
	case byHeader:
		if key.text = c.Header.Get(k.name); key.text == "" && c.HTTP != nil {
			key.text = c.HTTP.Header.Get(k.name)
		}
	case byClaim:
		key.text = claim(c.Claims[k.name])
	case byVariable:
		if c.Params != nil {
			key.text, _ = c.Params.Param(k.name)
		}
	case byExpression:
		text, err := k.expression.Text(ctx, c, nil)
		if err != nil {
			if e, ok := errors.AsType[*rpc.Error](err); ok {
				return Key{}, e // of a message that did not come well
			}
			return Key{}, rpc.Refuse(codes.Internal, "KEY_FAILED", "internal error").WithCause(err)
		}
		key.text = text
	case byNothing:
		return key, nil
	case byAddress:
	}
	if key.text == "" {
		key.kind, key.addr = byAddress, network(c.Address())
	}
	return key, nil
}

// Number finds the key of a call, and its number, which is another one in each process. The error refuses the call.
func (k *Keys) Number(ctx context.Context, c *rpc.Call) (uint64, Key, error) {
	key, err := k.Of(ctx, c)
	if err != nil {
		return 0, Key{}, err
	}
	return k.hash(key), key, nil
}

// claim is a claim's value as text, "" where it is none.
func claim(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case bool:
		return strconv.FormatBool(v)
	}
	return ""
}

// network is what one client has: an address of IPv4, a /64 of IPv6.
func network(a netip.Addr) netip.Addr {
	if a.Is4() || !a.IsValid() {
		return a
	}
	b := a.As16()
	clear(b[8:])
	return netip.AddrFrom16(b)
}

// hash is the key's number, different in each process.
func (k *Keys) hash(key Key) uint64 {
	if key.kind == byAddress && key.route == "" {
		b := key.addr.As16()
		return maphash.Bytes(k.seed, b[:])
	}
	var h maphash.Hash
	h.SetSeed(k.seed)
	_ = h.WriteByte(byte(key.kind)) // never an error, also below
	if key.kind == byAddress {
		b := key.addr.As16()
		_, _ = h.Write(b[:])
	} else {
		_, _ = h.WriteString(key.text)
	}
	_ = h.WriteByte(0)
	_, _ = h.WriteString(key.route)
	return h.Sum64()
}

// Digest is the key as stores have it: the same in all gateways, short, and telling nobody what it was made of.
func (key Key) Digest() string {
	h := sha256.New()
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], uint64(len(key.route)))
	_, _ = h.Write([]byte{byte(key.kind)}) // never an error, also below
	_, _ = h.Write(n[:])
	_, _ = h.Write([]byte(key.route))
	if key.kind == byAddress {
		b := key.addr.As16()
		_, _ = h.Write(b[:])
	} else {
		_, _ = h.Write([]byte(key.text))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:15])
}
