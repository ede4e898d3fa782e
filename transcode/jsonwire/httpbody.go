package jsonwire

import (
	"fmt"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// The fields of google.api.HttpBody. Its third, the extensions, has no place in HTTP.
const (
	httpBodyType = 1
	httpBodyData = 2
)

// IsHTTPBody says whether m is google.api.HttpBody, with the fields that it must have: a message that stands for the body
// of a request or an answer as it is, with its content type.
func IsHTTPBody(m *schema.Message) bool {
	if m == nil || m.Name != "google.api.HttpBody" {
		return false
	}
	contentType, data := m.ByNumber(httpBodyType), m.ByNumber(httpBodyData)
	return contentType != nil && contentType.Kind == protoreflect.StringKind && contentType.Cardinality == schema.Singular &&
		data != nil && data.Kind == protoreflect.BytesKind && data.Cardinality == schema.Singular
}

// AppendHTTPBody appends to dst the wire form of a google.api.HttpBody. The content type is refused, with an *Error, when
// it could not stand in a header; dst is then returned as it was.
func AppendHTTPBody(dst []byte, contentType string, data []byte) ([]byte, error) {
	if err := checkContentType(contentType); err != nil {
		return dst, err
	}
	if contentType != "" {
		dst = append(dst, httpBodyType<<3|byte(protowire.BytesType))
		dst = appendVarint(dst, uint64(len(contentType)))
		dst = append(dst, contentType...)
	}
	if len(data) > 0 {
		dst = append(dst, httpBodyData<<3|byte(protowire.BytesType))
		dst = appendVarint(dst, uint64(len(data)))
		dst = append(dst, data...)
	}
	return dst, nil
}

// SplitHTTPBody finds content type and data of the google.api.HttpBody that ends a path in an encoded message; the empty
// path is the message itself. Both are parts of wire, empty where they are not set; the extensions are passed over. The
// error, an *Error, is for bytes that are no message, and for a content type that could not stand in a header.
func SplitHTTPBody(wire []byte, path schema.Path) (contentType, data []byte, err error) {
	b := splitBody{}
	if !b.message(wire, path) {
		return nil, nil, &Error{Path: jsonPath(path), Message: "wanted the wire form of google.api.HttpBody, found bytes that are not"}
	}
	if err := checkContentType(view(b.contentType)); err != nil {
		return nil, nil, &Error{Path: joinPath(jsonPath(path), "contentType"), Message: err.Message}
	}
	return b.contentType, b.data, nil
}

// splitBody is what was found of an HttpBody so far: the last one wins.
type splitBody struct{ contentType, data []byte }

func (b *splitBody) message(wire []byte, path schema.Path) bool {
	for len(wire) > 0 {
		num, typ, n := protowire.ConsumeTag(wire)
		if n < 0 {
			return false
		}
		size := protowire.ConsumeFieldValue(num, typ, wire[n:])
		if size < 0 {
			return false
		}
		if !b.field(num, typ, wire[n:n+size], path) {
			return false
		}
		wire = wire[n+size:]
	}
	return true
}

// field takes one field, whose value is well-formed. One of another wire type than its own is an unknown field.
func (b *splitBody) field(num protowire.Number, typ protowire.Type, value []byte, path schema.Path) bool {
	if len(path) == 0 {
		if typ == protowire.BytesType && (num == httpBodyType || num == httpBodyData) {
			content, _ := protowire.ConsumeBytes(value)
			if num == httpBodyType {
				b.contentType = content
			} else {
				b.data = content
			}
		}
		return true
	}
	f := path[0]
	if num != f.Number {
		// Another member of its oneof takes the place of what was there.
		if other := f.Parent.ByNumber(num); f.Oneof >= 0 && other != nil && other.Oneof == f.Oneof && typ == other.Wire {
			*b = splitBody{}
		}
		return true
	}
	switch {
	case typ != f.Wire:
		return true
	case typ == protowire.StartGroupType:
		content, n := protowire.ConsumeGroup(num, value)
		return n >= 0 && b.message(content, path[1:])
	default:
		content, _ := protowire.ConsumeBytes(value)
		return b.message(content, path[1:])
	}
}

// checkContentType refuses what is no text of one line.
func checkContentType(s string) *Error {
	if !utf8.ValidString(s) {
		return &Error{Message: fmt.Sprintf("wanted a content type in UTF-8, found byte 0x%02x", s[len(validPrefix([]byte(s), len(s)))])}
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return &Error{Message: "wanted a content type without control characters, found " + quoteText(s)}
		}
	}
	return nil
}

// rawBody writes the body into the HttpBody that it is read into.
func (g *merge) rawBody(r *Request) error {
	target := r.Message
	if len(r.BodyField) > 0 {
		f := r.BodyField.Last()
		if target = f.Message; f.Cardinality != schema.Singular {
			target = nil
		}
	}
	if !IsHTTPBody(target) {
		return &Error{Path: jsonPath(r.BodyField), Message: "wanted google.api.HttpBody for a body that is not JSON, found another type"}
	}
	if len(r.BodyField) > g.maxDepth {
		return &Error{Path: jsonPath(r.BodyField), Message: fmt.Sprintf("nested deeper than %d levels", g.maxDepth)}
	}
	var outer, l int
	if len(r.BodyField) > 0 {
		var ok bool
		if outer, ok = g.enter(r.BodyField); !ok {
			return &Error{Path: jsonPath(r.BodyField), Message: g.failMsg}
		}
		g.out = appendVarint(g.out, r.BodyField.Last().Tag)
		if r.BodyField.Last().Kind == protoreflect.MessageKind {
			l = g.openLen()
		}
	}
	var err error
	if g.out, err = AppendHTTPBody(g.out, r.ContentType, r.Body); err != nil {
		return err
	}
	if len(r.BodyField) == 0 {
		return nil
	}
	if f := r.BodyField.Last(); f.Kind == protoreflect.GroupKind {
		g.out = appendVarint(g.out, f.EndTag)
	} else {
		g.closeLen(l)
	}
	g.leave(r.BodyField, outer)
	return nil
}
