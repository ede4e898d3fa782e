package jsonwire

import (
	"errors"
	"slices"
	"strings"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// ErrUnknownType is the cause of an *Error when the type of a google.protobuf.Any is not in the schema at hand.
var ErrUnknownType = errors.New("type is not in the schema")

// typePrefix is the only authority of type URLs that is taken: there is no other place that types come from.
const typePrefix = "type.googleapis.com/"

// anyType finds the type of a type URL, or says why it cannot.
func anyType(url []byte, types *schema.Schema) (m *schema.Message, fault string) {
	name, ok := strings.CutPrefix(view(url), typePrefix)
	if !ok {
		return nil, "wanted a type URL that begins with " + typePrefix + ", found " + quoteName(url)
	}
	if types != nil {
		if m, ok := types.Message(name); ok {
			return m, ""
		}
	}
	return nil, "type " + quoteName([]byte(name)) + " is not in the schema"
}

// anyIndex remembers where the objects of a stretch of text have their "@type", so that Any in Any with the type last
// stays linear: the outermost scan answers for all inside it.
type anyIndex struct {
	objects []anyObject // ascending by at
	end     int         // the text before it has been scanned
	typeKey int         // of the Any being read: where its "@type" key stands
}

// anyObject is where an object stands, and its "@type" key. Offsets end below flagBit, see maxText.
type anyObject struct {
	at      uint32 // of the brace; with flagBit: the object has members
	typeKey uint32 // of the "@type" key, or 0; with flagBit: of the second one
}

const flagBit = 1 << 31

func (a *anyIndex) reset() { a.objects, a.end, a.typeKey = a.objects[:0], 0, 0 }

// anyObject reads a google.protobuf.Any: an object whose "@type" says what else is in it.
func (p *parser) anyObject(types *schema.Schema) bool {
	if p.peek() != '{' {
		return p.failf(p.pos, "wanted an object with \"@type\", found %s", p.found(p.pos))
	}
	open := p.pos
	typeKey, ok := p.findType(open)
	if !ok {
		return false
	}
	if typeKey < 0 { // {} is the Any of nothing; with members but without a type it is ignored when unknown fields are
		if p.pos = open + 1; p.peek() == '}' {
			p.pos++
			return true
		}
		p.pos = open
		return p.skipValue()
	}
	p.pos = typeKey
	if !p.skipKey() {
		return false
	}
	if p.peek() != '"' {
		return p.failf(p.pos, "wanted a type URL, found %s", p.found(p.pos))
	}
	at := p.pos
	url, ok := p.str()
	if !ok {
		return false
	}
	m, fault := anyType(url, types)
	if m == nil {
		p.cause = ErrUnknownType
		return p.fail(at, fault)
	}
	p.out = append(p.out, tagBytes1)
	p.out = appendVarint(p.out, uint64(len(url)))
	p.out = append(p.out, url...)
	start := len(p.out)
	p.out = append(p.out, tagBytes2)
	g := p.openLen()
	p.pos = open
	outer := p.anys.typeKey
	p.anys.typeKey = typeKey
	p.partial++
	keep := p.keepZero
	p.keepZero = false
	if p.depth++; p.depth > p.maxDepth {
		return p.tooDeep()
	}
	if m.WellKnown == schema.NotWellKnown {
		ok = p.object(m, true)
	} else {
		ok = p.anyValue(m)
	}
	p.depth--
	if !ok {
		return false
	}
	p.keepZero = keep
	p.partial--
	p.anys.typeKey = outer
	if p.nothingIn(g) {
		p.dropLen(g, start)
	} else {
		p.closeLen(g)
	}
	return true
}

// anyValue reads the object of an Any whose type has a JSON form of its own: {"@type": ..., "value": ...}.
func (p *parser) anyValue(m *schema.Message) bool {
	p.pos++
	open, given := p.pos-1, false
	typeKey := p.anys.typeKey
	for more := true; more; {
		if !p.element() {
			return false
		}
		if p.peek() != '"' {
			return p.failf(p.pos, "wanted a key in quotes, found %s", p.found(p.pos))
		}
		at := p.pos
		name, ok := p.str()
		if !ok {
			return false
		}
		isType, isValue := string(name) == "@type", string(name) == "value"
		if !isType && !isValue && !p.opts.IgnoreUnknown {
			return p.failf(at, "an Any of %s has no field %s but \"value\"", m.Name, quoteName(name))
		}
		if !p.want(':', `":" after a key`) {
			return false
		}
		switch {
		case isType && at != typeKey:
			return p.fail(at, `"@type" is given twice`)
		case isValue && given:
			return p.fail(at, `field "value" is given twice`)
		case isValue:
			given = true
			ok = p.wellKnown(m)
		default:
			ok = p.skipValue()
		}
		if !ok {
			return false
		}
		if more, ok = p.more('}'); !ok {
			return false
		}
	}
	if !given && m.WellKnown != schema.Empty {
		return p.failf(open, "wanted a field \"value\" with the %s", m.Name)
	}
	return true
}

// findType gives the offset of the "@type" key of the object at open, or -1 when it has none and may be without.
func (p *parser) findType(open int) (int, bool) {
	p.pos = open + 1
	if p.peek() == '"' { // the type stands first nearly always
		at := p.pos
		if p.literal(`"@type"`) {
			return at, true
		}
	}
	if open >= p.anys.end {
		p.pos = open
		p.anys.objects = p.anys.objects[:0]
		elements := p.elements
		if !p.scanTypes() {
			return 0, false
		}
		p.elements = elements // the same members are counted when they are read
		p.anys.end = p.pos
	}
	i, ok := slices.BinarySearchFunc(p.anys.objects, open, func(o anyObject, at int) int { return int(o.at&^flagBit) - at })
	if !ok {
		return 0, p.fail(open, "wanted an object")
	}
	o := p.anys.objects[i]
	switch {
	case o.typeKey&flagBit != 0:
		return 0, p.fail(int(o.typeKey&^flagBit), `"@type" is given twice`)
	case o.typeKey == 0 && o.at&flagBit != 0 && !p.opts.IgnoreUnknown:
		return 0, p.fail(open, `wanted "@type" in an Any, found an object without`)
	case o.typeKey == 0:
		return -1, true
	}
	return int(o.typeKey), true
}

// scanTypes passes over the value at pos and notes the "@type" of every object in it.
func (p *parser) scanTypes() bool {
	if !p.element() {
		return false
	}
	c := p.peek()
	if c != '{' && c != '[' {
		return p.skipScalar(c)
	}
	if p.depth++; p.depth > p.maxDepth+1 { // the object of the Any itself has been counted
		return p.tooDeep()
	}
	object := -1
	if c == '{' {
		object = len(p.anys.objects)
		p.anys.objects = append(p.anys.objects, anyObject{at: uint32(p.pos)})
	}
	p.pos++
	closing := c + 2
	if p.peek() == closing {
		p.pos++
		p.depth--
		return true
	}
	for more := true; more; {
		if object >= 0 && !p.scanKey(object) || !p.scanTypes() {
			return false
		}
		var ok bool
		if more, ok = p.more(closing); !ok {
			return false
		}
	}
	p.depth--
	return true
}

func (p *parser) scanKey(object int) bool {
	if p.peek() != '"' {
		return p.failf(p.pos, "wanted a key in quotes, found %s", p.found(p.pos))
	}
	at := p.pos
	name, ok := p.str()
	if !ok {
		return false
	}
	o := &p.anys.objects[object]
	o.at |= flagBit
	if string(name) == "@type" {
		if o.typeKey == 0 {
			o.typeKey = uint32(at)
		} else {
			o.typeKey = uint32(at) | flagBit
		}
	}
	return p.want(':', `":" after a key`)
}
