package extauthz

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// server answers as it is told and keeps what it was asked.
type server struct {
	asked  []*authv3.CheckRequest
	method string
	header rpc.Metadata
	answer *authv3.CheckResponse
	raw    []byte
	err    error
}

func (s *server) Unary(ctx context.Context, c *rpc.Call, req *rpc.Message, out *rpc.Reply) error {
	r := &authv3.CheckRequest{}
	if err := proto.Unmarshal(req.Data, r); err != nil {
		return err
	}
	s.asked, s.method, s.header = append(s.asked, r), c.Method.Name, c.Header
	if s.err != nil {
		return s.err
	}
	out.Message.Data = s.raw
	if s.answer != nil {
		out.Message.Data, _ = proto.Marshal(s.answer)
	} else if s.raw == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func env(t testing.TB, s *server) plugin.Env {
	t.Helper()
	e := plugintest.Env(t)
	e.Now = func() time.Time { return time.Unix(1000, 0) }
	e.Service = func(string) plugin.Service { return s }
	e.Consumer = func(name string) *rpc.Consumer {
		if name != "shop" {
			return nil
		}
		return &rpc.Consumer{Name: name}
	}
	return e
}

func header(key, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: key, Value: value}}
}

func allowed(ok *authv3.OkHttpResponse) *authv3.CheckResponse {
	return &authv3.CheckResponse{Status: &status.Status{}, HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: ok}}
}

