package tarsidl

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	tarsv1 "github.com/causeway-gateway/causeway/protos/causeway/tars/v1"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

const (
	// maxTag is the highest tag that the encoding has.
	maxTag = 255
	// maxTypeDepth bounds how deep vectors and maps nest in one type.
	maxTypeDepth = 24
	// maxFileFaults bounds how many faults of one file are looked for.
	maxFileFaults = 50
)

// parser reads one file by recursive descent. After a fault it goes on behind the next semicolon or block.
type parser struct {
	lex    *lexer
	file   *file
	faults *faults
	found  int // faults of this file
	tok    token
	before position // the end of the token before tok
	trail  string   // the comment that follows the token before tok on its line
}

// parse reads a file. What could be read is given even when there are faults.
func parse(f *file, in []byte, out *faults) {
	p := &parser{lex: newLexer(in), file: f, faults: out}
	p.advance()
	for p.tok.kind != endOfFile && p.found < maxFileFaults {
		switch {
		case p.tok.kind == include:
			p.include()
		case p.word("module"):
			p.module()
		default:
			p.wrong(`"module" or #include`, "module", "#include")
			p.sync(true)
		}
	}
}

func (p *parser) advance() {
	p.before = p.tok.end
	p.tok = p.lex.next()
	p.trail = p.lex.trail
}

func (p *parser) word(w string) bool { return p.tok.kind == name && p.tok.text == w }

func (p *parser) sign(s string) bool { return p.tok.kind == punctuation && p.tok.text == s }

func (p *parser) fail(at position, format string, args ...any) bool {
	p.found++
	p.faults.add(p.file, at, format, args...)
	return false
}

// wrong fails with what stands in the place of what is wanted; candidates are the words that could stand there.
func (p *parser) wrong(wanted string, candidates ...string) bool {
	if p.tok.kind == broken {
		return p.fail(p.tok.at, "%s", p.tok.text)
	}
	near := ""
	if p.tok.kind == name {
		near = schema.DidYouMean(p.tok.text, candidates)
	}
	return p.fail(p.tok.at, "wanted %s, found %s%s", wanted, p.shown(), near)
}

// shown is the current token for messages.
func (p *parser) shown() string {
	switch p.tok.kind {
	case endOfFile:
		return "the end of the file"
	case text:
		return "the string " + printable([]byte(p.tok.text))
	default:
		return printable([]byte(p.tok.text))
	}
}

// want consumes a punctuation mark. A missing one is reported where the token before it ends.
func (p *parser) want(s, after string) bool {
	if p.sign(s) {
		p.advance()
		return true
	}
	wanted := fmt.Sprintf("%q %s", s, after)
	if p.tok.kind != broken && p.tok.at.line > p.before.line && p.before.line > 0 {
		return p.fail(p.before, "wanted %s, found %s on line %d", wanted, p.shown(), p.tok.at.line)
	}
	return p.wrong(wanted)
}

// semicolon ends a block or a statement.
func (p *parser) semicolon(after string) bool { return p.want(";", after) }

// sync passes over the rest of a broken statement: behind the next semicolon, or in front of the brace that closes the
// block; blocks that are opened on the way are passed over whole. At the top a closing brace is passed over too.
func (p *parser) sync(top bool) {
	depth := 0
	for p.tok.kind != endOfFile {
		switch {
		case p.sign("{"):
			depth++
		case p.sign("}"):
			if depth == 0 && !top {
				return
			}
			depth = max(depth-1, 0)
		case p.sign(";") && depth == 0:
			p.advance()
			return
		case depth == 0 && p.word("module"), depth == 0 && p.tok.kind == include:
			return
		}
		p.advance()
	}
}

// ident reads a name.
func (p *parser) ident(what string) (ident, bool) {
	if p.tok.kind != name {
		return ident{}, p.wrong(what)
	}
	if slices.Contains(keywords, p.tok.text) {
		return ident{}, p.fail(p.tok.at, "wanted %s, found the keyword %q, which cannot be a name", what, p.tok.text)
	}
	i := ident{name: p.tok.text, at: p.tok.at}
	p.advance()
	return i, true
}

func (p *parser) include() {
	p.advance()
	if p.tok.kind != text {
		p.wrong(`a path in quotes after #include`)
		p.sync(true)
		return
	}
	p.file.includes = append(p.file.includes, includeStatement{path: p.tok.text, at: p.tok.at})
	p.advance()
}

