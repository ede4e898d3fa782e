package rest

import (
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/url"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// upload takes a form with files (RFC 7578) apart, whatever its size, in constant memory. The content of a file becomes
// google.api.HttpBody messages of at most chunk bytes; the first of them has the file's content type, the fields of the
// form, which name fields of the request as parameters of a query do, and, where the request has a string field filename
// or file_name that nothing else gives, the file's name. A file without content is one message.
//
// Fields stand in front of the files: when one comes behind a file, that has been passed on without it.
type upload struct {
	body  *formBody
	parts *multipart.Reader
	part  *multipart.Part // the file that is being read
	began bool            // its first message is out
	files int
	given []jsonwire.Param // the fields of the form
	named schema.Path      // the request's field for the name of a file; nil: none
	query []byte           // the fields so far, as a query; nil once they are in given
	count int
}

// Bounds of a form.
const (
	maxFields   = 1_000
	maxFiles    = 10_000
	partHead    = 32 << 10 // bytes around a part: its head, and what stands before the first
	maxBoundary = 70       // RFC 2046 section 5.1.1
)

// isUpload tells a form with files.
func isUpload(contentType string) bool { return mediaType(contentType) == "multipart/form-data" }

// formBody is the body under a form. It keeps its own error, for what mime/multipart makes of that tells less.
type formBody struct {
	read func([]byte) (int, error)
	err  error // not io.EOF
	head int   // bytes that may be read of heads; less than 0: any number, for it is content
}

// Read implements io.Reader.
func (b *formBody) Read(p []byte) (int, error) {
	if b.head == 0 {
		b.err = badList("the head of a part of the form is larger than 32768 bytes")
	}
	if b.err != nil {
		return 0, b.err
	}
	if b.head > 0 && len(p) > b.head {
		p = p[:b.head]
	}
	n, err := b.read(p)
	if b.head > 0 {
		b.head -= n
	}
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	return n, err
}

func newUpload(contentType string, m *schema.Message, read func([]byte) (int, error)) (*upload, error) {
	_, params, err := mime.ParseMediaType(contentType)
	boundary := params["boundary"]
	if err != nil || boundary == "" || len(boundary) > maxBoundary {
		return nil, badList("the content type multipart/form-data has no boundary, or one that cannot be")
	}
	u := &upload{body: &formBody{read: read}}
	u.parts = multipart.NewReader(u.body, boundary)
	for _, name := range [...]string{"filename", "file_name"} {
		path, err := m.Path(name)
		if err == nil && path.Last().Kind == protoreflect.StringKind && path.Last().Cardinality == schema.Singular {
			u.named = path
		}
	}
	return u, nil
}

// recvUpload gives the next piece of a file.
func (s *stream) recvUpload(m *rpc.Message) error {
	c := s.c
	if s.upload == nil {
		if err := c.unpacked(); err != nil {
			return err
		}
		if !c.hold(chunk) {
			return overloaded()
		}
		c.raw = rpc.GetBuffer()
		c.raw.B = append(c.raw.B[:0], make([]byte, chunk)...)
		var err error
		if s.upload, err = newUpload(c.x.HTTP.Header.Get("content-type"), c.Method.Input, s.read); err != nil {
			return err
		}
	}
	u := s.upload
	for {
		if u.part == nil {
			err := u.next(c)
			if err == io.EOF { //nolint:errorlint // wrapped it says that the closing boundary is missing
				if u.files == 0 {
					return badList("the form has no file")
				}
				return io.EOF
			}
			if err != nil {
				return u.fault(err)
			}
		}
		n, err := u.content(c.raw.B)
		if err != nil && !errors.Is(err, io.EOF) {
			return u.fault(err)
		}
		first, name, typ := !u.began, u.part.FileName(), u.part.Header.Get("Content-Type")
		u.began = true
		if err != nil {
			u.part = nil
		}
		if n == 0 && !first {
			continue
		}
		s.got++
		req := jsonwire.Request{Raw: true, Body: c.raw.B[:n]}
		if first {
			if typ == "" {
				typ = string(octets)
			}
			req.ContentType = typ
			req.Params = u.params(c, name)
		}
		return c.request(m, req, s.got)
	}
}

// content fills p from the part, as far as it goes; io.EOF at its end.
func (u *upload) content(p []byte) (n int, err error) {
	u.body.head = -1
	for n < len(p) && err == nil {
		var k int
		k, err = u.part.Read(p[n:])
		n += k
	}
	return n, err
}

// next goes on to the next file, and takes the fields before it in; io.EOF behind the last part.
func (u *upload) next(c *call) error {
	for {
		u.body.head = partHead
		part, err := u.parts.NextRawPart()
		if err != nil {
			return err
		}
		name := part.FormName()
		if part.FileName() != "" {
			if u.files++; u.files > maxFiles {
				return badList("the form has more than 10000 files")
			}
			if u.files == 1 {
				if u.given, err = jsonwire.AppendQuery(nil, c.Method.Input, string(u.query), c.m.Options.JSON, &c.m.Rule.Query); err != nil {
					return badRequest(err)
				}
				u.query = nil
			}
			u.part, u.began = part, false
			return nil
		}
		u.count++
		switch {
		case name == "":
			return badList("a part of the form has no name")
		case u.count > maxFields:
			return badList("the form has more than 1000 fields")
		case u.files > 0:
			return rpc.Refuse(codes.InvalidArgument, "INVALID_REQUEST", "the field %q of the form stands behind a file: send fields first", name)
		}
		u.body.head = -1
		limit := c.m.Options.MaxBody - len(u.query)
		value, err := io.ReadAll(io.LimitReader(part, int64(limit)+1))
		if err != nil {
			return err
		}
		if len(value) > limit {
			return tooLarge(c.m.Options.MaxBody)
		}
		before := len(u.query)
		if before > 0 {
			u.query = append(u.query, '&')
		}
		u.query = append(u.query, url.QueryEscape(name)+"="+url.QueryEscape(string(value))...)
		if !c.hold(2 * (len(u.query) - before)) { // as it is, and as parameters
			return overloaded()
		}
	}
}

// params are what the form gives to the first message of a file.
func (u *upload) params(c *call, name string) []jsonwire.Param {
	if u.named == nil || u.gives(c) {
		return u.given
	}
	return append(slices.Clip(u.given), jsonwire.Param{Field: u.named, Value: name, From: jsonwire.FromQuery})
}

// gives tells whether path, query or form name the file.
func (u *upload) gives(c *call) bool {
	field := u.named.Last()
	for _, p := range u.given {
		if len(p.Field) == 1 && p.Field.Last() == field {
			return true
		}
	}
	for _, v := range c.m.Rule.Vars {
		if len(v) == 1 && v.Last() == field {
			return true
		}
	}
	inQuery, err := jsonwire.AppendQuery(nil, c.Method.Input, c.x.HTTP.Query, c.m.Options.JSON, &c.m.Rule.Query)
	if err != nil {
		return true // which is told of soon
	}
	for _, p := range inQuery {
		if len(p.Field) == 1 && p.Field.Last() == field {
			return true
		}
	}
	return false
}

// fault is the caller's error for what reading a form came back with.
func (u *upload) fault(err error) error {
	if u.body.err != nil {
		return u.body.err
	}
	if e, ok := errors.AsType[*rpc.Error](err); ok {
		return e
	}
	return rpc.Refuse(codes.InvalidArgument, "INVALID_REQUEST", "the form is cut or malformed").WithCause(errors.New(err.Error())) // an io.EOF within it would look like the end of the stream
}
