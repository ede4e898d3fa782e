package forwardauth

import (
	"context"
	"errors"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// server answers as it is told and keeps what it was asked.
type server struct {
	asked  []*plugin.FetchRequest
	answer *plugin.FetchResponse
	err    error
}

func (s *server) Fetch(ctx context.Context, r *plugin.FetchRequest) (*plugin.FetchResponse, error) {
	s.asked = append(s.asked, r)
	if s.answer == nil && s.err == nil {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.answer, s.err
}

func env(t testing.TB, s *server) plugin.Env {
	t.Helper()
	e := plugintest.Env(t)
	e.Fetch = s
	e.Consumer = func(name string) *rpc.Consumer {
		if name != "shop" {
			return nil
		}
		return &rpc.Consumer{Name: name}
	}
	return e
}

const target = "url: 'http://auth.example.com/check'"

func TestAsked(t *testing.T) {
	s := &server{answer: &plugin.FetchResponse{Status: 204, Header: rpc.Metadata{{Key: "x-user", Value: "u1"}, {Key: "x-other", Value: "o"}, {Key: "x-name", Value: "shop"}}}}
	p := plugintest.New(t, Kind, env(t, s), "{"+target+", upstream_headers: [X-User], consumer_header: X-Name, request_headers: [authorization, x-forwarded-uri, x_forwarded_uri, x-consumer-name, x-real-ip, x-request-id, content-length]}")
	c, next := plugintest.Call("DELETE", "/v1/orders/7", "authorization", "Bearer t", "cookie", "a=1", "x-forwarded-uri", "/public", "x_forwarded_uri", "/public",
		"x-consumer-name", "root", "x-real-ip", "127.0.0.1", "x-request-id", "mine", "content-length", "5"), &plugintest.Next{}
	c.HTTP.Query, c.HTTP.Port = "x=1", "8443"
	if err := p.Wrap(next).Handle(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	want := rpc.Metadata{
		{Key: "x-forwarded-method", Value: "DELETE"},
		{Key: "x-forwarded-proto", Value: "http"},
		{Key: "x-forwarded-host", Value: "api.example.com:8443"},
		{Key: "x-forwarded-uri", Value: "/v1/orders/7?x=1"},
		{Key: "x-forwarded-for", Value: "192.0.2.1"},
		{Key: "x-request-id", Value: "id-1"},
		{Key: "x-forwarded-rpc", Value: "/acme.v1.Orders/Get"},
		{Key: "authorization", Value: "Bearer t"},
	}
	if r := s.asked[0]; r.URL != "http://auth.example.com/check" || r.Method != "" || !slices.Equal(r.Header, want) {
		t.Errorf("asked %+v", r)
	}
	if next.Calls != 1 || c.ConsumerName() != "shop" || c.Header.Get("x-user") != "u1" || c.Header.Has("x-other") {
		t.Errorf("%d calls of %q with %v", next.Calls, c.ConsumerName(), c.Header)
	}
}

// Whatever is not a clear yes refuses.
func TestRefused(t *testing.T) {
	answer := func(status int, header ...rpc.Pair) *server {
		return &server{answer: &plugin.FetchResponse{Status: status, Header: header, Body: []byte("no")}}
	}
	for name, tc := range map[string]struct {
		s      *server
		config string
		code   codes.Code
		status int // of an answer
		reason string
	}{
		"401":                 {s: answer(401), code: codes.Unauthenticated, status: 401},
		"403":                 {s: answer(403), code: codes.PermissionDenied, status: 403},
		"429":                 {s: answer(429), code: codes.ResourceExhausted, status: 429},
		"302":                 {s: answer(302), code: codes.PermissionDenied, status: 302},
		"100":                 {s: answer(100), code: codes.Unavailable, reason: "AUTHORIZATION_UNAVAILABLE"},
		"500":                 {s: answer(500), code: codes.Unavailable, reason: "AUTHORIZATION_UNAVAILABLE"},
		"gone":                {s: &server{err: errors.New("refused")}, code: codes.Unavailable, reason: "AUTHORIZATION_UNAVAILABLE"},
		"header with newline": {s: answer(200, rpc.Pair{Key: "x-user", Value: "a\nb"}), config: ", upstream_headers: [x-user]", code: codes.Unavailable, reason: "AUTHORIZATION_UNAVAILABLE"},
		"nobody known":        {s: answer(200, rpc.Pair{Key: "x-name", Value: "eve"}), config: ", consumer_header: x-name", code: codes.PermissionDenied, reason: "CONSUMER_UNKNOWN"},
		"nobody named":        {s: answer(200), config: ", consumer_header: x-name", code: codes.PermissionDenied, reason: "CONSUMER_UNKNOWN"},
	} {
		t.Run(name, func(t *testing.T) {
			p := plugintest.New(t, Kind, env(t, tc.s), "{"+target+tc.config+"}")
			c, next := plugintest.Call("GET", "/"), &plugintest.Next{}
			err := p.Wrap(next).Handle(t.Context(), c)
			if a, ok := errors.AsType[*rpc.Answer](err); ok {
				if a.Status != tc.status || a.Code != tc.code || string(a.Body) != "no" {
					t.Errorf("found %+v", a)
				}
			} else if e, ok := errors.AsType[*rpc.Error](err); !ok || e.Code != tc.code || e.Reason != tc.reason {
				t.Errorf("found %v", err)
			}
			if next.Calls != 0 || c.Consumer != nil || len(c.Header) != 0 {
				t.Errorf("%d calls by %v with %v", next.Calls, c.Consumer, c.Header)
			}
		})
	}
}

func TestHeadersOfARefusal(t *testing.T) {
	s := &server{answer: &plugin.FetchResponse{Status: 401, Header: rpc.Metadata{
		{Key: "www-authenticate", Value: "Bearer"}, {Key: "set-cookie", Value: "a=1"}, {Key: "content-type", Value: "text/html"}, {Key: "content-length", Value: "99"}, {Key: "location", Value: "a\r\nb"},
	}}}
	for config, want := range map[string]rpc.Metadata{
		"": {{Key: "www-authenticate", Value: "Bearer"}, {Key: "content-type", Value: "text/html"}},
		", client_headers: [Set-Cookie, Content-Length]": {{Key: "set-cookie", Value: "a=1"}, {Key: "content-type", Value: "text/html"}},
	} {
		err := plugintest.New(t, Kind, env(t, s), "{"+target+config+"}").Wrap(&plugintest.Next{}).Handle(t.Context(), plugintest.Call("GET", "/"))
		if a, ok := errors.AsType[*rpc.Answer](err); !ok || !slices.Equal(a.Header, want) {
			t.Errorf("%s: found %+v", config, err)
		}
	}
}

// received is a body that was received.
type received struct {
	raw []byte
	err error
}

func (b received) Raw(context.Context) ([]byte, error) { return b.raw, b.err }

func (b received) Message(context.Context, *schema.Message) (*rpc.Message, error) { return nil, b.err }

func TestBody(t *testing.T) {
	s := &server{answer: &plugin.FetchResponse{Status: 200}}
	p := plugintest.New(t, Kind, env(t, s), "{"+target+", send_body: true}")
	c, next := plugintest.Call("PUT", "/"), &plugintest.Next{}
	c.Body = received{raw: []byte("{}")}
	if err := p.Wrap(next).Handle(t.Context(), c); err != nil || s.asked[0].Method != "POST" || string(s.asked[0].Body) != "{}" {
		t.Errorf("%v, asked %+v", err, s.asked[0])
	}
	c.Body = received{raw: []byte("{"), err: rpc.Refuse(codes.Canceled, "CLIENT_GONE", "gone")}
	plugintest.Refused(t, p.Wrap(next).Handle(t.Context(), c), codes.Canceled, 0, "CLIENT_GONE")
	c.Body = nil
	plugintest.Refused(t, p.Wrap(next).Handle(t.Context(), c), codes.Unimplemented, 501, "STREAM_NOT_CHECKED")
	if next.Calls != 1 || len(s.asked) != 1 {
		t.Errorf("%d calls, %d asked", next.Calls, len(s.asked))
	}
}

func TestFaults(t *testing.T) {
	plugintest.Faults(t, Kind, env(t, &server{}), []plugintest.Fault{
		{Name: "no url", Config: "{}", Path: "url", Want: "wanted a URL", Fix: "http://"},
		{Name: "scheme", Config: "{url: 'file:///etc/passwd'}", Path: "url", Want: "wanted a URL", Fix: "http://"},
		{Name: "user", Config: "{url: 'http://a:b@c/'}", Path: "url", Want: "wanted a URL", Fix: "http://"},
		{Name: "timeout", Config: "{" + target + ", timeout: 60s}", Path: "timeout", Want: "at most 30s", Fix: "30s"},
		{Name: "name", Config: "{" + target + ", client_headers: ['a b']}", Path: "client_headers[0]", Want: "not the name", Fix: "letters"},
		{Name: "framing", Config: "{" + target + ", upstream_headers: [a, grpc-timeout]}", Path: "upstream_headers[1]", Want: "cannot be metadata", Fix: "remove"},
	})
}

func TestReadme(t *testing.T) { plugintest.Readme(t, Kind, env(t, &server{})) }
