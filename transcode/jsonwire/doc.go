// Package jsonwire translates between protobuf's JSON mapping and protobuf wire bytes over a schema's tables, with no
// message object in between, and merges what an HTTP request carries outside its body (path variables, query) into the
// same bytes.
//
// The rule is https://protobuf.dev/programming-guides/json/; protojson with dynamicpb is the oracle in the tests, which
// list where this package decides otherwise, each with its reason.
//
// Messages that were compiled from TARS IDL are written as its users know them. A vector or map inside another one, which is
// a message in protobuf, is an array or object; so it is in a parameter, as JSON text. A map whose keys protobuf does not
// allow is an array of {"key": ..., "value": ...}; both members are always written. What the SDKs of TARS write is read as
// well: such a map as an object whose names are the keys, or the text of their JSON; bytes as an array of numbers, signed or
// not; 1 and 0 as keys of a map of bools; null for a vector inside another one; an enum's value by the name it has in the
// IDL. Options.Protobuf leaves vectors, maps and entries as the messages that they are. Keys of such maps are not compared: of several with one key the servant takes the last.
package jsonwire

import (
	"fmt"
	"strings"
)

// Options are a route's choices in the JSON mapping. The zero value is protobuf's default.
type Options struct {
	EmitUnpopulated bool // write fields without presence also when they are zero
	EmitNull        bool // with EmitUnpopulated, write unset fields with presence that are in no oneof, as null
	ProtoNames      bool // write declared names instead of lowerCamelCase
	EnumNumbers     bool // write enums as numbers
	Int64Numbers    bool // write 64-bit integers as numbers, which JavaScript rounds
	BytesAsArray    bool // write bytes as arrays of numbers from -128 to 127, and read such arrays
	TarsReturn      bool // write the return value of a function of TARS as tars_ret
	Protobuf        bool // messages of TARS as protobuf's mapping has them, for clients that are generated from the exported .proto
	IgnoreUnknown   bool // ignore unknown JSON fields instead of refusing them; for names in a query see QueryOptions
	MaxDepth        int  // nesting; 0: 100
	MaxElements     int  // fields and elements of one message, keys and values of maps apart; 0: 100,000
}

// Error is a fault in JSON, in a parameter or in wire bytes, with its place.
type Error struct {
	Path         string // JSON path, "items[2].price"; "" at the top
	Line, Column int    // 1-based, in bytes; 0 where the fault is not in a JSON body
	Message      string // what was wanted and what was found

	cause error
}

// Unwrap returns the cause that callers may ask for with errors.Is, ErrUnknownType; or nil.
func (e *Error) Unwrap() error { return e.cause }

// Error returns the message with its place.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Line > 0 {
		fmt.Fprintf(&b, "line %d column %d: ", e.Line, e.Column)
	}
	if e.Path != "" {
		fmt.Fprintf(&b, "%s: ", e.Path)
	}
	b.WriteString(e.Message)
	return b.String()
}