func (p *parser) module() {
	doc := p.tok.doc
	p.advance()
	id, ok := p.ident("a name for the module")
	if ok {
		ok = p.want("{", "after the module's name")
	}
	if !ok {
		p.sync(true)
		return
	}
	id.doc = doc
	m := &module{ident: id, file: p.file}
	p.file.modules = append(p.file.modules, m)
	for !p.sign("}") && p.tok.kind != endOfFile && p.found < maxFileFaults {
		if p.tok.kind == include {
			p.fail(p.tok.at, "#include stands between modules, and module %s is not closed before it", m.name)
			return
		}
		if !p.declaration(m) {
			p.sync(false)
			if p.sign("}") && p.closesTwo() {
				if p.advance(); p.sign(";") {
					p.advance()
				}
			}
		}
	}
	if p.tok.kind == endOfFile && p.found < maxFileFaults {
		p.fail(p.tok.at, `module %s, which begins at line %d, is not closed; wanted "}"`, m.name, m.at.line)
		return
	}
	if p.sign("}") {
		p.advance()
		p.semicolon(`after the "}" that closes module ` + m.name)
	}
}

// closesTwo says that the brace at hand seems to close a block inside the module: a semicolon and a declaration or
// another brace come behind it. It looks ahead without reading.
func (p *parser) closesTwo() bool {
	ahead := *p.lex
	t := ahead.next()
	if t.kind == punctuation && t.text == ";" {
		t = ahead.next()
	}
	return t.kind == punctuation && t.text == "}" ||
		t.kind == name && slices.Contains([]string{"struct", "enum", "interface", "const", "key"}, t.text)
}

// declaration reads one part of a module.
func (p *parser) declaration(m *module) bool {
	doc := p.tok.doc
	switch {
	case p.word("struct"):
		return p.structure(m, doc)
	case p.word("enum"):
		return p.enum(m, doc)
	case p.word("interface"):
		return p.iface(m, doc)
	case p.word("const"):
		return p.constant()
	case p.word("key"):
		return p.keys()
	case p.word("module"):
		p.fail(p.tok.at, "a module cannot stand inside a module; close %s first", m.name)
		p.advance()
		return false
	}
	return p.wrong(`"struct", "enum", "interface", "const", "key" or "}"`, "struct", "enum", "interface", "const", "key")
}

// constant reads `const type NAME = literal;`. Constants only matter to code that is generated.
func (p *parser) constant() bool {
	p.advance()
	at := p.tok.at
	t, ok := p.typ(0)
	if !ok {
		return false
	}
	if t.elem != nil || t.kind == tarsv1.Type_STRUCT {
		return p.fail(at, "wanted a number, bool or string for a constant, found %s", t)
	}
	if _, ok := p.ident("a name for the constant"); !ok {
		return false
	}
	if !p.want("=", "after the constant's name") {
		return false
	}
	l, ok := p.literal()
	if !ok {
		return false
	}
	if _, why := value(l, t); why != "" {
		return p.fail(l.at, "%s", why)
	}
	return p.semicolon("after the constant")
}

// keys reads `key[Struct, member, ...];`, which orders structs that are keys of maps in C++.
func (p *parser) keys() bool {
	p.advance()
	if !p.want("[", `after "key"`) {
		return false
	}
	for {
		if _, ok := p.ident("a name"); !ok {
			return false
		}
		if p.sign("::") {
			p.advance()
			if _, ok := p.ident("a name"); !ok {
				return false
			}
		}
		if !p.sign(",") {
			break
		}
		p.advance()
	}
	return p.want("]", "after the members of the key") && p.semicolon("after the key")
}

func (p *parser) enum(m *module, doc string) bool {
	p.advance()
	id, ok := p.ident("a name for the enum")
	if !ok || !p.want("{", "after the enum's name") {
		return false
	}
	id.doc = doc
	e := &enum{ident: id, module: m}
	m.decl = append(m.decl, e)
	for !p.sign("}") {
		doc := p.tok.doc
		id, ok := p.ident(`a name for a value, or "}"`)
		if !ok {
			return false
		}
		v := &enumerator{ident: id}
		v.doc = doc
		e.values = append(e.values, v)
		if p.sign("=") {
			p.advance()
			if p.tok.kind == name && !slices.Contains(keywords, p.tok.text) {
				v.alias = p.tok.text
				v.value = &literal{at: p.tok.at, kind: name, text: p.tok.text}
				p.advance()
			} else if v.value, ok = p.literal(); !ok {
				return false
			}
		}
		v.trail = p.trail
		if p.sign(",") {
			if p.advance(); p.trail != "" {
				v.trail = p.trail
			}
			continue
		}
		if !p.sign("}") {
			return p.wrong(`"," or "}" after a value`)
		}
	}
	p.advance()
	return p.semicolon(`after the "}" that closes enum ` + e.name)
}