func TestAsked(t *testing.T) {
	s := &server{answer: allowed(&authv3.OkHttpResponse{
		Headers:              []*corev3.HeaderValueOption{header("X-User", "u1"), header("x-other", "o"), header("x-name", "shop")},
		HeadersToRemove:      []string{"Authorization"},
		ResponseHeadersToAdd: []*corev3.HeaderValueOption{header("x-checked", "1"), header("content-length", "7"), header("x-bad", "a\nb")},
	})}
	p := plugintest.New(t, Kind, env(t, s), "{service: authz, upstream_headers: [X-User], consumer_header: x-name, context: {zone: eu}}")
	c, next := plugintest.Call("DELETE", "/v1/orders/7", "authorization", "Bearer t", "x-a", "1", "x-a", "2", "traceparent", "tp"), &plugintest.Next{}
	c.HTTP.Query = "x=1"
	if err := p.Wrap(next).Handle(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if s.method != "/envoy.service.auth.v3.Authorization/Check" || s.header.Get("traceparent") != "tp" || s.header.Get("x-request-id") != "id-1" || s.header.Has("authorization") {
		t.Errorf("asked %s with %v", s.method, s.header)
	}
	a := s.asked[0].GetAttributes()
	h := a.GetRequest().GetHttp()
	if h.GetMethod() != "DELETE" || h.GetPath() != "/v1/orders/7?x=1" || h.GetHost() != "api.example.com" || h.GetScheme() != "http" || h.GetId() != "id-1" ||
		h.GetHeaders()["authorization"] != "Bearer t" || h.GetHeaders()["x-a"] != "1,2" || a.GetRequest().GetTime().GetSeconds() != 1000 ||
		a.GetSource().GetAddress().GetSocketAddress().GetAddress() != "192.0.2.1" || a.GetSource().GetAddress().GetSocketAddress().GetPortValue() != 4711 {
		t.Errorf("asked %v", a)
	}
	if x := a.GetContextExtensions(); x["zone"] != "eu" || x["rpc"] != "/acme.v1.Orders/Get" || x["route"] != "orders" {
		t.Errorf("context %v", x)
	}
	if next.Calls != 1 || c.ConsumerName() != "shop" || c.Header.Get("x-user") != "u1" || c.Header.Has("x-other") || c.Header.Has("authorization") {
		t.Errorf("%d calls of %q with %v", next.Calls, c.ConsumerName(), c.Header)
	}
	if !slices.Equal(c.HTTP.Answer, rpc.Metadata{{Key: "x-checked", Value: "1"}}) {
		t.Errorf("the answer gets %v", c.HTTP.Answer)
	}
	if chosen, called := p.(plugin.Director).Services(); chosen != nil || !slices.Equal(called, []string{"authz"}) {
		t.Errorf("services %v %v", chosen, called)
	}
}

// What a caller says of itself is not what the service is told.
func TestNobodySaysWhoCallsButTheGateway(t *testing.T) {
	s := &server{answer: allowed(&authv3.OkHttpResponse{})}
	for _, config := range []string{"{service: authz}", "{service: authz, request_headers: [x-consumer-name, x-forwarded-for, x_forwarded_for, forwarded]}"} {
		p := plugintest.New(t, Kind, env(t, s), config)
		c, next := plugintest.Call("GET", "/", "x-consumer-name", "root", "x_consumer_name", "root", "x-forwarded-for", "127.0.0.1", "x_forwarded_for", "127.0.0.1",
			"x-forwarded-proto", "https", "x-real-ip", "127.0.0.1", "forwarded", "for=127.0.0.1"), &plugintest.Next{}
		if err := p.Wrap(next).Handle(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		c.Consumer = &rpc.Consumer{Name: "shop"}
		if err := p.Wrap(next).Handle(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"x-forwarded-for": "192.0.2.1", "x-forwarded-proto": "http"}
		for i, r := range s.asked {
			if i == 1 {
				want["x-consumer-name"] = "shop"
			}
			if got := r.GetAttributes().GetRequest().GetHttp().GetHeaders(); !maps.Equal(got, want) {
				t.Errorf("%s: the service is told %v, want %v", config, got, want)
			}
		}
		s.asked = nil
	}
}

// Whatever is not a clear yes refuses.
func TestRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		s      *server
		config string
		code   codes.Code
		status int // of an answer
		reason string
	}{
		"denied": {s: &server{answer: &authv3.CheckResponse{Status: &status.Status{Code: 16}, HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
			Status: &typev3.HttpStatus{Code: 401}, Body: "who?", Headers: []*corev3.HeaderValueOption{header("WWW-Authenticate", "Bearer"), header("content-length", "1")},
		}}}}, code: codes.Unauthenticated, status: 401},
		"denied with nothing":      {s: &server{answer: &authv3.CheckResponse{Status: &status.Status{Code: 7}}}, code: codes.PermissionDenied, status: 403},
		"denied with 200":          {s: &server{answer: &authv3.CheckResponse{Status: &status.Status{Code: 7}, HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{Status: &typev3.HttpStatus{Code: 200}}}}}, code: codes.PermissionDenied, status: 403},
		"a code that is none":      {s: &server{answer: &authv3.CheckResponse{Status: &status.Status{Code: -5}}}, code: codes.PermissionDenied, status: 403},
		"no status":                {s: &server{answer: &authv3.CheckResponse{HttpResponse: &authv3.CheckResponse_OkResponse{}}}, code: codes.Unavailable, reason: "AUTHORIZATION_UNAVAILABLE"},
		"empty":                    {s: &server{raw: []byte{}}, code: codes.Unavailable, reason: "AUTHORIZATION_UNAVAILABLE"},
		"rubbish":                  {s: &server{raw: []byte{0xff}}, code: codes.Unavailable, reason: "AUTHORIZATION_UNAVAILABLE"},
		"an error":                 {s: &server{err: errors.New("gone")}, code: codes.Unavailable, reason: "AUTHORIZATION_UNAVAILABLE"},
		"no answer":                {s: &server{}, config: ", timeout: 0.02s", code: codes.Unavailable, reason: "AUTHORIZATION_UNAVAILABLE"},
		"a header with a new line": {s: &server{answer: allowed(&authv3.OkHttpResponse{Headers: []*corev3.HeaderValueOption{header("x-user", "a\nb")}})}, config: ", upstream_headers: [x-user]", code: codes.Unavailable, reason: "AUTHORIZATION_UNAVAILABLE"},
		"nobody known":             {s: &server{answer: allowed(&authv3.OkHttpResponse{Headers: []*corev3.HeaderValueOption{header("x-name", "eve")}})}, config: ", consumer_header: x-name", code: codes.PermissionDenied, reason: "CONSUMER_UNKNOWN"},
		"nobody named":             {s: &server{answer: allowed(nil)}, config: ", consumer_header: x-name", code: codes.PermissionDenied, reason: "CONSUMER_UNKNOWN"},
	} {
		t.Run(name, func(t *testing.T) {
			p := plugintest.New(t, Kind, env(t, tc.s), "{service: authz"+tc.config+"}")
			c, next := plugintest.Call("GET", "/"), &plugintest.Next{}
			err := p.Wrap(next).Handle(t.Context(), c)
			if a, ok := errors.AsType[*rpc.Answer](err); ok {
				if a.Status != tc.status || a.Code != tc.code || a.Header.Has("content-length") {
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

// received is a body that was received.
type received struct {
	raw []byte
	err error
}

func (b received) Raw(context.Context) ([]byte, error) { return b.raw, b.err }

func (b received) Message(context.Context, *schema.Message) (*rpc.Message, error) { return nil, b.err }

func TestBody(t *testing.T) {
	s := &server{answer: allowed(nil)}
	p := plugintest.New(t, Kind, env(t, s), "{service: authz, send_body: true, request_headers: [x-a]}")
	c, next := plugintest.Call("PUT", "/", "x-a", "1", "x-b", "2"), &plugintest.Next{}
	c.Body = received{raw: []byte("{}")}
	if err := p.Wrap(next).Handle(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if h := s.asked[0].GetAttributes().GetRequest().GetHttp(); string(h.GetRawBody()) != "{}" || h.GetSize() != 2 || h.GetHeaders()["x-a"] != "1" || h.GetHeaders()["x-b"] != "" {
		t.Errorf("asked %v", h)
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
		{Name: "no service", Config: "{}", Path: "", Want: "no service", Fix: "name a service"},
		{Name: "timeout", Config: "{service: a, timeout: 60s}", Path: "timeout", Want: "at most 30s", Fix: "30s"},
		{Name: "name", Config: "{service: a, request_headers: ['a b']}", Path: "request_headers[0]", Want: "not the name", Fix: "letters"},
		{Name: "framing", Config: "{service: a, upstream_headers: [a, grpc-timeout]}", Path: "upstream_headers[1]", Want: "not the name", Fix: "letters"},
	})
}

func TestReadme(t *testing.T) { plugintest.Readme(t, Kind, env(t, &server{})) }

// FuzzAnswer: no answer panics, and one without a clear yes does not let the call pass.
func FuzzAnswer(f *testing.F) {
	for _, m := range []*authv3.CheckResponse{allowed(nil), {Status: &status.Status{Code: 7}}, {}} {
		raw, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	s := &server{}
	p := plugintest.New(f, Kind, env(f, s), "{service: authz, upstream_headers: [x-user], consumer_header: x-name}")
	f.Fuzz(func(t *testing.T, raw []byte) {
		s.asked, s.raw = nil, append([]byte{}, raw...)
		c := plugintest.Call("GET", "/")
		err := p.Wrap(&plugintest.Next{}).Handle(t.Context(), c)
		m := &authv3.CheckResponse{}
		if yes := proto.Unmarshal(raw, m) == nil && m.GetStatus() != nil && m.GetStatus().GetCode() == 0 && m.GetOkResponse() != nil; err == nil && (!yes || c.ConsumerName() != "shop") {
			t.Errorf("passed with %v", m)
		}
	})
}
