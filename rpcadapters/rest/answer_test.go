package rest

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

func newFace(t testing.TB) *Face {
	t.Helper()
	f, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func packed(t testing.TB, m proto.Message) []byte {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := proto.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestErrorBody(t *testing.T) {
	f := newFace(t)
	foreign, err := proto.Marshal(&anypb.Any{TypeUrl: "type.googleapis.com/acme.Unknown", Value: []byte{1, 2, 255}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		err  *rpc.Error
		want string
	}{
		{"bare", &rpc.Error{Code: codes.NotFound, Message: `no "x"`}, `{"code":5,"message":"no \"x\"","details":[]}`},
		{
			"made here", rpc.Refuse(codes.NotFound, "ROUTE_NOT_FOUND", "no route"),
			`{"code":5,"message":"no route","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"ROUTE_NOT_FOUND","domain":"causeway"}]}`,
		},
		{"standard details without a schema", &rpc.Error{Code: codes.Unavailable, Details: [][]byte{
			packed(t, &errdetails.RetryInfo{RetryDelay: durationpb.New(1500000000)}),
			packed(t, &errdetails.QuotaFailure{Violations: []*errdetails.QuotaFailure_Violation{{Subject: "s"}}}),
		}}, `{"code":14,"message":"","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1.500s"},` +
			`{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"subject":"s"}]}]}`},
		{
			"an unknown type keeps its bytes", &rpc.Error{Code: codes.Internal, Details: [][]byte{foreign}},
			`{"code":13,"message":"","details":[{"@type":"type.googleapis.com/acme.Unknown","value":"AQL/"}]}`,
		},
		{
			"places", &rpc.Error{Code: codes.InvalidArgument, Message: "m", Reason: "R", Fields: []rpc.FieldViolation{{Field: "a[0].b", Description: "want c"}}},
			`{"code":3,"message":"m","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"R","domain":"causeway"},` +
				`{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{"field":"a[0].b","description":"want c"}]}]}`,
		},
		{"text that is not UTF-8", &rpc.Error{Code: codes.Unknown, Message: "a\xffb"}, "{\"code\":2,\"message\":\"a\uFFFDb\",\"details\":[]}"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, string(f.appendStatus(nil, tc.err, nil, false))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Whatever an upstream sends as a detail, the body is JSON with the error's own code.
func FuzzErrorBody(f *testing.F) {
	face := newFace(f)
	f.Add(packed(f, &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "f"}}}), "message")
	f.Add([]byte("\x0a\xff"), "\xff")
	f.Add([]byte{0x0a, 0x02, 0xff, 0xfe, 0x12, 0x01, 0x00}, "")
	f.Fuzz(func(t *testing.T, detail []byte, message string) {
		var got struct{ Code int }
		raw := face.appendStatus(nil, &rpc.Error{Code: codes.Aborted, Message: message, Details: [][]byte{detail, detail}}, nil, false)
		if err := json.Unmarshal(raw, &got); err != nil || got.Code != int(codes.Aborted) {
			t.Errorf("want JSON with code 10, found %v: %s", err, raw)
		}
	})
}

// Media types and codings are names in ASCII: what only Unicode folds to one is none.
func TestNamesAreASCII(t *testing.T) {
	for v, want := range map[string]form{
		"Application/X-NDJSON": linesForm, "applicat\u0130on/x-ndjson": arrayForm, "application/x-ndj\u017fon": arrayForm,
		"Text/Event-Stream": eventsForm, "text/event-\u017ftream": arrayForm,
	} {
		if got := formOf(v); got != want {
			t.Errorf("%q: want form %d, found %d", v, want, got)
		}
	}
	for v, taken := range map[string]bool{"Application/JSON": true, "application/j\u017fon": false, "applicat\u0130on/json": false} {
		c := &call{x: &wire.Exchange{HTTP: rpc.HTTP{Header: rpc.Metadata{{Key: "content-type", Value: v}}}}}
		if _, err := c.contentKind(false); (err == nil) != taken {
			t.Errorf("%q: %v", v, err)
		}
	}
}
