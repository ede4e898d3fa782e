package jsonwire

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// QueryOptions are a route's choices for its query and its form bodies. The zero value refuses what it does not know.
type QueryOptions struct {
	// Unknown says what becomes of a parameter that names no field.
	Unknown UnknownPolicy
	// Capture is the field of the request that keeps such parameters with CaptureUnknown; CaptureField finds it.
	Capture schema.Path
	// Unbound says that the body is the whole message, so that no parameter of the query stands for a field: all are
	// unknown. It does not concern forms.
	Unbound bool
	// GRPCGateway takes what grpc-gateway's generated handlers take:
	//   - A parameter for a field that Bound binds, or for a part of it, is dropped.
	//   - Parameters that name no field are dropped, unless they are captured; with Unbound, so are all.
	//   - AppendPath splits the value for a repeated field at commas, their default (repeated_path_param_separator=csv).
	//
	// What else they do is not in the query: a body sent to a GET is read and ignored; the path wins over the body
	// (Request.Override); PATCH fills a FieldMask unless the body is "*" (Request.Mask, MaskField); a POST of a form to the
	// path of a GET is answered like the GET with the form as its query (runtime.WithDisablePathLengthFallback).
	GRPCGateway bool
	// Bound are the fields of the path's variables and the field of the body, for GRPCGateway.
	Bound []schema.Path
}

// UnknownPolicy says what becomes of parameters that name no field.
type UnknownPolicy uint8

// The policies for unknown parameters.
const (
	RefuseUnknown UnknownPolicy = iota
	IgnoreUnknown
	CaptureUnknown
)

// AppendQuery appends to dst the parameters of a raw query string (application/x-www-form-urlencoded, pairs divided by &
// alone), each resolved to a field of m: by JSON or declared name, with dots between a message and its field, and for a
// map with the key in brackets, as in labels[a.b]=value or address.labels[7]=value; the key reaches to the last bracket.
// Names may be percent-encoded. Values are substrings of query where nothing is encoded in them. It allocates for encoded
// text and dotted names only.
//
// Refused, with an *Error, are names that m does not have, unless q says otherwise; names that m has, written in a way
// that does not fit the field; percent-encoding that is none; and text that is not UTF-8. dst is then returned as it was.
// o and q may be nil; of o only the limits count.
func AppendQuery(dst []Param, m *schema.Message, query string, o *Options, q *QueryOptions) ([]Param, error) {
	s := pairs{message: m, from: FromQuery}
	return s.read(dst, query, o, q)
}

// AppendPath appends to dst what a variable of the path gives for a field: one parameter, or for a repeated field under
// grpc-gateway's conventions one for each part between commas.
func AppendPath(dst []Param, field schema.Path, value string, q *QueryOptions) []Param {
	if q == nil || !q.GRPCGateway || field.Last().Cardinality != schema.Repeated {
		return append(dst, Param{Field: field, Value: value, From: FromPath})
	}
	for part := range strings.SplitSeq(value, ",") {
		dst = append(dst, Param{Field: field, Value: part, From: FromPath})
	}
	return dst
}

// pairs reads the pairs of a query or form.
type pairs struct {
	message *schema.Message
	above   schema.Path // of the message in the request
	from    Source
	depth   int // of the fields of message
}

func (s *pairs) read(dst []Param, text string, o *Options, q *QueryOptions) ([]Param, error) {
	maxDepth, maxElements := o.limits()
	if s.depth = maxDepth - len(s.above); q == nil {
		q = &QueryOptions{}
	}
	out := dst
	for len(text) > 0 {
		pair, rest, _ := strings.Cut(text, "&")
		text = rest
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err := s.decoded(name)
		if err != nil {
			return dst, err
		}
		if value, err = s.decoded(value); err != nil {
			return dst, err
		}
		a, why, ok := s.field(name, q)
		switch {
		case ok:
		case why.wrong != "":
			return dst, &Error{Path: shownName(name), Message: "a parameter of the " + s.from.String() + " is refused: " + why.wrong}
		case q.Unknown == CaptureUnknown && len(q.Capture) > 0:
			a = Param{Field: q.Capture, Key: name, Captured: true}
		case q.Unknown == IgnoreUnknown || q.GRPCGateway:
			continue
		default:
			return dst, &Error{Path: shownName(name), Message: "a parameter of the " + s.from.String() + " names no field: " + why.unknown()}
		}
		if q.GRPCGateway && ok && s.bound(a.Field, q) {
			continue
		}
		if len(out)-len(dst) >= maxElements {
			return dst, &Error{Message: fmt.Sprintf("wanted at most %d parameters in the %s, found more", maxElements, s.from)}
		}
		a.Value, a.From = value, s.from
		out = append(out, a)
	}
	return out, nil
}

// bound says whether a field is one that the path or the body's field binds, or below one. A form is the body itself.
func (s *pairs) bound(path schema.Path, q *QueryOptions) bool {
	if s.from == FromForm {
		return false
	}
	for _, b := range q.Bound {
		if len(path) >= len(b) && isPrefix(b, path) {
			return true
		}
	}
	return false
}

func isPrefix(b, path schema.Path) bool {
	for i, f := range b {
		if path[i] != f {
			return false
		}
	}
	return true
}

