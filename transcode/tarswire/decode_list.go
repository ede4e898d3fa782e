package tarswire

// list reads a LIST and writes its elements.
func (d *decoder) list(f *field, t Type) bool {
	if t != List {
		return d.wanted("LIST", t)
	}
	n, next := length(d.in, d.pos, 1)
	if next < 0 {
		return d.wrongLength("elements")
	}
	d.pos = next
	if n == 0 {
		return true
	}
	if !d.count(n) || !d.deeper() {
		return false
	}
	g := -1
	if f.packed {
		d.out = appendVarint(d.out, f.packedTag)
		g = d.openLen()
	}
	for i := range n {
		if d.pos < len(d.in) { // the heads of elements have tag 0
			switch head := Type(d.in[d.pos]); {
			case head == String1 && f.plain == plainText && d.charset == UTF8:
				if out, next := text(d.out, d.in, d.pos+1, f); next >= 0 {
					d.out, d.pos = out, next
					continue
				}
			case head == StructBegin && f.plain == plainStruct:
				d.pos++
				d.out = append(d.out, byte(f.wireTag))
				g := d.openLen()
				if !d.structure(f.message) {
					return d.inElement(i)
				}
				d.closeLen(g)
				continue
			}
		}
		tag, t, ok := d.head()
		switch {
		case !ok:
			return d.inElement(i)
		case tag != 0:
			d.failf("wanted tag 0 for an element, found %d", tag)
			return d.inElement(i)
		case f.packed:
			ok = d.number(f, t)
		default:
			ok = d.single(f, t)
		}
		if !ok {
			return d.inElement(i)
		}
	}
	if g >= 0 {
		d.closeLen(g)
	}
	d.depth--
	return true
}

// mapping reads the entries of a map: a key with tag 0 and a value with tag 1 each.
func (d *decoder) mapping(f *field, t Type) bool {
	if t != Map {
		return d.wanted("MAP", t)
	}
	n, next := length(d.in, d.pos, 2)
	if next < 0 {
		return d.wrongLength("entries")
	}
	d.pos = next
	if !d.count(2*n) || !d.deeper() {
		return false
	}
	for i := range n {
		d.out = appendVarint(d.out, f.wireTag)
		g := d.openLen()
		for want, part := range f.entry.fields {
			tag, t, ok := d.head()
			if !ok {
				return d.inElement(i)
			}
			if int(tag) != want {
				d.failf("wanted tag %d for the %s of an entry, found %d", want, part.name, tag)
				return d.inElement(i)
			}
			if !d.value(part, t) {
				d.err.inside(part.name)
				return d.inElement(i)
			}
		}
		d.closeLen(g)
	}
	d.depth--
	return true
}
