package proxy

import (
	"context"
	"encoding/binary"
	"math/bits"
	"strings"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
	"github.com/causeway-gateway/causeway/proxy/expr"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// hashing finds the key by which calls of a service meet the same instance. It may be used by many goroutines.
type hashing struct {
	by         hashedBy
	name       string // of the header, cookie or variable
	expression *expr.Program
}

type hashedBy uint8

const (
	byHeader hashedBy = iota
	byCookie
	byConsumer
	byVariable
	byExpression
	byAddress
)

// newHashing reads what a configuration says of the key; nil: calls have none. The path is that of the fault.
func newHashing(conf *configv1.HashKey) (h *hashing, path string, err error) {
	switch b := conf.GetBy().(type) {
	case *configv1.HashKey_Header:
		return &hashing{by: byHeader, name: strings.ToLower(b.Header)}, "", nil
	case *configv1.HashKey_Cookie:
		return &hashing{by: byCookie, name: b.Cookie}, "", nil
	case *configv1.HashKey_Consumer:
		return &hashing{by: byConsumer}, "", nil
	case *configv1.HashKey_Variable:
		return &hashing{by: byVariable, name: b.Variable}, "", nil
	case *configv1.HashKey_Address:
		return &hashing{by: byAddress}, "", nil
	case *configv1.HashKey_Expression:
		p, err := expr.Text(b.Expression)
		return &hashing{by: byExpression, expression: p}, "expression", err
	}
	return nil, "", nil
}

// keyed checks that an expression can give a key: that some method of the service has what it asks for, before the answer.
func (b *builder) keyed(path string, sv *service) {
	p := sv.hash.expression
	if p == nil || sv.schema == nil {
		return
	}
	if p.AfterAnswer() {
		b.fault(path, "an instance is chosen before there is an answer").WithFix("ask for what is known of the request: message, metadata, claims")
		return
	}
	why := ""
	for _, m := range sv.methods("*") {
		f := p.Suits(m)
		if f == nil || !f.Always {
			return
		}
		if why == "" || m.Kind == schema.Unary {
			why = f.Text
		}
	}
	if why != "" {
		b.fault(path, "no call of the service has such a key: %s", why)
	}
}

// of is the hash of a call's key; false: it has none, or an expression failed, and is placed as calls without a key are.
// Gateways agree on it, and so do the processes of one.
func (h *hashing) of(ctx context.Context, c *rpc.Call) (uint64, bool) {
	text := ""
	switch h.by {
	case byHeader:
		text = headerOf(c, h.name)
	case byCookie:
		text = cookieOf(headerOf(c, "cookie"), h.name)
	case byConsumer:
		text = c.ConsumerName()
	case byVariable:
		if c.Params != nil {
			text, _ = c.Params.Param(h.name)
		}
	case byAddress:
		a := c.Address().As16()
		return hashed(string(a[:])), true
	case byExpression:
		var err error
		if text, err = h.expression.Text(ctx, c, nil); err != nil {
			return 0, false
		}
	}
	if text == "" {
		return 0, false
	}
	return hashed(text), true
}

// headerOf is a header of the request, or metadata where the call did not come by HTTP.
func headerOf(c *rpc.Call, name string) string {
	if c.HTTP != nil {
		return c.HTTP.Header.Get(name)
	}
	return c.Header.Get(name)
}

// cookieOf is the value of a cookie of RFC 6265, section 4.2.
func cookieOf(header, name string) string {
	for header != "" {
		var pair string
		pair, header, _ = strings.Cut(header, ";")
		if k, v, ok := strings.Cut(strings.Trim(pair, " \t"), "="); ok && k == name {
			return strings.Trim(v, `"`)
		}
	}
	return ""
}

// hashed is a hash of a text that is the same everywhere: words of eight bytes folded as in wyhash. It need not withstand
// somebody who looks for collisions: they meet one instance, as one key does.
func hashed(s string) uint64 {
	const (
		p0 = 0xa0761d6478bd642f
		p1 = 0xe7037ed1a0b428db
	)
	h := uint64(len(s)) ^ p0
	var last [8]byte
	for ; len(s) > 8; s = s[8:] {
		h = fold(h^(uint64(s[0])|uint64(s[1])<<8|uint64(s[2])<<16|uint64(s[3])<<24|uint64(s[4])<<32|uint64(s[5])<<40|uint64(s[6])<<48|uint64(s[7])<<56), p1)
	}
	copy(last[:], s)
	return fold(fold(h^binary.LittleEndian.Uint64(last[:]), p1), p0)
}

func fold(a, b uint64) uint64 {
	high, low := bits.Mul64(a, b)
	return high ^ low
}