// unfit says why a name does not stand for a field.
type unfit struct {
	wrong string          // the message has the field, but not in this form; "": it has none
	in    *schema.Message // that has no such field; nil: nothing of a query has one
	part  string          // of the name
}

// unknown is the text for a name that no field has. It is made for those that are refused only.
func (u *unfit) unknown() string {
	if u.in == nil {
		return "the body is the whole message here, so that a query binds to nothing"
	}
	return fmt.Sprintf("%s has no field %q%s", u.in.Name, shownName(u.part), schema.DidYouMean(u.part, u.in.FieldNames()))
}

// field finds the field that a name stands for.
func (s *pairs) field(name string, q *QueryOptions) (_ Param, why unfit, ok bool) {
	if q.Unbound && s.from == FromQuery {
		return Param{}, unfit{}, false
	}
	at, rest := s.message, name
	var path schema.Path
	if f := at.ByNameString(name); f != nil {
		if f.Cardinality == schema.Map {
			return Param{}, unfit{wrong: asEntry(f, name)}, false
		}
		return s.param(f.Self, ""), unfit{}, true
	}
	for {
		part, sep, after := cutName(rest)
		f := at.ByNameString(part)
		if f == nil {
			return Param{}, unfit{in: at, part: part}, false
		}
		if len(path) >= s.depth {
			return Param{}, unfit{wrong: fmt.Sprintf("nested deeper than %d levels", s.depth)}, false
		}
		if path == nil {
			path = f.Self[:1:1] // a longer path is a copy
		} else {
			path = append(path, f)
		}
		until := name[:len(name)-len(rest)+len(part)]
		switch {
		case sep == 0 && f.Cardinality == schema.Map:
			return Param{}, unfit{wrong: asEntry(f, until)}, false
		case sep == 0:
			return s.param(path, ""), unfit{}, true
		case sep == '[' && f.Cardinality == schema.Map && strings.HasSuffix(after, "]"):
			return s.param(path, after[:len(after)-1]), unfit{}, true
		case sep == '[' && f.Cardinality == schema.Map, sep == '.' && f.Cardinality == schema.Map:
			return Param{}, unfit{wrong: asEntry(f, until)}, false
		case sep == '[':
			return Param{}, unfit{wrong: fmt.Sprintf("field %q of %s is %s, and only a map is given by key%s", f.Name, at.Name, f.Shape(), asValue(f, until))}, false
		case f.Cardinality != schema.Singular || f.Message == nil:
			return Param{}, unfit{wrong: fmt.Sprintf("field %q of %s is %s, so it has no field %q", f.Name, at.Name, f.Shape(), shownName(after))}, false
		}
		at, rest = f.Message, after
	}
}

// param is the parameter for a field below the message that is read.
func (s *pairs) param(path schema.Path, key string) Param {
	if len(s.above) > 0 {
		path = append(slices.Clip(s.above), path...)
	}
	return Param{Field: path, Key: key}
}

// cutName splits a name at the first dot or bracket. A bracket where a name begins belongs to an extension's name.
func cutName(name string) (part string, sep byte, rest string) {
	from := 0
	if strings.HasPrefix(name, "[") {
		if from = strings.IndexByte(name, ']'); from < 0 {
			return name, 0, ""
		}
	}
	i := strings.IndexAny(name[from:], ".[")
	if i < 0 {
		return name, 0, ""
	}
	i += from
	return name[:i], name[i], name[i+1:]
}

// asEntry says how a map is given.
func asEntry(f *schema.Field, name string) string {
	return fmt.Sprintf("field %q of %s is %s and given entry by entry, as in %s[key]=value", f.Name, f.Parent.Name, shapeOf(f), shownName(name))
}

// asValue says how a field that is no map is given.
func asValue(f *schema.Field, name string) string {
	switch {
	case f.Cardinality == schema.Repeated && (f.Message == nil || f.Message.WellKnown != schema.NotWellKnown):
		return fmt.Sprintf(": write %s=value once for each element", shownName(name))
	case f.Message != nil && f.Cardinality == schema.Singular && f.Message.WellKnown == schema.NotWellKnown && len(f.Message.Fields) > 0:
		return fmt.Sprintf(": write %s.%s=value", shownName(name), f.Message.Fields[0].Name)
	case f.Message != nil && f.Message.WellKnown == schema.NotWellKnown:
		return ""
	default:
		return fmt.Sprintf(": write %s=value", shownName(name))
	}
}

// shownName is a name as messages show it.
func shownName(name string) string {
	const longest = 128
	return string(validPrefix([]byte(name[:min(len(name), longest)]), longest))
}

// decoded resolves percent-encoding and plus signs.
func (s *pairs) decoded(text string) (string, error) {
	if strings.IndexByte(text, '%') >= 0 || strings.IndexByte(text, '+') >= 0 {
		d, err := url.QueryUnescape(text)
		if err != nil {
			return "", &Error{Message: fmt.Sprintf("wanted percent-encoding in the %s, found %q", s.from, shortQuery(text))}
		}
		text = d
	}
	if !utf8.ValidString(text) {
		return "", &Error{Message: fmt.Sprintf("wanted UTF-8 in the %s, found %q", s.from, shortQuery(text))}
	}
	return text, nil
}

func shortQuery(s string) string {
	const longest = 64
	if len(s) > longest {
		return s[:longest] + "..."
	}
	return s
}
