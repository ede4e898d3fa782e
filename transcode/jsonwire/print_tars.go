package jsonwire

import "github.com/causeway-gateway/causeway/transcode/schema"

// items writes the field of a message that stands for a vector or map inside another one.
func (p *printer) items(f *schema.Field, base, top int) bool {
	if f.Cardinality == schema.Map {
		return p.mapping(f, base, top)
	}
	return p.list(f, base, top)
}

// pair writes an entry of a map whose keys protobuf does not allow. Key and value are always there, as in any map.
func (p *printer) pair(m *schema.Message, base, top int) bool {
	p.out = append(p.out, '{')
	i := base
	for n, f := range m.Fields {
		j := i
		if i < top && p.occs[i].index() == n {
			j = p.run(i, top)
		}
		p.out = append(p.out, p.name(f)[1-min(n, 1):]...) // the first without its comma
		ok := true
		switch {
		case i < j:
			ok = p.value(f, i, j)
		case f.Message != nil && f.Cardinality == schema.Singular:
			ok = p.message(f.Message, i, i)
		default:
			p.zero(f)
		}
		if !ok {
			return p.inField(f)
		}
		i = j
	}
	p.out = append(p.out, '}')
	return true
}

// tarsReturn is the name of a return value in the JSON of the SDKs of TARS, as a member behind a comma.
const tarsReturn = `,"tars_ret":`

// otherName is the name of a member, behind a comma, where it need not be its JSON name.
func (p *printer) otherName(f *schema.Field) string {
	switch {
	case f.Return && p.opts.TarsReturn:
		return tarsReturn
	case p.opts.ProtoNames:
		return f.ProtoNext
	}
	return f.JSONNext
}

// bytes writes bytes, in base64 or as an array.
func (p *printer) bytes(s []byte) {
	if p.opts.BytesAsArray {
		p.out = appendByteArray(p.out, s)
	} else {
		p.out = appendBytes(p.out, s)
	}
}

// appendByteArray appends bytes as numbers from -128 to 127: what a byte is in TARS, and what its SDKs write.
func appendByteArray(out, s []byte) []byte {
	out = append(out, '[')
	for i, c := range s {
		if i > 0 {
			out = append(out, ',')
		}
		out = appendInt(out, int64(int8(c)))
	}
	return append(out, ']')
}
