package echo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"

	"google.golang.org/genproto/googleapis/api/httpbody"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
)

// mirror is the service Mirror of a server, which counts its calls.
type mirror struct {
	echov1.UnimplementedMirrorServer
	s *Server
}

// Show answers with its request.
func (m mirror) Show(_ context.Context, r *echov1.Values) (*echov1.Values, error) {
	m.s.Calls.Add(1)
	return r, nil
}

// Update answers with its request.
func (m mirror) Update(_ context.Context, r *echov1.UpdateRequest) (*echov1.UpdateRequest, error) {
	m.s.Calls.Add(1)
	return r, nil
}

// Upload says what arrived.
func (m mirror) Upload(_ context.Context, r *httpbody.HttpBody) (*echov1.UploadReply, error) {
	m.s.Calls.Add(1)
	sum := sha256.Sum256(r.GetData())
	return &echov1.UploadReply{ContentType: r.GetContentType(), Size: int64(len(r.GetData())), Sha256: hex.EncodeToString(sum[:])}, nil
}

// Store answers with its request.
func (m mirror) Store(_ context.Context, r *echov1.Object) (*echov1.Object, error) {
	m.s.Calls.Add(1)
	return r, nil
}

// Download answers with Pattern.
func (m mirror) Download(_ context.Context, r *echov1.DownloadRequest) (*httpbody.HttpBody, error) {
	m.s.Calls.Add(1)
	return &httpbody.HttpBody{ContentType: r.GetContentType(), Data: Pattern(int(r.GetSize()))}, nil
}

// Pattern is n bytes that hold every byte value.
func Pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8) //nolint:gosec // its low bits are wanted
	}
	return b
}

// Break answers with the status that it is asked for.
func (m mirror) Break(_ context.Context, r *echov1.BreakRequest) (*echov1.Values, error) {
	m.s.Calls.Add(1)
	s := &spb.Status{Code: r.GetCode(), Message: r.GetMessage()}
	for _, d := range r.GetDetails() {
		s.Details = append(s.Details, &anypb.Any{TypeUrl: d.GetTypeUrl(), Value: d.GetValue()})
	}
	return nil, status.FromProto(s).Err()
}
