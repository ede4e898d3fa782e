package tarsidl

import tarsv1 "github.com/causeway-gateway/causeway/protos/causeway/tars/v1"

// file is a parsed file.
type file struct {
	name, path string
	includes   []includeStatement
	modules    []*module
}

type includeStatement struct {
	path string
	at   position
}

// module is one `module` block; a module may have several.
type module struct {
	ident
	file *file
	decl []declaration
}

// ident is a name with its place and comments.
type ident struct {
	name       string
	at         position
	doc, trail string
}

// declaration is an enum, struct or interface.
type declaration interface{ id() *ident }

func (i *ident) id() *ident { return i }

type enum struct {
	ident
	module *module
	values []*enumerator
}

type enumerator struct {
	ident
	value *literal // nil: one more than the one before
	alias string   // the name of an earlier one

	number int32 // once resolved
}

type structure struct {
	ident
	module  *module
	members []*member
}

type member struct {
	ident
	tag     int
	tagAt   position
	require bool
	typ     *typ
	length  int // N of name[N], 0 without
	def     *literal
}

type iface struct {
	ident
	module    *module
	functions []*function
}

type function struct {
	ident
	ret        *typ // nil: void
	parameters []*parameter
}

type parameter struct {
	ident
	out, routekey bool
	typ           *typ
}

// typ is a type as it is written, with what it names once resolved.
type typ struct {
	kind      tarsv1.Type // WRAPPED is not used here: vectors and maps say what they are by elem and key
	at        position
	scope     string // of M::N
	name      string // of a struct or enum
	elem, key *typ   // vector: elem; map: both

	enum   *enum
	strukt *structure
}

func (t *typ) vector() bool { return t.elem != nil && t.key == nil }

func (t *typ) mapping() bool { return t.key != nil }

// literal is a value in the text.
type literal struct {
	at       position
	kind     tokenKind // name, number or text
	text     string    // without sign
	negative bool
	scope    []string // of M::VALUE
}
