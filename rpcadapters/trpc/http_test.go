package trpc

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/adaptertest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

// handler is a function as an rpc.Handler.
type handler func(ctx context.Context, c *rpc.Call) error

// Handle implements rpc.Handler.
func (h handler) Handle(ctx context.Context, c *rpc.Call) error { return h(ctx, c) }

// answer is what came back of a request.
type answer struct {
	StatusCode int
	Header     http.Header
}

// post sends a request and returns the answer with its body.
func post(t testing.TB, url, body string, header ...string) (answer, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(deadline(t), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	tr := &http.Transport{DisableCompression: true}
	defer tr.CloseIdleConnections()
	res, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header}, string(b)
}

// TestHTTP: a call by POST with the framework's headers, in both content types, with what goes beside it both ways.
func TestHTTP(t *testing.T) {
	var seen *rpc.Call
	g := &adaptertest.Gateway{Faces: []rpcadapters.Face{NewFace()}, Schema: kitSchema(t)}
	g.Handler = handler(func(ctx context.Context, c *rpc.Call) error {
		if err := serveKit(ctx, c); err != nil {
			return err
		}
		seen = c.Clone()
		if due, ok := ctx.Deadline(); ok {
			seen.Times.Upstream = time.Until(due)
		}
		c.Reply.Header.Add("app-resp", "pong")
		c.Reply.Trailer.Add("trpc-ret", "forged")
		return nil
	})
	url := "http://" + adaptertest.Serve(t, g)
	const echo = "/trpc.kit.echo.Echo/Echo"
	info := base64.StdEncoding.EncodeToString([]byte("v1"))
	res, body := post(t, url+echo, `{"msg":"hello","big":"9007199254740993"}`, "trpc-caller", "trpc.a.b.c", "trpc-callee", "trpc.kit.echo.Echo", "trpc-timeout", "5000",
		"trpc-request-id", "77", "trpc-trans-info", `{"app-key":"`+info+`","trpc-env":"`+info+`","trpc-user-ip":"`+info+`","x-consumer":"`+info+`"}`, "app-head", "h")
	want := `{"msg":"hello","big":"9007199254740993","data":"","tags":[],"counts":{},"mood":0,"nested":null}`
	if res.StatusCode != 200 || body != want || res.Header.Get("trpc-ret") != "0" || res.Header.Get("trpc-func-ret") != "0" ||
		res.Header.Get("trpc-request-id") != "77" || res.Header.Get("Content-Type") != "application/json" || res.Header.Get("trpc-error-msg") != "" {
		t.Errorf("%d %v %s", res.StatusCode, res.Header, body)
	}
	var back map[string][]byte
	if err := json.Unmarshal([]byte(res.Header.Get("trpc-trans-info")), &back); err != nil || len(back) != 1 || string(back["app-resp"]) != "pong" {
		t.Errorf("%v %v", back, err)
	}
	var got []string
	for _, p := range seen.Header {
		if p.Key != "user-agent" {
			got = append(got, p.Key+"="+p.Value)
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{"app-head=h", "app-key=v1", "trpc-env=v1", "x-request-id=id-1"}, got); diff != "" {
		t.Error(diff)
	}
	if seen.Protocol != "trpc-http" || seen.Times.Upstream <= 0 || seen.Times.Upstream > 5*time.Second {
		t.Errorf("%+v", seen)
	}

	for _, typ := range []string{"application/proto", "application/protobuf", "application/x-protobuf", "application/pb"} {
		if res, body = post(t, url+echo, "\n\x05hello", "trpc-callee", "x", "Content-Type", typ); body != "\n\x05hello" || res.Header.Get("Content-Type") != typ {
			t.Errorf("%s: %v %q", typ, res.Header, body)
		}
	}
	packed, err := appendPacked(nil, []byte(`{"msg":"zip"}`), encodingGzip)
	if err != nil {
		t.Fatal(err)
	}
	res, body = post(t, url+echo, string(packed), "trpc-callee", "x", "Content-Encoding", "gzip")
	if out, _, err := appendUnpacked(nil, []byte(body), encodingGzip, 1<<20, nil); err != nil || res.Header.Get("Content-Encoding") != "gzip" || !strings.HasPrefix(string(out), `{"msg":"zip",`) {
		t.Errorf("%v %q", err, out)
	}
	// A client of trpc-go says nothing of what it accepts, and unpacks whatever comes.
	for _, accepts := range []string{"", "gzip", "br"} {
		x := &adaptertest.Engine{}
		header := rpc.Metadata{{Key: httpCallee, Value: "x"}, {Key: "content-encoding", Value: "gzip"}, {Key: "content-type", Value: "application/json"}}
		if accepts != "" {
			header.Add("accept-encoding", accepts)
		}
		x.Reset("POST", echo, "HTTP/1.1", header, packed)
		matched := x.Matched(method(t, g.Schema, echo))
		NewFace().Serve(t.Context(), &x.X, matched, handler(serveKit))
		if encoding := x.Header.Get("content-encoding"); (encoding == "gzip") != (accepts != "br") {
			t.Errorf("accept-encoding %q: %v", accepts, x.Header)
		}
	}
	// Nor is all of trans_info in base64.
	if post(t, url+echo, `{}`, "trpc-callee", "x", "trpc-trans-info", `{"app-key":"not base64"}`); seen.Header.Get("app-key") != "not base64" {
		t.Errorf("%v", seen.Header)
	}
	if _, body = post(t, url+echo, "", "trpc-callee", "x"); !strings.HasPrefix(body, `{"msg":"",`) {
		t.Errorf("%q", body)
	}
}

// TestHTTPErrors: each end of a call has its headers and its status.
func TestHTTPErrors(t *testing.T) {
	g := &adaptertest.Gateway{Faces: []rpcadapters.Face{NewFace()}, Schema: kitSchema(t)}
	var fault error
	g.Handler = handler(func(ctx context.Context, c *rpc.Call) error {
		if fault != nil {
			return fault
		}
		return serveKit(ctx, c)
	})
	url := "http://" + adaptertest.Serve(t, g)
	for _, c := range []struct {
		name, path, body  string
		header            []string
		fault             error
		status            int
		ret, funcRet, msg string
	}{
		{name: "business", path: "Echo/Fail", body: `{"code":10001,"message":"no gold"}`, status: 500, ret: "0", funcRet: "10001", msg: "no gold"},
		{name: "framework", path: "Echo/Fail", body: `{"code":22,"message":"too\r\nbusy","framework":true}`, status: 500, ret: "22", funcRet: "0", msg: `too\r\nbusy`},
		{name: "unknown method", path: "Echo/Nope", status: 404, ret: "12", funcRet: "0", msg: "no route takes /trpc.kit.echo.Echo/Nope"},
		{name: "stream", path: "Stream/Chat", status: 501, ret: "12", funcRet: "0", msg: "trpc.kit.echo.Stream/Chat is a bidirectional stream method, and those are not served by tRPC over HTTP"},
		{name: "not JSON", path: "Echo/Echo", body: `{`, status: 400, ret: "1", funcRet: "0"},
		{name: "content type", path: "Echo/Echo", header: []string{"Content-Type", "text/xml"}, status: 415, ret: "51", funcRet: "0", msg: `content-type "text/xml" is not served here: want application/json, application/proto or application/x-www-form-urlencoded`},
		{name: "encoding", path: "Echo/Echo", header: []string{"Content-Encoding", "lz4"}, status: 415, ret: "1", funcRet: "0", msg: `content-encoding "lz4" is not known here: want one of gzip, deflate, zstd, br, identity`},
		{name: "timeout that is none", path: "Echo/Echo", header: []string{"trpc-timeout", "soon"}, status: 400, ret: "51", funcRet: "0", msg: `header "trpc-timeout": want milliseconds, like 500`},
		{name: "info that is none", path: "Echo/Echo", header: []string{"trpc-trans-info", `{"a":1}`}, status: 400, ret: "51", funcRet: "0", msg: `header "trpc-trans-info": want a JSON object of values in base64`},
		{name: "deadline", path: "Echo/Slow", body: `{"ms":60000}`, header: []string{"trpc-timeout", "20"}, status: 504, ret: "21", funcRet: "0", msg: "deadline exceeded"},
		{name: "refused by a plugin", path: "Echo/Echo", fault: rpc.Refuse(codes.ResourceExhausted, "RATE_LIMITED", "slow down").WithStatus(429), status: 429, ret: "23", funcRet: "0", msg: "slow down"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fault = c.fault
			res, _ := post(t, url+"/trpc.kit.echo."+c.path, c.body, append([]string{"trpc-callee", "x"}, c.header...)...)
			if res.StatusCode != c.status || res.Header.Get("trpc-ret") != c.ret || res.Header.Get("trpc-func-ret") != c.funcRet || c.msg != "" && res.Header.Get("trpc-error-msg") != c.msg {
				t.Errorf("%d %v", res.StatusCode, res.Header)
			}
			if len(res.Header.Values("trpc-func-ret")) != 1 {
				t.Errorf("%v", res.Header)
			}
		})
	}
}

