// Package httprule parses, compiles and matches google.api.http rules: path templates, and what of a request binds to
// which field. The grammar is that of google/api/http.proto ("Path template syntax").
package httprule

import "github.com/causeway-gateway/causeway/transcode/schema"

// Binding is one HTTP rule of a method, compiled. Read-only.
type Binding struct {
	Verb     string // "GET", ..., a custom kind, or "*" for every verb
	Template *Template
	Method   *schema.Method
	// Vars are the fields that the template's variables set, in the template's order. One may be repeated if Options
	// allowed that: its text is then a list divided by commas.
	Vars []schema.Path
	Body Body
	// BodyField is the field that the body is read into when Body is FieldBody.
	BodyField schema.Path
	// ResponseBody is the field of the answer that is sent alone; nil: the whole message (`response_body: "*"`, too).
	ResponseBody schema.Path
}

// Body says what becomes of a request's body.
type Body uint8

// The kinds of body: none is read; the whole message (`body: "*"`); one field.
const (
	NoBody Body = iota
	WholeBody
	FieldBody
)
