package rpcadapters

import (
	"context"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

// maxTimeout is what longer requests are cut to: a caller's "for ever" must not overflow.
const maxTimeout = 24 * time.Hour

// SetDeadline has the call end timeout after the head of x was read; 0: never. The context is the call's from then on.
// cancel is called when the call is over.
func SetDeadline(ctx context.Context, x *wire.Exchange, timeout time.Duration) (call context.Context, cancel context.CancelFunc) {
	if timeout == 0 {
		return ctx, nothing
	}
	x.SetDeadline(x.Start.Add(timeout))
	if _, own := ctx.(*wire.Context); own {
		return ctx, nothing // it is the exchange's, which the engine ends
	}
	return context.WithDeadline(ctx, x.Deadline)
}

func nothing() {}

// Timeout returns the smallest of limit (0: none), Grpc-Timeout, Connect-Timeout-Ms and X-Request-Timeout; 0: no limit. A caller's zero or
// negative timeout has passed already: the error is DEADLINE_EXCEEDED. A malformed one is INVALID_ARGUMENT.
func Timeout(headers rpc.Metadata, limit time.Duration) (time.Duration, error) {
	for _, h := range headers {
		var d time.Duration
		var ok bool
		var form string
		switch h.Key {
		case "grpc-timeout":
			d, ok = parseGRPCTimeout(h.Value)
			form = "one to eight digits and a unit (H, M, S, m, u, n), like 500m"
		case "connect-timeout-ms":
			d, ok = parseConnectTimeout(h.Value)
			form = "one to ten digits, milliseconds, like 500"
		case "x-request-timeout":
			d, ok = parseRequestTimeout(h.Value)
			form = "seconds or a duration, like 1.5 or 500ms"
		default:
			continue
		}
		if !ok {
			return 0, rpc.Refuse(codes.InvalidArgument, "INVALID_TIMEOUT", "header %q: want %s", h.Key, form)
		}
		if d <= 0 {
			return 0, rpc.Refuse(codes.DeadlineExceeded, "DEADLINE_EXCEEDED", "the caller's deadline had passed when the call arrived")
		}
		if d > maxTimeout {
			d = maxTimeout
		}
		if limit == 0 || d < limit {
			limit = d
		}
	}
	return limit, nil
}

// parseGRPCTimeout reads the Timeout production of grpc/doc/PROTOCOL-HTTP2.md.
func parseGRPCTimeout(s string) (time.Duration, bool) {
	if len(s) < 2 || len(s) > 9 {
		return 0, false
	}
	var unit time.Duration
	switch s[len(s)-1] {
	case 'H':
		unit = time.Hour
	case 'M':
		unit = time.Minute
	case 'S':
		unit = time.Second
	case 'm':
		unit = time.Millisecond
	case 'u':
		unit = time.Microsecond
	case 'n':
		unit = time.Nanosecond
	default:
		return 0, false
	}
	var n int64
	for i := range len(s) - 1 {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	if n > int64(maxTimeout/unit) {
		return maxTimeout, true
	}
	return time.Duration(n) * unit, true
}

// parseConnectTimeout reads Timeout-Milliseconds of https://connectrpc.com/docs/protocol/#unary-request.
func parseConnectTimeout(s string) (time.Duration, bool) {
	if len(s) == 0 || len(s) > 10 {
		return 0, false
	}
	var n int64
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	return time.Duration(n) * time.Millisecond, true
}

func parseRequestTimeout(s string) (time.Duration, bool) {
	if len(s) == 0 || len(s) > 32 {
		return 0, false
	}
	if last := s[len(s)-1]; last >= '0' && last <= '9' || last == '.' {
		f, err := strconv.ParseFloat(s, 64)
		switch {
		case err != nil || f != f:
			return 0, false
		case f > maxTimeout.Seconds():
			return maxTimeout, true
		case f <= 0:
			return 0, true
		}
		return max(time.Duration(f*float64(time.Second)), 1), true
	}
	d, err := time.ParseDuration(s)
	return d, err == nil
}