func (p *parser) structure(m *module, doc string) bool {
	p.advance()
	id, ok := p.ident("a name for the struct")
	if !ok || !p.want("{", "after the struct's name") {
		return false
	}
	id.doc = doc
	s := &structure{ident: id, module: m}
	m.decl = append(m.decl, s)
	for !p.sign("}") && p.tok.kind != endOfFile && p.found < maxFileFaults {
		if !p.member(s) {
			p.sync(false)
		}
	}
	if p.tok.kind == endOfFile && p.found < maxFileFaults {
		return p.fail(p.tok.at, `struct %s, which begins at line %d, is not closed; wanted "}"`, s.name, s.at.line)
	}
	if !p.sign("}") {
		return false
	}
	p.advance()
	return p.semicolon(`after the "}" that closes struct ` + s.name)
}

func (p *parser) member(s *structure) bool {
	f := &member{tagAt: p.tok.at}
	doc := p.tok.doc
	if p.tok.kind != number {
		return p.wrong(`a tag (0 to 255) or "}"`)
	}
	tag, ok := integer(p.tok.text, false)
	if !ok || tag < 0 || tag > maxTag {
		return p.fail(p.tok.at, "wanted a tag from 0 to %d, found %s", maxTag, p.shown())
	}
	f.tag = int(tag)
	p.advance()
	switch {
	case p.word("require"):
		f.require = true
	case !p.word("optional"):
		return p.wrong(`"require" or "optional" after the tag`, "require", "optional")
	}
	p.advance()
	if f.typ, ok = p.typ(0); !ok {
		return false
	}
	if f.ident, ok = p.ident("a name for the member"); !ok {
		return false
	}
	f.doc = doc
	if p.sign("[") && !p.fixed(f) {
		return false
	}
	if p.sign("=") {
		p.advance()
		if f.def, ok = p.literal(); !ok {
			return false
		}
	}
	s.members = append(s.members, f)
	if !p.semicolon("after the member") {
		return false
	}
	f.trail = p.trail
	return true
}

// fixed reads the [N] that makes the member a vector.
func (p *parser) fixed(f *member) bool {
	p.advance()
	n, ok := integer(p.tok.text, false)
	if p.tok.kind != number || !ok || n < 1 || n > 1<<24 {
		return p.wrong("a length from 1 to 16777216")
	}
	p.advance()
	f.length = int(n)
	f.typ = &typ{at: f.typ.at, elem: f.typ}
	return p.want("]", "after the length")
}

func (p *parser) iface(m *module, doc string) bool {
	p.advance()
	id, ok := p.ident("a name for the interface")
	if !ok || !p.want("{", "after the interface's name") {
		return false
	}
	id.doc = doc
	i := &iface{ident: id, module: m}
	m.decl = append(m.decl, i)
	for !p.sign("}") && p.tok.kind != endOfFile && p.found < maxFileFaults {
		if !p.function(i) {
			p.sync(false)
		}
	}
	if p.tok.kind == endOfFile && p.found < maxFileFaults {
		return p.fail(p.tok.at, `interface %s, which begins at line %d, is not closed; wanted "}"`, i.name, i.at.line)
	}
	if !p.sign("}") {
		return false
	}
	p.advance()
	return p.semicolon(`after the "}" that closes interface ` + i.name)
}

func (p *parser) function(i *iface) bool {
	f := &function{}
	doc := p.tok.doc
	var ok bool
	if p.word("void") {
		p.advance()
	} else if f.ret, ok = p.typ(0); !ok {
		return false
	}
	if f.ident, ok = p.ident("a name for the function"); !ok || !p.want("(", "after the function's name") {
		return false
	}
	f.doc = doc
	for !p.sign(")") {
		a := &parameter{}
		switch {
		case p.word("out"):
			a.out = true
			p.advance()
		case p.word("routekey"):
			a.routekey = true
			p.advance()
		}
		if a.typ, ok = p.typ(0); !ok {
			return false
		}
		if a.ident, ok = p.ident("a name for the parameter"); !ok {
			return false
		}
		f.parameters = append(f.parameters, a)
		if p.sign(",") {
			p.advance()
			if p.sign(")") {
				return p.wrong(`a parameter after ","`)
			}
			continue
		}
		if !p.sign(")") {
			return p.wrong(`"," or ")" after a parameter`)
		}
	}
	p.advance()
	i.functions = append(i.functions, f)
	if !p.semicolon("after the function") {
		return false
	}
	f.trail = p.trail
	return true
}

