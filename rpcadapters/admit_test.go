package rpcadapters

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

// respondOnly is an engine that takes one answer.
type respondOnly struct{ err error }

func (respondOnly) Read([]byte) (int, error)                         { return 0, nil }
func (r *respondOnly) Respond(_ int, _ rpc.Metadata, _ []byte) error { return r.err }

// A deadline is the engine's business where the context is the exchange's, and a timer's where it is not.
func TestSetDeadline(t *testing.T) {
	own := new(wire.Context)
	own.Reset(t.Context())
	var x wire.Exchange
	for _, tc := range []struct {
		name string
		ctx  context.Context
		own  *wire.Context
	}{{"the exchange's", own, own}, {"another", t.Context(), nil}} {
		t.Run(tc.name, func(t *testing.T) {
			x.Reset(&respondOnly{}, tc.own)
			x.Start = time.Now()
			ctx, cancel := SetDeadline(tc.ctx, &x, time.Hour)
			defer cancel()
			due, ok := ctx.Deadline()
			if !ok || !due.Equal(x.Start.Add(time.Hour)) && due.Sub(x.Start).Round(time.Second) != time.Hour || !x.Deadline.Equal(x.Start.Add(time.Hour)) {
				t.Errorf("deadline %v, %v", due, ok)
			}
			if (ctx == context.Context(own)) != (tc.own != nil) {
				t.Error("want the exchange's own context to stay, and no other")
			}
			x.Reset(&respondOnly{}, tc.own)
			if ctx, cancel := SetDeadline(t.Context(), &x, 0); ctx != t.Context() || !x.Deadline.IsZero() {
				t.Error("want no deadline")
			} else {
				cancel()
			}
		})
	}
}

func TestConnectTimeout(t *testing.T) {
	for value, want := range map[string]time.Duration{"1": time.Millisecond, "1500": 1500 * time.Millisecond, "9999999999": maxTimeout, "0000000001": time.Millisecond} {
		if got, err := Timeout(rpc.Metadata{{Key: "connect-timeout-ms", Value: value}}, 0); err != nil || got != want {
			t.Errorf("%s: found %v, %v", value, got, err)
		}
	}
	for value, code := range map[string]codes.Code{"": 3, "-1": 3, "1s": 3, "12345678901": 3, "1.5": 3, "0": 4} {
		if _, err := Timeout(rpc.Metadata{{Key: "connect-timeout-ms", Value: value}}, 0); rpc.AsError(err).Code != code || err == nil {
			t.Errorf("%q: want %v, found %v", value, code, err)
		}
	}
}

func TestRPCError(t *testing.T) {
	if RPCError(nil) != nil {
		t.Error("want nil to stay nil")
	}
	own := rpc.Refuse(codes.Aborted, "R", "m")
	if RPCError(own) != own {
		t.Error("want an error to stay what it is")
	}
	if e := RPCError(&rpc.Answer{Status: 302, Code: codes.Unauthenticated, Message: "log in", Header: rpc.Metadata{{Key: "location", Value: "/"}}}); e.Code != codes.Unauthenticated || e.Message != "log in" || e.Header.Get("location") != "/" || e.Status != 302 {
		t.Errorf("found %+v", e)
	}
	if e := RPCError(&rpc.Answer{Status: 200, Message: "cached"}); e.Code != codes.Unknown {
		t.Errorf("want an answer that is no error not to look like success, found %+v", e)
	}
	if e := RPCError(context.DeadlineExceeded); e.Code != codes.DeadlineExceeded {
		t.Errorf("found %+v", e)
	}
}

func TestFinished(t *testing.T) {
	broken := errors.New("broken")
	for _, tc := range []struct {
		name   string
		err    *rpc.Error
		werr   error
		status int
		code   codes.Code
		reason string
	}{
		{"success", nil, nil, 200, codes.OK, ""},
		{"an error", rpc.Refuse(codes.Aborted, "R", "m"), nil, 200, codes.Aborted, "R"},
		{"success that was not taken", nil, broken, 499, codes.Canceled, "CLIENT_GONE"},
		{"an error that was not taken", rpc.Refuse(codes.Aborted, "R", "m"), broken, 499, codes.Aborted, "R"},
		{"cancelled", rpc.AsError(context.Canceled), nil, 499, codes.Canceled, "CANCELLED"},
	} {
		var x wire.Exchange
		x.Reset(&respondOnly{}, nil)
		if err := x.Respond(200, nil, []byte("abc")); err != nil {
			t.Fatal(err)
		}
		s := Finished(&x, tc.err, tc.werr)
		if s.Status != tc.status || s.Code != tc.code || s.Reason != tc.reason || s.BytesOut != 3 || s.End.IsZero() || tc.werr != nil && !errors.Is(s.Err, broken) || (s.Err == nil) != (tc.err == nil && tc.werr == nil) {
			t.Errorf("%s: found %+v", tc.name, s)
		}
	}
}

func TestContentType(t *testing.T) {
	for v, want := range map[string]string{"": "", "a/b": "a/b", "A/B; c=D": "a/b", " a/b ;c": "a/b", ";": "", "K/\u212aS\u0130\u017f": "k/\u212as\u0130\u017f", "\u00a0a/b": "\u00a0a/b"} {
		if got := ContentType(v); got != want {
			t.Errorf("%q: want %q, found %q", v, want, got)
		}
	}
}
