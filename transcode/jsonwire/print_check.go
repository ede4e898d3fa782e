package jsonwire

import (
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// check goes over values that are not written because later ones replace them: what a decoder would refuse in them is
// refused here.
func (p *printer) check(f *schema.Field, i, j int) bool {
	switch {
	case f.Cardinality == schema.Map:
		return p.checkMap(f, i, j)
	case f.Message != nil && f.Cardinality == schema.Singular:
		return p.checkMessage(f.Message, i, j)
	}
	for ; i < j; i++ {
		o := p.occs[i]
		switch {
		case f.Message != nil:
			if !p.checkMessage(f.Message, i, i+1) {
				return false
			}
		case f.UTF8:
			start, end := p.span(o)
			if !utf8.Valid(p.in[start:end]) {
				return p.notUTF8(p.in[start:end])
			}
		case f.PackedTag != 0 && o.typ() == protowire.BytesType:
			at, end := p.span(o)
			for at < end {
				if _, at = number(p.in, at, end, f.Wire); at < 0 {
					return p.failf("wanted packed values of kind %s, found bytes that are not", f.Kind)
				}
			}
		}
	}
	return true
}

func (p *printer) checkMessage(m *schema.Message, lo, hi int) bool {
	if p.depth++; p.depth > p.maxDepth {
		return p.failf("nested deeper than %d levels", p.maxDepth)
	}
	base := len(p.occs)
	if !p.index(m, lo, hi) {
		return false
	}
	top, required := len(p.occs), 0
	for i := base; i < top; {
		j := p.run(i, top)
		f := m.Fields[p.occs[i].index()]
		if !p.check(f, i, j) {
			return p.inField(f)
		}
		if f.Required {
			required++
		}
		i = j
	}
	if p.demand && required < len(m.Required) {
		return p.lacks(m, base)
	}
	p.occs = p.occs[:base]
	p.depth--
	return true
}

func (p *printer) checkMap(f *schema.Field, i, j int) bool {
	for ; i < j; i++ {
		o := p.occs[i]
		if k, ok := p.entryKey(f, o); !ok || !p.checkKey(f.MapKey, k) {
			return false
		}
		lo := len(p.occs)
		if !p.entryValue(f, o) || !p.check(f.MapValue, lo, len(p.occs)) {
			return false
		}
		p.occs = p.occs[:lo]
	}
	return true
}

// checkKey checks a map key that is not written.
func (p *printer) checkKey(f *schema.Field, k mapKey) bool {
	if !f.UTF8 {
		return true
	}
	if b := p.keyBytes(k); !utf8.Valid(b) {
		return p.notUTF8(b)
	}
	return true
}
