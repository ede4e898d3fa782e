package trpc

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/schema"
	"github.com/causeway-gateway/causeway/transcode/tarswire"
)

// Content types. The others are not sent by any SDK for messages of a schema, or mean one thing here and another there.
const (
	contentProto = 0
	contentJCE   = 1
	contentJSON  = 2
)

var contentNames = []string{contentProto: "pb", contentJCE: "jce", contentJSON: "json"}

// form has the messages of a method in the forms that they may be sent in. Read-only.
type form struct {
	content       uint32 // what requests are sent in
	input, output *schema.Message
	jceIn, jceOut *tarswire.Message // nil where a message has no such form
	jceErr        error             // why
}

// jsonForm is JSON as trpc-go writes it: names as declared, enums as numbers, every field.
var jsonForm = jsonwire.Options{Protobuf: true, EmitUnpopulated: true, EmitNull: true, ProtoNames: true, EnumNumbers: true}

// jsonTaken is what is taken of peers: fields that a newer schema may have are none of our business. trpc-go refuses them in
// requests.
var jsonTaken = jsonwire.Options{Protobuf: true, IgnoreUnknown: true}

// newForm makes the forms of a method. The error is about what requests are to be sent in.
func newForm(m *schema.Method, content string) (*form, error) {
	f := &form{input: m.Input, output: m.Output}
	switch content {
	case "", contentNames[contentProto]:
	case contentNames[contentJSON]:
		f.content = contentJSON
	case contentNames[contentJCE]:
		f.content = contentJCE
	default:
		return nil, fmt.Errorf("content_type %q is not known: want one of pb, json, jce%s", content, schema.DidYouMean(content, contentNames))
	}
	var c tarswire.Compiler
	fn, err := c.Natural(m)
	if f.jceErr = err; err == nil {
		f.jceIn, f.jceOut = fn.In, fn.Out
	}
	if f.content == contentJCE && f.jceErr != nil {
		return nil, fmt.Errorf("content_type jce: %w", f.jceErr)
	}
	return f, nil
}

// errContent says that a content type is not known.
type errContent uint32

func (e errContent) Error() string {
	return fmt.Sprintf("content_type %d is not known here: want 0 (pb), 2 (json), or 1 (jce) where the messages have such a form", uint32(e))
}

// appendWire appends the wire form of a message in a content type.
func (f *form) appendWire(dst, body []byte, content uint32, m *schema.Message, o *jsonwire.Options) ([]byte, error) {
	switch {
	case content == contentProto:
		return append(dst, body...), nil
	case content == contentJSON && len(body) == 0:
		return dst, nil
	case content == contentJSON:
		return jsonwire.AppendWire(dst, body, m, o)
	case content == contentJCE && f.jceErr == nil:
		return tarswire.AppendWire(dst, body, f.jce(m), nil)
	}
	return dst, errContent(content)
}

// appendForm appends a message in a content type.
func (f *form) appendForm(dst, wire []byte, content uint32, m *schema.Message) ([]byte, error) {
	switch {
	case content == contentProto:
		return append(dst, wire...), nil
	case content == contentJSON:
		return jsonwire.AppendJSON(dst, wire, m, &jsonForm)
	case content == contentJCE && f.jceErr == nil:
		return tarswire.AppendTARS(dst, wire, f.jce(m), &tarswire.Options{Zeros: true})
	}
	return dst, errContent(content)
}

func (f *form) jce(m *schema.Message) *tarswire.Message {
	if m == f.input {
		return f.jceIn
	}
	return f.jceOut
}

// invalid is the error of a request that is not what it says.
func invalid(err error) *rpc.Error {
	e := rpc.Refuse(codes.InvalidArgument, "INVALID_REQUEST", "%s", err)
	if je, ok := errors.AsType[*jsonwire.Error](err); ok {
		e.Fields = []rpc.FieldViolation{{Field: je.Path, Description: je.Message}}
	}
	return e
}
