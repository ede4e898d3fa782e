package jsonwire

import (
	"fmt"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// AppendForm appends to dst the parameters of a body of type application/x-www-form-urlencoded, with the grammar and the
// policies of a query. The names are those of m, or of the message in the field that the body is read into; field is nil
// for the whole of m. Captured parameters go into a field of m all the same. The body is copied once.
//
// Such parameters are the body of the request: a path variable goes against them, and Request.Override counts, as with a
// JSON body, and Request.Mask takes its paths from them.
func AppendForm(dst []Param, m *schema.Message, body []byte, field schema.Path, o *Options, q *QueryOptions) ([]Param, error) {
	s := pairs{message: m, above: field, from: FromForm}
	if len(field) > 0 {
		f := field.Last()
		if f.Cardinality != schema.Singular || f.Message == nil {
			return dst, &Error{
				Path:    jsonPath(field),
				Message: fmt.Sprintf("wanted JSON in the body, for field %q is %s and has no fields that a form could name; found a form", f.Name, shapeOf(f)),
			}
		}
		s.message = f.Message
	}
	return s.read(dst, string(body), o, q)
}
