package rpcadapters

import (
	"encoding/base64"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

// Every class of header, for both policies, listed and not, plain and by prefix.
func TestRequestMetadataMatrix(t *testing.T) {
	classes := []struct {
		names                         []string
		rest, restListed, all, prefix bool // passes
	}{
		{[]string{"traceparent", "tracestate", "baggage", "b3", "x-b3-traceid", "x-request-id", "user-agent", "accept-language", "authorization"}, true, true, true, true},
		{[]string{"x-tenant", "cache-control", "x-api-version"}, false, true, true, true},
		{[]string{"cookie", "cookie2"}, false, true, false, false},
		{[]string{
			"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host", "expect", "http2-settings", "accept",
			"accept-encoding", "content-type", "content-length", "content-encoding", "x-request-timeout", "proxy-authorization", "grpc-timeout",
			"grpc-encoding", "grpc-status", "connect-protocol-version", "x-consumer", "x-consumer-name", "x_consumer_name", "x-credential-id",
			"x_credential-id", "x-causeway-route", ":authority",
			"forwarded", "x-forwarded-for", "x-forwarded-proto", "x-real-ip", "x_forwarded_for", "x-forwarded_host", "x_real-ip", "via",
		}, false, false, false, false},
	}
	for _, c := range classes {
		for _, name := range c.names {
			for _, tc := range []struct {
				what   string
				key    string
				listed []string
				policy HeaderPolicy
				want   bool
			}{
				{"rest", name, nil, PassListed, c.rest},
				{"rest listed", name, []string{name}, PassListed, c.restListed},
				{"all", name, nil, PassAll, c.all},
				{"prefix", metadataPrefix + name, nil, PassListed, c.prefix && name != "authorization"},
				{"prefix from gRPC", metadataPrefix + name, nil, PassAll, false},
			} {
				t.Run(tc.what+" "+name, func(t *testing.T) {
					md, err := AppendRequestMetadata(nil, rpc.Metadata{{Key: tc.key, Value: "v"}}, tc.listed, tc.policy)
					if err != nil {
						t.Fatal(err)
					}
					if got := md.Get(name) == "v"; got != tc.want || len(md) > 1 {
						t.Errorf("passes: want %v, found %v", tc.want, md)
					}
				})
			}
		}
	}
}

// What a Connection header names is for this hop.
func TestConnectionNamesHeadersOfThisHop(t *testing.T) {
	headers := rpc.Metadata{
		{Key: "authorization", Value: "a"},
		{Key: "traceparent", Value: "b"},
		{Key: "grpc-metadata-x", Value: "c"},
		{Key: "accept-language", Value: "de"},
		{Key: "connection", Value: "keep-alive, Traceparent ,grpc-metadata-x, author\u0130zation, accept-language\u00a0"},
	}
	md, err := AppendRequestMetadata(nil, headers, nil, PassListed)
	want := rpc.Metadata{{Key: "authorization", Value: "a"}, {Key: "accept-language", Value: "de"}}
	if err != nil || !slices.Equal(md, want) {
		t.Errorf("want %v, found %v %v", want, md, err)
	}
}

// A standard header that metadata cannot carry stays behind; the call goes on.
func TestUnprintableStandardHeaderStaysBehind(t *testing.T) {
	md, err := AppendRequestMetadata(nil, rpc.Metadata{{Key: "user-agent", Value: "M\u00fcller/1"}, {Key: "accept-language", Value: "de"}}, nil, PassListed)
	if err != nil || len(md) != 1 || md[0].Key != "accept-language" {
		t.Errorf("want the language alone, found %v %v", md, err)
	}
}

// Where a call came from is what the gateway saw, not what the caller says.
func TestForwardedHeadersAreMadeAnew(t *testing.T) {
	listed := []string{"x-forwarded-for", "x-tenant", "forwarded", "x-forwarded-proto", "x-forwarded-host", "x-real-ip"}
	for peer, want := range map[string]rpc.Metadata{
		"10.1.2.3:99": {
			{Key: "x-forwarded-for", Value: "10.1.2.3"},
			{Key: "forwarded", Value: "for=10.1.2.3;proto=https"},
			{Key: "x-forwarded-proto", Value: "https"},
			{Key: "x-forwarded-host", Value: "a.org"},
			{Key: "x-real-ip", Value: "10.1.2.3"},
		},
		"[2001:db8::1]:99": {
			{Key: "x-forwarded-for", Value: "2001:db8::1"},
			{Key: "forwarded", Value: `for="[2001:db8::1]";proto=https`},
			{Key: "x-forwarded-proto", Value: "https"},
			{Key: "x-forwarded-host", Value: "a.org"},
			{Key: "x-real-ip", Value: "2001:db8::1"},
		},
	} {
		x := &wire.Exchange{Peer: netip.MustParseAddrPort(peer), HTTP: rpc.HTTP{Scheme: "https", Host: "a.org", Header: rpc.Metadata{{Key: "x-forwarded-for", Value: "1.1.1.1"}}}}
		md, err := AppendRequestMetadata(nil, x.HTTP.Header, listed, PassListed)
		if err != nil {
			t.Fatal(err)
		}
		if got := AppendForwarded(md, x, listed); !slices.Equal(got, want) {
			t.Errorf("%s: want %v, found %v", peer, want, got)
		}
	}
}

func TestRequestMetadataRefuses(t *testing.T) {
	for _, h := range []rpc.Pair{
		{Key: "grpc-metadata-a-bin", Value: "!"},
		{Key: "grpc-metadata-a-bin", Value: "AA=A"},
		{Key: "grpc-metadata-a", Value: "\u00fc"},
		{Key: "grpc-metadata-a", Value: "a\x00b"},
		{Key: "grpc-metadata-a", Value: "a\r\nx: y"},
		{Key: "grpc-metadata-a(b", Value: "v"},
	} {
		_, err := AppendRequestMetadata(nil, rpc.Metadata{h}, nil, PassListed)
		if e := rpc.AsError(err); err == nil || e.Code != codes.InvalidArgument || !strings.Contains(e.Message, h.Key) {
			t.Errorf("%q: want INVALID_ARGUMENT naming the header, found %v", h, err)
		}
		md, err := AppendRequestMetadata(nil, rpc.Metadata{h}, nil, PassCarried)
		if binary := strings.HasSuffix(h.Key, "-bin"); len(md) > 0 || (err != nil) != binary {
			t.Errorf("%q: want it to stay behind, and bad base64 refused, found %v %v", h, md, err)
		}
	}
}

// What passes can be metadata: a valid key and value, never a forbidden name.
func FuzzRequestMetadata(f *testing.F) {
	f.Add("grpc-metadata-x", "v", true)
	f.Add("x-consumer-name", "v", false)
	f.Add("grpc-metadata-grpc-metadata-x", "v", true)
	f.Add("a-bin", "AAA", false)
	f.Add("cookie", "a=b", true)
	f.Fuzz(func(t *testing.T, key, value string, all bool) {
		key = strings.ToLower(key)
		policy := PassListed
		if all {
			policy = PassAll
		}
		md, err := AppendRequestMetadata(nil, rpc.Metadata{{Key: key, Value: value}}, nil, policy)
		if err != nil {
			return
		}
		for _, p := range md {
			if !metadataKey(p.Key) || headerClass(p.Key) == never || headerClass(p.Key) == onlyListed {
				t.Errorf("%q passed as %q", key, p.Key)
			}
			if !strings.HasSuffix(p.Key, "-bin") && !Printable(p.Value) {
				t.Errorf("%q passed with the value %q", key, p.Value)
			}
		}
	})
}

func TestResponseHeaders(t *testing.T) {
	got := AppendResponseHeaders(nil, rpc.Metadata{
		{Key: "x-a", Value: "1"},
		{Key: "x-listed", Value: "2"},
		{Key: "x-bin", Value: "\x00\xff"},
		{Key: "connection", Value: "close"},
		{Key: "content-type", Value: "text/html"},
		{Key: "grpc-status", Value: "0"},
		{Key: "x-consumer", Value: "root"},
		{Key: "set-cookie", Value: "a=b"},
	}, []string{"x-listed"}, metadataPrefix)
	want := rpc.Metadata{
		{Key: "grpc-metadata-x-a", Value: "1"},
		{Key: "x-listed", Value: "2"},
		{Key: "grpc-metadata-x-bin", Value: base64.RawStdEncoding.EncodeToString([]byte("\x00\xff"))},
		{Key: "grpc-metadata-set-cookie", Value: "a=b"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("want %v, found %v", want, got)
	}
}

func TestTimeout(t *testing.T) {
	const grpc, own = "grpc-timeout", "x-request-timeout"
	for _, tc := range []struct {
		key, value string
		want       time.Duration
		code       codes.Code
	}{
		{grpc, "1H", time.Hour, codes.OK},
		{grpc, "90M", 90 * time.Minute, codes.OK},
		{grpc, "2S", 2 * time.Second, codes.OK},
		{grpc, "3m", 3 * time.Millisecond, codes.OK},
		{grpc, "4u", 4 * time.Microsecond, codes.OK},
		{grpc, "5n", 5, codes.OK},
		{grpc, "00000001S", time.Second, codes.OK},
		{grpc, "99999999H", maxTimeout, codes.OK},
		{grpc, "0S", 0, codes.DeadlineExceeded},
		{grpc, "", 0, codes.InvalidArgument},
		{grpc, "S", 0, codes.InvalidArgument},
		{grpc, "1", 0, codes.InvalidArgument},
		{grpc, "1s", 0, codes.InvalidArgument},
		{grpc, "-1S", 0, codes.InvalidArgument},
		{grpc, "1.5S", 0, codes.InvalidArgument},
		{grpc, "123456789S", 0, codes.InvalidArgument},
		{grpc, " 1S", 0, codes.InvalidArgument},
		{own, "1.5", 1500 * time.Millisecond, codes.OK},
		{own, "2", 2 * time.Second, codes.OK},
		{own, "0.0000000001", 1, codes.OK},
		{own, "1m30s", 90 * time.Second, codes.OK},
		{own, "1e300", maxTimeout, codes.OK},
		{own, "9999999h", 0, codes.InvalidArgument}, // longer than a duration holds
		{own, "48h", maxTimeout, codes.OK},
		{own, "-1", 0, codes.DeadlineExceeded},
		{own, "0", 0, codes.DeadlineExceeded},
		{own, "NaN", 0, codes.InvalidArgument},
		{own, "Inf", 0, codes.InvalidArgument},
		{own, "soon", 0, codes.InvalidArgument},
		{own, "", 0, codes.InvalidArgument},
		{own, strings.Repeat("1", 40), 0, codes.InvalidArgument},
	} {
		t.Run(tc.key+" "+tc.value, func(t *testing.T) {
			got, err := Timeout(rpc.Metadata{{Key: tc.key, Value: tc.value}}, 0)
			code := codes.OK
			if err != nil {
				code = rpc.AsError(err).Code
			}
			if got != tc.want || code != tc.code {
				t.Errorf("want %s and %s, found %s and %v", tc.want, tc.code, got, err)
			}
		})
	}
	if d, err := Timeout(rpc.Metadata{{Key: grpc, Value: "5S"}, {Key: own, Value: "3"}}, 4*time.Second); d != 3*time.Second || err != nil {
		t.Errorf("want the smallest of three, found %s %v", d, err)
	}
}

func FuzzTimeout(f *testing.F) {
	for _, s := range []string{"1S", "99999999H", "1.5", "1m", "-1", "NaN", "0x1p-2"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, s string, grpc bool) {
		key := "x-request-timeout"
		if grpc {
			key = "grpc-timeout"
		}
		d, err := Timeout(rpc.Metadata{{Key: key, Value: s}}, 0)
		if err == nil && (d <= 0 || d > maxTimeout) {
			t.Errorf("%q: want more than nothing and at most %s, found %s", s, maxTimeout, d)
		}
	})
}

func TestCodeOfHTTP(t *testing.T) {
	for status, want := range map[int]codes.Code{
		400: codes.Internal, 401: codes.Unauthenticated, 403: codes.PermissionDenied, 404: codes.Unimplemented,
		429: codes.Unavailable, 502: codes.Unavailable, 503: codes.Unavailable, 504: codes.Unavailable,
		http.StatusTeapot: codes.Unknown, 200: codes.Unknown, 500: codes.Unknown,
	} {
		if got := CodeOfHTTP(status); got != want {
			t.Errorf("%d: want %s, found %s", status, want, got)
		}
	}
}

// What only Unicode folds to the name of something is not that: it is no name at all.
func TestCarriedNamesAreASCII(t *testing.T) {
	for key, want := range map[string]string{
		"X-Token": "x-token", "x-to\u212aen": "", "X-\u0130d": "", "x-u\u017fer": "", "coo\u212aie": "", "x-b\u0130n": "",
	} {
		got := AppendCarried(nil, key, "v")
		if want == "" && len(got) > 0 || want != "" && !slices.Equal(got, rpc.Metadata{{Key: want, Value: "v"}}) {
			t.Errorf("%q: want %q, found %v", key, want, got)
		}
	}
}