// TestHTTPMatch: what does not say that it is tRPC is left to others.
func TestHTTPMatch(t *testing.T) {
	f := NewFace()
	for _, c := range []struct {
		method, path, query, header string
		want                        bool
	}{
		{"POST", "/a.b.C/D", "", "trpc-caller", true},
		{"POST", "/a.b.C/D", "", "trpc-trans-info", true},
		{"POST", "/a.b.C/D", "", "trpc-other", false},
		{"POST", "/a.b.C/D", "", "app-key", false},
		{"GET", "/a.b.C/D", "", "trpc-caller", true},
		{"GET", "/a.b.C/D", "msg=x", "trpc-caller", true},
		{"GET", "/a.b.C/D", "", "app-key", false},
		{"PUT", "/a.b.C/D", "", "trpc-caller", false},
	} {
		x := &wire.Exchange{}
		x.HTTP.Method, x.HTTP.Path, x.HTTP.Query = c.method, c.path, c.query
		x.HTTP.Header.Add(c.header, "v")
		if f.Match(x) != c.want {
			t.Errorf("%+v", c)
		}
	}
}

func FuzzHTTPInfo(f *testing.F) {
	f.Add(`{"app-key":"djE="}`, `{"msg":"x"}`)
	f.Add(`{}`, ``)
	f.Add(`[`, `{`)
	s := kitSchema(f)
	m := method(f, s, "/trpc.kit.echo.Echo/Echo")
	face := NewFace()
	f.Fuzz(func(t *testing.T, info, body string) {
		var e adaptertest.Engine
		e.Reset("POST", m.Name, "HTTP/1.1", rpc.Metadata{{Key: httpInfo, Value: info}}, []byte(body))
		matched := e.Matched(m)
		face.Serve(t.Context(), &e.X, matched, handler(serveKit))
		ret := e.Header.Get(httpRet)
		if e.Done != 1 || ret == "" || (e.Status == 200) != (ret == "0") || matched.Options.Budget.Used() != 0 {
			t.Fatalf("%d: %v", e.Status, e.Header)
		}
		if bytes.ContainsAny([]byte(e.Header.Get(httpMessage)), "\r\n\x00") {
			t.Fatalf("%q", e.Header.Get(httpMessage))
		}
	})
}
