package rpcadapters

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

func anyOf(t testing.TB, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func encoded(t testing.TB, m proto.Message) []byte {
	t.Helper()
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// The status that gRPC callers get is what protobuf's own library reads.
func TestAppendGRPCStatus(t *testing.T) {
	own := anyOf(t, &errdetails.RetryInfo{})
	for _, tc := range []struct {
		name    string
		err     *rpc.Error
		code    string
		message string // as it goes over the wire
		details *spb.Status
	}{
		{"success", nil, "0", "", nil},
		{"bare", &rpc.Error{Code: codes.NotFound}, "5", "", nil},
		{"a message", &rpc.Error{Code: codes.Aborted, Message: "a b%\n\u00fc\x7f"}, "10", "a b%25%0A%C3%BC%7F", nil},
		{"a message that is not UTF-8", &rpc.Error{Code: codes.Aborted, Message: "a\xff"}, "10", "a%EF%BF%BD", nil},
		{"a code that is none", &rpc.Error{Code: 99}, "99", "", nil},
		{
			"of the service", &rpc.Error{Code: codes.Unavailable, Message: "m", Details: [][]byte{encoded(t, own)}}, "14", "m",
			&spb.Status{Code: 14, Message: "m", Details: []*anypb.Any{own}},
		},
		{
			"of the gateway", &rpc.Error{
				Code: codes.InvalidArgument, Message: "m", Reason: "R", Details: [][]byte{encoded(t, own)},
				Fields: []rpc.FieldViolation{{Field: "a[0].b", Description: "want c"}, {Description: "\xff"}, {}},
			}, "3", "m",
			&spb.Status{Code: 3, Message: "m", Details: []*anypb.Any{
				own, anyOf(t, &errdetails.ErrorInfo{Reason: "R", Domain: "causeway"}),
				anyOf(t, &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "a[0].b", Description: "want c"}, {Description: "\uFFFD"}, {}}}),
			}},
		},
		{"as any server would make it", rpc.Refuse(codes.Unimplemented, "CARDINALITY", "m"), "12", "m", nil},
		{"of the gateway, bare", &rpc.Error{Code: codes.InvalidArgument, Message: "m", Reason: "R", Bare: true}, "3", "m", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := AppendGRPCStatus(nil, tc.err)
			if got.Get("grpc-status") != tc.code || got.Get("grpc-message") != tc.message || got.Has("grpc-message") != (tc.message != "") {
				t.Errorf("found %v", got)
			}
			if tc.details == nil {
				if got.Has("grpc-status-details-bin") {
					t.Errorf("want no details, found %v", got)
				}
				return
			}
			raw, err := base64.RawStdEncoding.DecodeString(got.Get("grpc-status-details-bin"))
			if err != nil {
				t.Fatal(err)
			}
			var st spb.Status
			if err := proto.Unmarshal(raw, &st); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.details, &st, protocmp.Transform()); d != "" {
				t.Errorf("details (-want +found):\n%s", d)
			}
		})
	}
}

// A message is printable ASCII on the wire, and decodes to itself.
func FuzzPercentEncoded(f *testing.F) {
	f.Add("plain")
	f.Add("100% \u00fc\n")
	f.Fuzz(func(t *testing.T, s string) {
		got := percentEncoded(s)
		for i := range len(got) {
			if got[i] < ' ' || got[i] > '~' {
				t.Errorf("%q has the byte %#x", got, got[i])
			}
		}
		if back, err := url.PathUnescape(got); err != nil || back != s {
			t.Errorf("%q became %q and %q, %v", s, got, back, err)
		}
		if v := validUTF8(s); !utf8.ValidString(v) || utf8.ValidString(s) && v != s {
			t.Errorf("%q became %q", s, v)
		}
	})
}

func TestStandardDetails(t *testing.T) {
	s, err := StandardDetails()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"google.rpc.ErrorInfo", "google.rpc.BadRequest", "google.rpc.RetryInfo", "google.protobuf.Duration"} {
		if _, ok := s.Message(name); !ok {
			t.Errorf("no %s", name)
		}
	}
}

func TestAppendResponseMetadata(t *testing.T) {
	md := rpc.Metadata{
		{Key: "a", Value: "1"},
		{Key: "a", Value: "2"},
		{Key: "b-bin", Value: "\x00\xff"},
		{Key: "grpc-status", Value: "0"},
		{Key: "connect-x", Value: "y"},
		{Key: "content-type", Value: "t"},
		{Key: "x-consumer", Value: "c"},
		{Key: "connection", Value: "close"},
		{Key: "transfer-encoding", Value: "chunked"},
		{Key: ":status", Value: "200"},
		{Key: "", Value: "x"},
	}
	want := rpc.Metadata{{Key: "trailer-a", Value: "1"}, {Key: "trailer-a", Value: "2"}, {Key: "trailer-b-bin", Value: "AP8"}}
	if d := cmp.Diff(want, AppendResponseMetadata(nil, md, "trailer-")); d != "" {
		t.Errorf("-want +found:\n%s", d)
	}
	for i := range want {
		want[i].Key = strings.TrimPrefix(want[i].Key, "trailer-")
	}
	if d := cmp.Diff(want, AppendResponseMetadata(nil, md, "")); d != "" {
		t.Errorf("-want +found:\n%s", d)
	}
}
