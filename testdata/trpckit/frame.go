// Package trpckit is a tRPC peer for tests, written from the protocol's description alone and without any of the gateway's
// code: frames whose headers are read and written by protobuf's own library, a server with the services of
// testdata/trpc/kit.proto, and a client that sends what a test wants.
package trpckit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// The types of frames, as one number: the frame type and, for streams, what the frame is.
const (
	Unary    = 0
	Init     = 1
	Data     = 2
	Feedback = 3
	Close    = 4
)

// Frame is one frame. Header is the header of a unary frame, or what a frame of a stream holds; nil for Data.
type Frame struct {
	Kind     int
	ID       uint32
	Version  byte
	Header   *dynamicpb.Message
	Body     []byte // of a unary frame, or the payload of Data
	Attached []byte
}

// Headers are the messages of headers by name: Request, Response, Init, Feedback, Close.
var Headers = sync.OnceValues(func() (map[string]protoreflect.MessageDescriptor, error) {
	fd, err := protodesc.NewFile(headerFile(), new(protoregistry.Files))
	if err != nil {
		return nil, err
	}
	out := map[string]protoreflect.MessageDescriptor{}
	for i := range fd.Messages().Len() {
		out[string(fd.Messages().Get(i).Name())] = fd.Messages().Get(i)
	}
	return out, nil
})

type field struct {
	name string
	n    int32
	typ  string // u, i, b, map, or a message
}

func message(name string, fields ...field) *descriptorpb.DescriptorProto {
	m := &descriptorpb.DescriptorProto{Name: &name}
	optional := descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()
	for _, f := range fields {
		fd := &descriptorpb.FieldDescriptorProto{Name: &f.name, Number: &f.n, Label: optional}
		switch f.typ {
		case "u":
			fd.Type = descriptorpb.FieldDescriptorProto_TYPE_UINT32.Enum()
		case "i":
			fd.Type = descriptorpb.FieldDescriptorProto_TYPE_INT32.Enum()
		case "b":
			fd.Type = descriptorpb.FieldDescriptorProto_TYPE_BYTES.Enum()
		case "map":
			fd.Type = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum()
			fd.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
			fd.TypeName = proto.String(".h." + name + ".TransInfoEntry")
			m.NestedType = append(m.NestedType, &descriptorpb.DescriptorProto{
				Name: proto.String("TransInfoEntry"), Options: &descriptorpb.MessageOptions{MapEntry: proto.Bool(true)},
				Field: []*descriptorpb.FieldDescriptorProto{
					{Name: proto.String("key"), Number: proto.Int32(1), Label: optional, Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum()},
					{Name: proto.String("value"), Number: proto.Int32(2), Label: optional, Type: descriptorpb.FieldDescriptorProto_TYPE_BYTES.Enum()},
				},
			})
		default:
			fd.Type = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum()
			fd.TypeName = proto.String(".h." + f.typ)
		}
		m.Field = append(m.Field, fd)
	}
	return m
}

