package proxy_test

import (
	"context"
	"strings"
	"testing"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// Who calls is the last address that no trusted proxy vouches for being its own; what stands in front of it is hearsay.
func TestClientBehindTrustedProxies(t *testing.T) {
	s := &spy{name: "spy"}
	var got string
	s.handle = func(next rpc.Handler, ctx context.Context, c *rpc.Call) error {
		got = c.Address().String() + " " + c.HTTP.Scheme + " " + c.Header.Get("x-forwarded-for") + " | " + c.Header.Get("x-real-ip")
		return next.Handle(ctx, c)
	}
	b := mustBench(t, document+`plugins: [{name: spy}]
trusted_proxies: [10.0.0.0/8, "2001:db8::1", 192.0.2.9, "::ffff:172.16.0.0/108"]
defaults: {request_headers: [x-forwarded-for, x-real-ip]}
`, s.kind())
	for _, tc := range []struct {
		peer, forwarded, proto, want string
	}{
		{"203.0.113.7", "", "", "203.0.113.7 http 203.0.113.7 | 203.0.113.7"},
		{"203.0.113.7", "10.0.0.1", "https", "203.0.113.7 http 203.0.113.7 | 203.0.113.7"},
		{"10.0.0.1", "", "", "10.0.0.1 http 10.0.0.1 | 10.0.0.1"},
		{"10.0.0.1", "203.0.113.7", "https", "203.0.113.7 https 203.0.113.7, 10.0.0.1 | 203.0.113.7"},
		{"10.0.0.1", "1.1.1.1, 203.0.113.7", "ftp", "203.0.113.7 http 203.0.113.7, 10.0.0.1 | 203.0.113.7"},
		{"10.0.0.1", "203.0.113.7, 10.9.9.9", "", "203.0.113.7 http 203.0.113.7, 10.0.0.1 | 203.0.113.7"},
		{"10.0.0.1", "203.0.113.7,192.0.2.9 ,10.9.9.9", "", "203.0.113.7 http 203.0.113.7, 10.0.0.1 | 203.0.113.7"},
		{"10.0.0.1", "203.0.113.7:4711", "", "203.0.113.7 http 203.0.113.7, 10.0.0.1 | 203.0.113.7"},
		{"10.0.0.1", "[2001:db8::2]:80", "", "2001:db8::2 http 2001:db8::2, 10.0.0.1 | 2001:db8::2"},
		{"2001:db8::1", "::ffff:203.0.113.7", "", "203.0.113.7 http 203.0.113.7, 2001:db8::1 | 203.0.113.7"},
		{"10.0.0.1", "203.0.113.7, unknown", "", "10.0.0.1 http 10.0.0.1 | 10.0.0.1"},
		{"10.0.0.1", "203.0.113.7, , 10.0.0.2", "", "10.0.0.2 http 10.0.0.2, 10.0.0.1 | 10.0.0.2"},
		{"172.16.0.1", "203.0.113.7", "", "203.0.113.7 http 203.0.113.7, 172.16.0.1 | 203.0.113.7"},
		{"10.0.0.1", "10.0.0.3, 10.0.0.2", "", "10.0.0.3 http 10.0.0.3, 10.0.0.1 | 10.0.0.3"},
	} {
		var header []rpc.Pair
		if tc.forwarded != "" {
			header = append(header, rpc.Pair{Key: "x-forwarded-for", Value: tc.forwarded})
		}
		if tc.proto != "" {
			header = append(header, rpc.Pair{Key: "x-forwarded-proto", Value: tc.proto})
		}
		got = ""
		if v := b.visitFrom(tc.peer, "GET", "/v1/echo/x", "", header...); v.status != 200 || got != tc.want {
			t.Errorf("from %s by %q: want %s, found %d %s", tc.peer, tc.forwarded, tc.want, v.status, got)
		}
	}
	// Two headers are one list.
	if b.visitFrom("10.0.0.1", "GET", "/v1/echo/x", "", rpc.Pair{Key: "x-forwarded-for", Value: "1.1.1.1"}, rpc.Pair{Key: "x-forwarded-for", Value: "203.0.113.8"}); !strings.HasPrefix(got, "203.0.113.8 ") {
		t.Errorf("two headers: found %s", got)
	}
}
