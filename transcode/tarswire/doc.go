// Package tarswire translates between TARS encoding and protobuf wire bytes over tables compiled from descriptors with the
// options of causeway.tars.v1, with no message object in between.
//
// TARS encoding is written as TarsGo writes it: ascending tags, the smallest integer that holds a number, SIMPLE_LIST for
// vector<byte>. Any order is read. A type that is wider than the declared one is refused, as all SDKs do.
//
// Protobuf has presence where TARS has none: what is absent in TARS arrives with its default from the IDL, and what is
// absent in protobuf is left out when it is optional, written with its default when it is required and has one, and
// otherwise refused, or written as zero when Options say so.
package tarswire

import (
	"strconv"
	"strings"
)

// Options are choices in the translation. The zero value is the default.
type Options struct {
	// Zeros writes required members that are not given and have no default as zero instead of refusing them.
	Zeros bool
	// ReplaceUTF8 puts U+FFFD in the place of bytes that are not UTF-8 in strings, instead of refusing them.
	ReplaceUTF8 bool
	Charset     Charset // of strings in TARS encoding; JSON is UTF-8 whatever it says
	MaxDepth    int     // nesting of structs, vectors and maps; 0: 100
	MaxElements int     // members, elements, keys and values of one message; 0: 100,000
	// MaxOutput bounds the bytes written for one message, since defaults make it larger than what was read. 0: 64 MiB, or four
	// times what was read if that is more.
	MaxOutput int
}

const (
	defaultDepth    = 100
	defaultElements = 100_000
	defaultOutput   = 64 << 20
	// keepScratch is the size in bytes above which pooled scratch is left to the garbage collector.
	keepScratch = 1 << 20
	// maxInput is the largest input in bytes whose offsets fit the tables.
	maxInput = 256 << 20
)

// limits are those for an input of a size in bytes.
func (o *Options) limits(size int) (depth, elements, output int) {
	depth, elements, output = defaultDepth, defaultElements, max(defaultOutput, 4*size)
	if o != nil && o.MaxDepth > 0 {
		depth = o.MaxDepth
	}
	if o != nil && o.MaxElements > 0 {
		elements = o.MaxElements
	}
	if o != nil && o.MaxOutput > 0 {
		output = o.MaxOutput
	}
	return depth, elements, output
}

// Error is a fault in TARS encoding or in wire bytes.
type Error struct {
	Path    string // "req.children[2].weight", by the names of the IDL; "" at the top
	Message string // what was wanted and what was found
}

// Error returns the message with its place.
func (e *Error) Error() string {
	if e.Path == "" {
		return e.Message
	}
	return e.Path + ": " + e.Message
}

// inside puts a name or an index before the path.
func (e *Error) inside(name string) {
	switch {
	case e.Path == "":
		e.Path = name
	case strings.HasPrefix(e.Path, "["):
		e.Path = name + e.Path
	default:
		e.Path = name + "." + e.Path
	}
}

func (e *Error) element(i int) { e.inside("[" + strconv.Itoa(i) + "]") }
