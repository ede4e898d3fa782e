package grpc

import (
	"errors"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// A server that resets the stream when the deadline passes may be faster than the timer of the call's context: grpc-go
// then says DEADLINE_EXCEEDED while the context has not ended. That is no malformed answer.
func TestDeadlineBeforeItsTimer(t *testing.T) {
	err := status.Error(codes.DeadlineExceeded, "stream terminated by RST_STREAM with error code: CANCEL")
	got := (&transport{}).fault(t.Context(), err, sight{sent: true})
	var e *rpc.Error
	if !errors.As(got, &e) {
		t.Fatalf("want an *rpc.Error, found %T", got)
	}
	if e.Code != codes.DeadlineExceeded || e.Reason != "DEADLINE_EXCEEDED" || !e.Executed {
		t.Errorf("want DEADLINE_EXCEEDED of a call that may have run, found %v %s, executed %v", e.Code, e.Reason, e.Executed)
	}
}
