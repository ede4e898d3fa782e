package rpcadapters

import (
	"encoding/base64"
	"strconv"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// ErrorDomain is the domain of every google.rpc.ErrorInfo of the gateway's own.
const ErrorDomain = "causeway"

const typePrefix = "type.googleapis.com/google.rpc."

// plain tells the reasons of errors that a server of the gRPC family would make itself, whoever it serves: callers get them
// from the gateway as they would from the service, with code and message alone. (The suites of the field want it so.)
func plain(reason string) bool {
	switch reason {
	case "", "CARDINALITY", "MALFORMED_MESSAGE", "MESSAGE_TOO_LARGE", "BODY_INCOMPLETE", "UNSUPPORTED_ENCODING", "UNSUPPORTED_VERSION",
		"METHOD_NOT_FOUND", "METHOD_NOT_ALLOWED", "UNSUPPORTED_MEDIA_TYPE", "DEADLINE_EXCEEDED", "CANCELLED", "INTERNAL":
		return true
	}
	return false
}

// AppendDetails appends what a caller of the gRPC family is told of e beside code and message, as encoded
// google.protobuf.Any: the details that e came with, and on errors of the gateway's own a google.rpc.ErrorInfo with the
// reason, unless plain says otherwise, and a google.rpc.BadRequest with the places.
func AppendDetails(dst [][]byte, e *rpc.Error) [][]byte {
	dst = append(dst, e.Details...)
	if e.Bare {
		return dst
	}
	if !plain(e.Reason) {
		info := appendText(nil, 1, e.Reason)
		info = appendText(info, 2, ErrorDomain)
		dst = append(dst, packAny("ErrorInfo", info))
	}
	if len(e.Fields) > 0 {
		var bad, one []byte
		for i := range e.Fields {
			one = appendText(one[:0], 1, e.Fields[i].Field)
			one = appendText(one, 2, e.Fields[i].Description)
			bad = protowire.AppendTag(bad, 1, protowire.BytesType)
			bad = protowire.AppendBytes(bad, one)
		}
		dst = append(dst, packAny("BadRequest", bad))
	}
	return dst
}

func packAny(name string, value []byte) []byte {
	b := appendText(nil, 1, typePrefix+name)
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	return protowire.AppendBytes(b, value)
}

// appendText appends a string field, unless it is empty; what is not UTF-8 in it is replaced, for receivers would refuse
// the whole message.
func appendText(b []byte, n protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	b = protowire.AppendTag(b, n, protowire.BytesType)
	return protowire.AppendString(b, validUTF8(s))
}

// AppendGRPCStatus appends the Status fields of grpc/doc/PROTOCOL-HTTP2.md, "Responses", and grpc-status-details-bin where
// there are details: google.rpc.Status with the same code and message. e nil is OK.
func AppendGRPCStatus(dst rpc.Metadata, e *rpc.Error) rpc.Metadata {
	if e == nil {
		return append(dst, rpc.Pair{Key: "grpc-status", Value: "0"})
	}
	dst = append(dst, rpc.Pair{Key: "grpc-status", Value: strconv.Itoa(int(e.Code))})
	if e.Message != "" {
		dst = append(dst, rpc.Pair{Key: "grpc-message", Value: percentEncoded(validUTF8(e.Message))})
	}
	if details := AppendDetails(nil, e); len(details) > 0 {
		dst = append(dst, rpc.Pair{Key: "grpc-status-details-bin", Value: base64.RawStdEncoding.EncodeToString(appendStatus(nil, e, details))})
	}
	return dst
}

// appendStatus appends an encoded google.rpc.Status.
func appendStatus(b []byte, e *rpc.Error, details [][]byte) []byte {
	if e.Code != codes.OK {
		b = protowire.AppendTag(b, 1, protowire.VarintType)
		b = protowire.AppendVarint(b, uint64(e.Code))
	}
	b = appendText(b, 2, e.Message)
	for _, d := range details {
		b = protowire.AppendTag(b, 3, protowire.BytesType)
		b = protowire.AppendBytes(b, d)
	}
	return b
}

// percentEncoded is Percent-Encoded of grpc/doc/PROTOCOL-HTTP2.md: printable ASCII but % stands for itself.
func percentEncoded(s string) string {
	plain := 0
	for plain < len(s) && s[plain] >= ' ' && s[plain] <= '~' && s[plain] != '%' {
		plain++
	}
	if plain == len(s) {
		return s
	}
	const hex = "0123456789ABCDEF"
	b := append(make([]byte, 0, len(s)+16), s[:plain]...)
	for i := plain; i < len(s); i++ {
		if c := s[i]; c >= ' ' && c <= '~' && c != '%' {
			b = append(b, c)
		} else {
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return string(b)
}

// StandardDetails compiles the messages of google/rpc/error_details.proto and what they import, to show details with whose
// types the schema at hand does not have.
func StandardDetails() (*schema.Schema, error) {
	files := new(protoregistry.Files)
	var add func(fd protoreflect.FileDescriptor) error
	add = func(fd protoreflect.FileDescriptor) error {
		if _, err := files.FindFileByPath(fd.Path()); err == nil {
			return nil
		}
		for i := range fd.Imports().Len() {
			if err := add(fd.Imports().Get(i).FileDescriptor); err != nil {
				return err
			}
		}
		return files.RegisterFile(fd)
	}
	if err := add(errdetails.File_google_rpc_error_details_proto); err != nil {
		return nil, err
	}
	return schema.New(files)
}