func headerFile() *descriptorpb.FileDescriptorProto {
	return &descriptorpb.FileDescriptorProto{
		Name: proto.String("h.proto"), Package: proto.String("h"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{
			message("Request", field{"version", 1, "u"}, field{"call_type", 2, "u"}, field{"request_id", 3, "u"}, field{"timeout", 4, "u"},
				field{"caller", 5, "b"}, field{"callee", 6, "b"}, field{"func", 7, "b"}, field{"message_type", 8, "u"}, field{"trans_info", 9, "map"},
				field{"content_type", 10, "u"}, field{"content_encoding", 11, "u"}, field{"attachment_size", 12, "u"}),
			message("Response", field{"version", 1, "u"}, field{"call_type", 2, "u"}, field{"request_id", 3, "u"}, field{"ret", 4, "i"}, field{"func_ret", 5, "i"},
				field{"error_msg", 6, "b"}, field{"message_type", 7, "u"}, field{"trans_info", 8, "map"}, field{"content_type", 9, "u"},
				field{"content_encoding", 10, "u"}, field{"attachment_size", 12, "u"}),
			message("RequestMeta", field{"caller", 1, "b"}, field{"callee", 2, "b"}, field{"func", 3, "b"}, field{"message_type", 4, "u"}, field{"trans_info", 5, "map"}),
			message("ResponseMeta", field{"ret", 1, "i"}, field{"error_msg", 2, "b"}),
			message("Init", field{"request_meta", 1, "RequestMeta"}, field{"response_meta", 2, "ResponseMeta"}, field{"init_window_size", 3, "u"},
				field{"content_type", 4, "u"}, field{"content_encoding", 5, "u"}),
			message("Feedback", field{"window_size_increment", 1, "u"}),
			message("Close", field{"close_type", 1, "i"}, field{"ret", 2, "i"}, field{"msg", 3, "b"}, field{"message_type", 4, "u"}, field{"trans_info", 5, "map"}, field{"func_ret", 6, "i"}),
		},
	}
}

func header(name string) *dynamicpb.Message {
	all, err := Headers()
	if err != nil {
		return nil
	}
	return dynamicpb.NewMessage(all[name])
}

// Request makes a unary frame of a client.
func Request(id uint32, fn string, body []byte) *Frame {
	f := &Frame{Kind: Unary, ID: id, Version: 1, Header: header("Request"), Body: body}
	return f.Set("request_id", id).Set("func", fn)
}

// Response makes the answer to a unary frame.
func Response(to *Frame, body []byte) *Frame {
	f := &Frame{Kind: Unary, ID: to.ID, Version: to.Version, Header: header("Response"), Body: body}
	return f.Set("request_id", to.Uint("request_id"))
}

// Open makes the INIT of a client.
func Open(id uint32, fn string, window uint32) *Frame {
	f := &Frame{Kind: Init, ID: id, Header: header("Init")}
	return f.Set("request_meta.func", fn).Set("init_window_size", window)
}

// Opened makes the INIT that a server answers with.
func Opened(id, window uint32, ret int32, msg string) *Frame {
	f := &Frame{Kind: Init, ID: id, Header: header("Init")}
	return f.Set("response_meta.ret", ret).Set("response_meta.error_msg", msg).Set("init_window_size", window)
}

// Message makes a DATA frame.
func Message(id uint32, payload []byte) *Frame { return &Frame{Kind: Data, ID: id, Body: payload} }

// Credit makes a FEEDBACK frame.
func Credit(id, increment uint32) *Frame {
	return (&Frame{Kind: Feedback, ID: id, Header: header("Feedback")}).Set("window_size_increment", increment)
}

// End makes a CLOSE frame: typ 0 is an end, 1 a reset.
func End(id uint32, typ, ret int32, msg string) *Frame {
	return (&Frame{Kind: Close, ID: id, Header: header("Close")}).Set("close_type", typ).Set("ret", ret).Set("msg", msg)
}

// at finds a field by its path.
func (f *Frame) at(path string, mutable bool) (protoreflect.Message, protoreflect.FieldDescriptor) {
	m := f.Header.ProtoReflect()
	for {
		name := path
		rest := ""
		for i := range len(path) {
			if path[i] == '.' {
				name, rest = path[:i], path[i+1:]
				break
			}
		}
		fd := m.Descriptor().Fields().ByName(protoreflect.Name(name))
		if rest == "" {
			return m, fd
		}
		if mutable {
			m = m.Mutable(fd).Message()
		} else {
			m = m.Get(fd).Message()
		}
		path = rest
	}
}

// Set sets a field of the header, and returns the frame. Strings go into fields of bytes.
func (f *Frame) Set(path string, value any) *Frame {
	m, fd := f.at(path, true)
	switch v := value.(type) {
	case string:
		m.Set(fd, protoreflect.ValueOfBytes([]byte(v)))
	case uint32:
		m.Set(fd, protoreflect.ValueOfUint32(v))
	case int32:
		m.Set(fd, protoreflect.ValueOfInt32(v))
	case map[string]string:
		for key, s := range v {
			m.Mutable(fd).Map().Set(protoreflect.ValueOfString(key).MapKey(), protoreflect.ValueOfBytes([]byte(s)))
		}
	}
	return f
}

// Uint reads an unsigned field of the header.
func (f *Frame) Uint(path string) uint32 {
	m, fd := f.at(path, false)
	return uint32(m.Get(fd).Uint()) //nolint:gosec // a uint32
}

// Int reads a signed field.
func (f *Frame) Int(path string) int32 {
	m, fd := f.at(path, false)
	return int32(m.Get(fd).Int()) //nolint:gosec // an int32
}

// Text reads a field of bytes.
func (f *Frame) Text(path string) string {
	m, fd := f.at(path, false)
	return string(m.Get(fd).Bytes())
}

// Info reads trans_info.
func (f *Frame) Info(path string) map[string]string {
	m, fd := f.at(path, false)
	out := map[string]string{}
	m.Get(fd).Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		out[k.String()] = string(v.Bytes())
		return true
	})
	return out
}

