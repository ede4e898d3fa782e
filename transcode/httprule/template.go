package httprule

import "errors"

// Template is a parsed path template. Read-only.
type Template struct {
	vars []Variable
	text string
}

// Variable is one variable of a template.
type Variable struct {
	Field string // dotted field path, as written
	Multi bool   // it may span several segments
}

// Parse parses a path template.
func Parse(s string) (*Template, error) { return nil, errors.ErrUnsupported }

// String returns the canonical form.
func (t *Template) String() string { return t.text }

// Vars are the template's variables in order.
func (t *Template) Vars() []Variable { return t.vars }
