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

// What a service says passes, however much it sounds like the transport; what the transport says does not.
func TestWhoseStatusItIs(t *testing.T) {
	for _, tc := range []struct {
		message string
		seen    sight
		want    bool
	}{
		{"received no such order", sight{sent: true, header: true}, true},
		{"grpc: not today", sight{sent: true, header: true}, true},
		{"protocol error in your order", sight{sent: true, header: true}, true},
		{"transport: none on sundays", sight{sent: true, header: true}, true},
		{"unexpected EOF", sight{sent: true, trailersOnly: true}, true},
		{"unexpected EOF", sight{sent: true, header: true}, false},
		{"error reading from server: EOF", sight{sent: true, header: true}, false},
		{"stream terminated by RST_STREAM with error code: INTERNAL_ERROR", sight{sent: true, header: true}, false},
		{"grpc: received message larger than max (5 vs. 4)", sight{sent: true, header: true}, false},
		{"anything", sight{sent: true}, false},
	} {
		if got := tc.seen.fromServer(tc.message); got != tc.want {
			t.Errorf("%q %+v: from the server: want %v, found %v", tc.message, tc.seen, tc.want, got)
		}
	}
}

// Metadata that the service does not take is nobody's outage: it is not tried elsewhere.
func TestMetadataTooLarge(t *testing.T) {
	err := (&transport{}).fault(t.Context(), status.Error(codes.Internal, "header list size to send violates the maximum size (8192 bytes) set by server"), sight{})
	if e := rpc.AsError(err); e.Status != 431 || e.Class != rpc.Framework || e.Reason != "METADATA_TOO_LARGE" {
		t.Errorf("want 431 of class framework, found %+v", e)
	}
}