// Bytes encodes the frame.
func (f *Frame) Bytes() []byte {
	var meta []byte
	if f.Header != nil {
		if f.Kind == Unary && len(f.Attached) > 0 {
			f.Set("attachment_size", uint32(len(f.Attached))) //nolint:gosec // a test's
		}
		meta, _ = proto.MarshalOptions{Deterministic: true}.Marshal(f.Header) // of its own fields
	}
	b := []byte{0x09, 0x30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, f.Version, 0}
	if f.Kind != Unary {
		b[2], b[3] = 1, byte(f.Kind) //nolint:gosec // one of five
	} else {
		binary.BigEndian.PutUint16(b[8:], uint16(len(meta))) //nolint:gosec // a test's
	}
	binary.BigEndian.PutUint32(b[10:], f.ID)
	b = append(append(append(b, meta...), f.Body...), f.Attached...)
	binary.BigEndian.PutUint32(b[4:], uint32(len(b))) //nolint:gosec // a test's
	return b
}

// Read reads a frame. client tells that the other side is one.
func Read(r io.Reader, client bool) (*Frame, error) {
	head := make([]byte, 16)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	if head[0] != 0x09 || head[1] != 0x30 {
		return nil, fmt.Errorf("magic %x", head[:2])
	}
	total := int(binary.BigEndian.Uint32(head[4:]))
	if total < 16 || total > 64<<20 {
		return nil, fmt.Errorf("length %d", total)
	}
	rest := make([]byte, total-16)
	if _, err := io.ReadFull(r, rest); err != nil {
		return nil, err
	}
	f := &Frame{ID: binary.BigEndian.Uint32(head[10:]), Version: head[14]}
	if head[2] == 1 {
		f.Kind = int(head[3])
		if f.Kind == Data {
			f.Body = rest
			return f, nil
		}
		if f.Kind < Init || f.Kind > Close {
			return nil, fmt.Errorf("stream frame %d", f.Kind)
		}
		f.Header = header([]string{Init: "Init", Feedback: "Feedback", Close: "Close"}[f.Kind])
		return f, proto.Unmarshal(rest, f.Header)
	}
	n := int(binary.BigEndian.Uint16(head[8:]))
	if n > len(rest) {
		return nil, errors.New("the header is longer than the frame")
	}
	f.Header = header("Response")
	if client {
		f.Header = header("Request")
	}
	if err := proto.Unmarshal(rest[:n], f.Header); err != nil {
		return nil, err
	}
	attached := int(f.Uint("attachment_size"))
	if attached > len(rest)-n {
		return nil, errors.New("the attachment is longer than the frame")
	}
	f.Body, f.Attached = rest[n:len(rest)-attached], rest[len(rest)-attached:]
	return f, nil
}
