// Package jsonwire translates between protobuf's JSON mapping and protobuf wire bytes over a schema's tables, with no
// message object in between, and merges what an HTTP request carries outside its body (path variables, query) into the
// same bytes.
//
// The rule is https://protobuf.dev/programming-guides/json/; protojson with dynamicpb is the oracle in the tests, which
// list where this package decides otherwise, each with its reason.
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