// scalars are the words for types that stand alone.
var scalars = map[string]tarsv1.Type{
	"bool": tarsv1.Type_BOOL, "byte": tarsv1.Type_BYTE, "short": tarsv1.Type_SHORT, "int": tarsv1.Type_INT, "long": tarsv1.Type_LONG,
	"float": tarsv1.Type_FLOAT, "double": tarsv1.Type_DOUBLE, "string": tarsv1.Type_STRING,
}

var unsigned = map[string]tarsv1.Type{
	"byte": tarsv1.Type_UNSIGNED_BYTE, "short": tarsv1.Type_UNSIGNED_SHORT, "int": tarsv1.Type_UNSIGNED_INT,
}

func (p *parser) typ(depth int) (*typ, bool) {
	t := &typ{at: p.tok.at}
	if depth > maxTypeDepth {
		return nil, p.fail(p.tok.at, "vectors and maps nest deeper than %d in one type", maxTypeDepth)
	}
	if p.tok.kind != name {
		return nil, p.wrong("a type")
	}
	word := p.tok.text
	var ok bool
	switch kind := scalars[word]; {
	case kind != 0:
		t.kind = kind
		p.advance()
		return t, true
	case word == "unsigned":
		p.advance()
		if t.kind = unsigned[p.tok.text]; p.tok.kind != name || t.kind == 0 {
			if p.word("long") {
				return nil, p.fail(p.tok.at, `wanted "byte", "short" or "int" after "unsigned", found "long": there is no unsigned long in TARS`)
			}
			return nil, p.wrong(`"byte", "short" or "int" after "unsigned"`, "byte", "short", "int")
		}
		p.advance()
		return t, true
	case word == "vector" || word == "map":
		p.advance()
		if !p.want("<", "after "+strconv.Quote(word)) {
			return nil, false
		}
		if word == "map" {
			if t.key, ok = p.typ(depth + 1); !ok || !p.want(",", "after the type of a map's keys") {
				return nil, false
			}
		}
		if t.elem, ok = p.typ(depth + 1); !ok {
			return nil, false
		}
		return t, p.want(">", "after the type in a "+word)
	case slices.Contains(keywords, word):
		return nil, p.wrong("a type")
	}
	t.kind, t.name = tarsv1.Type_STRUCT, word // or an enum
	p.advance()
	if p.sign("::") {
		p.advance()
		id, ok := p.ident("the name of a type")
		if !ok {
			return nil, false
		}
		t.scope, t.name = t.name, id.name
	}
	return t, true
}

// literal reads a number with its sign, a string, true, false or a name, which may be scoped.
func (p *parser) literal() (*literal, bool) {
	l := &literal{at: p.tok.at}
	if p.sign("-") || p.sign("+") {
		l.negative = p.sign("-")
		p.advance()
		if p.tok.kind != number {
			return nil, p.wrong("a number after the sign")
		}
	}
	if p.tok.kind != number && p.tok.kind != text && p.tok.kind != name {
		return nil, p.wrong("a value")
	}
	if p.tok.kind == name && p.tok.text != "true" && p.tok.text != "false" && slices.Contains(keywords, p.tok.text) {
		return nil, p.wrong("a value")
	}
	l.kind, l.text = p.tok.kind, p.tok.text
	p.advance()
	for l.kind == name && p.sign("::") {
		p.advance()
		id, ok := p.ident("a name")
		if !ok {
			return nil, false
		}
		l.scope = append(l.scope, l.text)
		l.text = id.name
	}
	return l, true
}

// String writes the type as the IDL has it.
func (t *typ) String() string {
	switch {
	case t.mapping():
		return "map<" + t.key.String() + ", " + t.elem.String() + ">"
	case t.vector():
		return "vector<" + t.elem.String() + ">"
	case t.scope != "":
		return t.scope + "::" + t.name
	case t.name != "":
		return t.name
	}
	return strings.ToLower(strings.ReplaceAll(t.kind.String(), "_", " "))
}
