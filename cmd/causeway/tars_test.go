package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/dynamicpb"

	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
	"github.com/causeway-gateway/causeway/testdata/descriptors"
	"github.com/causeway-gateway/causeway/testdata/echo"
	"github.com/causeway-gateway/causeway/testdata/tarskit"
	"github.com/causeway-gateway/causeway/transcode/schema"
	"github.com/causeway-gateway/causeway/transcode/source"
)

const kitServant = "Kit.EchoServer.EchoObj"

// startServant serves Kit.Echo over TARS until the test ends.
func startServant(t testing.TB) (*tarskit.Servant, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	kit := &tarskit.Servant{}
	done := make(chan struct{})
	go func() { defer close(done); kit.Serve(l) }()
	t.Cleanup(func() { l.Close(); <-done })
	return kit, l.Addr().String()
}

// startTARS is a gateway with a service over TARS (kit) and one over gRPC (echo), and the listeners of both.
func startTARS(t testing.TB, options string) (g *gatewayTest, kit *tarskit.Servant, s *schema.Schema, tarsAddress string) {
	t.Helper()
	kit, address := startServant(t)
	backend := echo.Start(t, "127.0.0.1:0", "a")
	dir := t.TempDir()
	text, err := os.ReadFile("../../testdata/tars/Kit.tars")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir+"/Kit.tars", text)
	writeFile(t, dir+"/echo.binpb", descriptors.Encode(t, echov1.File_demo_echo_v1_echo_proto))
	g = startGateway(t, fmt.Sprintf(`listen:
  - {address: "127.0.0.1:0"}
  - {address: "127.0.0.1:0", protocol: tars, options: {servants: [{name: %s, service: Kit.Echo}]}}
admin: {address: "127.0.0.1:0"}
schemas:
  - {name: kit, tars: {paths: [%s/Kit.tars]}}
  - {name: echo, descriptor_set: %s/echo.binpb}
services:
  - {name: kit, schema: kit, adapter: tars, endpoints: [{address: %q}], options: {servant: %s, %s}}
  - {name: echo, schema: echo, endpoints: [{address: %q}]}
routes:
  - {name: hello, service: kit, http: {method: Kit.Echo/hello, get: "/v1/hello/{name}", response_body: ret}}
  - {name: add, service: kit, http: {method: Kit.Echo/add, post: "/v1/add", body: "*"}}
  - {name: node, service: kit, http: {method: Kit.Echo/echoNode, post: "/v1/node", body: req, response_body: ret}}
  - {name: transform, service: kit, http: {method: Kit.Echo/transform, post: "/v1/transform", body: req}}
  - {name: fail, service: kit, http: {method: Kit.Echo/fail, post: "/v1/fail", body: "*"}}
  - {name: meta, service: kit, http: {method: Kit.Echo/meta, get: "/v1/meta/{prefix}"}, request_headers: [app-key], response_headers: [resp-ctx]}
  - {name: slow, service: kit, http: {method: Kit.Echo/slow, get: "/v1/slow/{ms}"}, timeout: 0.05s}
  - {name: note, service: kit, http: {method: Kit.Echo/note, post: "/v1/note", body: "*"}}
`, kitServant, dir, dir, address, kitServant, options, backend.Address))
	set, err := source.Tars(t.Context(), []string{"../../testdata/tars/Kit.tars"}, nil, "", source.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if s, err = set.Schema(); err != nil {
		t.Fatal(err)
	}
	return g, kit, s, g.gateway.Addresses()[1]
}

// TestTARSBackend: clients of the other protocols reach a servant: values, metadata, errors, deadlines and calls without an
// answer.
func TestTARSBackend(t *testing.T) {
	t.Parallel()
	g, kit, s, _ := startTARS(t, "one_way: [note], errors: [{from: 404, code: NOT_FOUND}]")

	if a := g.call("GET", "/v1/hello/w%C3%B6rld", ""); a.status != 200 || a.body != `"hello wörld"` {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := g.call("POST", "/v1/add", `{"a":2147483647,"b":-7}`); a.status != 200 || a.body != `{"ret":2147483640}` {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := g.call("POST", "/v1/add", `{"a":1}`); a.status != 400 || !strings.Contains(a.body, "b: is required and not given") {
		t.Errorf("%d %s", a.status, a.body)
	}
	const node = `{"name":"n","weight":0,"labels":["a"],"counts":{"x":1},"blob":"AP8=","at":{"x":1,"y":-2},"children":[{"name":"c","weight":9}]}`
	if a := g.call("POST", "/v1/node", node); a.status != 200 || a.body != node {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := g.call("POST", "/v1/node", `{"name":"n"}`); a.status != 200 || a.body != `{"name":"n","weight":7}` {
		t.Errorf("the default of the IDL: %d %s", a.status, a.body)
	}
	if a := g.call("POST", "/v1/transform", node); a.status != 200 || a.body != `{"ret":4,"result":`+node+`,"total":17,"note":"note of n"}` {
		t.Errorf("%d %s", a.status, a.body)
	}
	a := g.call("POST", "/v1/fail", `{"code":10001,"message":"no gold"}`)
	if a.status != 500 || a.text(t, "message") != "no gold" || a.header.Get("Tars-Ret") != "10001" || !strings.Contains(a.body, `"domain":"tars"`) || !strings.Contains(a.body, kitServant) {
		t.Errorf("%d %v %s", a.status, a.header, a.body)
	}
	for code, want := range map[int]int{404: 404, -1: 502, -3: 501, -4: 501, -9: 503, -99: 500} {
		if a = g.call("POST", "/v1/fail", fmt.Sprintf(`{"code":%d,"message":"m"}`, code)); a.status != want {
			t.Errorf("code %d: want %d, found %d %s", code, want, a.status, a.body)
		}
	}
	a = g.call("GET", "/v1/meta/p-", "", "app-key", "v1", "STATUS_DYED_KEY", "forged", "secret", "no", "X-Request-Timeout", "5")
	if a.status != 200 || a.header.Get("Resp-Ctx") != "p-" || a.text(t, "reqContext", "app-key") != "v1" || strings.Contains(a.body, "forged") || strings.Contains(a.body, "secret") ||
		a.text(t, "reqContext", "x-request-id") != a.header.Get("X-Request-Id") || strings.Contains(a.body, "reqStatus\":{\"") {
		t.Errorf("%d %v %s", a.status, a.header, a.body)
	}
	calls := kit.Calls()
	if last := calls[len(calls)-1]; last.Timeout < 4000 || last.Timeout > 5000 || last.Servant != kitServant {
		t.Errorf("the servant was told %+v", last)
	}
	if a = g.call("GET", "/v1/slow/400", ""); a.status != 504 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a = g.call("POST", "/v1/note", `{"text":"x"}`); a.status != 200 || a.body != "{}" {
		t.Errorf("%d %s", a.status, a.body)
	}
	for deadline := time.Now().Add(20 * time.Second); kit.Notes() != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the call without an answer did not come")
		}
	}
	if a = g.call("POST", "/Kit.Echo/hello", `{"name":"connect"}`, "Content-Type", "application/json", "Connect-Protocol-Version", "1"); a.status != 200 || a.body != `{"ret":"hello connect"}` {
		t.Errorf("by the name of the function: %d %s", a.status, a.body)
	}

	conn, err := grpc.NewClient(strings.TrimPrefix(g.url, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	m, _ := s.Method("/Kit.Echo/fail")
	err = conn.Invoke(t.Context(), m.Name, dynamic(t, m.Input, `{"code":10001,"message":"no gold"}`), dynamicpb.NewMessage(m.Output.Desc))
	st := status.Convert(err)
	info, _ := st.Details()[0].(*errdetails.ErrorInfo)
	if st.Code() != codes.Unknown || st.Message() != "no gold" || info.GetReason() != "BUSINESS" || info.GetDomain() != "tars" || info.GetMetadata()["code"] != "10001" || info.GetMetadata()["servant"] != kitServant {
		t.Errorf("%v %v", st, info)
	}
	m, _ = s.Method("/Kit.Echo/meta")
	var header metadata.MD
	out := dynamicpb.NewMessage(m.Output.Desc)
	if err := conn.Invoke(metadata.AppendToOutgoingContext(t.Context(), "app-key", "v2"), m.Name, dynamic(t, m.Input, `{"prefix":"q-"}`), out, grpc.Header(&header)); err != nil {
		t.Fatal(err)
	}
	if header.Get("resp-ctx")[0] != "q-" || header.Get("tars-status-resp-status")[0] != "1" || len(header.Get("tars-status-status_x")) != 0 || !strings.Contains(out.String(), "q-app-key=v2") {
		t.Errorf("%v %v", header, out)
	}
}

// TestTARSListener: TARS clients reach gRPC and TARS backends, with plugins before them.
func TestTARSListener(t *testing.T) {
	t.Parallel()
	g, _, s, address := startTARS(t, "")
	nc, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	c := &tarskit.Client{Conn: nc}
	a, err := c.Call(tarskit.Packet{Servant: kitServant, Function: "hello", Body: tarskit.String(nil, 1, "kit"), Timeout: 3000})
	if err != nil || a.Ret != 0 || string(a.Body) != string(tarskit.String(nil, 0, "hello kit")) || a.Context["x-request-id"] == "" {
		t.Errorf("%+v %v", a, err)
	}
	a, err = c.Call(tarskit.Packet{Servant: kitServant, Function: "meta", Body: tarskit.String(nil, 1, "p-"), Context: map[string]string{"App-Key": "v", "x-consumer-name": "forged"}, Status: map[string]string{"STATUS_GRID_KEY": "forged", "STATUS_DYED_KEY": "forged", "STATUS_TRACE_KEY": "t", "mine": "1"}})
	if err != nil || a.Ret != 0 || a.Context["resp-ctx"] != "p-" || a.Status["resp-status"] != "1" {
		t.Errorf("%+v %v", a, err)
	}
	p, err := tarskit.Read(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := p[2].(map[string]string); got["App-Key"] != "v" || got["x-consumer-name"] != "" || got["x-request-id"] == "" {
		t.Errorf("the context that the servant got: %v", got)
	}
	if got, _ := p[3].(map[string]string); got["mine"] != "1" || got["STATUS_TRACE_KEY"] != "t" || len(got) != 2 {
		t.Errorf("the status that the servant got: %v", got)
	}
	if a, err = c.Call(tarskit.Packet{Servant: kitServant, Function: "fail", Body: tarskit.String(tarskit.Int(nil, 1, 1001), 2, "mine")}); err != nil || a.Ret != 1001 || a.Desc != "mine" {
		t.Errorf("%+v %v", a, err)
	}
	if a, err = c.Call(tarskit.Packet{Servant: kitServant, Function: "nope"}); err != nil || a.Ret != -3 {
		t.Errorf("%+v %v", a, err)
	}
	if a, err = c.Call(tarskit.Packet{Servant: "No.Such.Obj", Function: "fail"}); err != nil || a.Ret != -4 {
		t.Errorf("%+v %v", a, err)
	}
	if a, err = c.Call(tarskit.Packet{Servant: kitServant, Function: "tars_ping"}); err != nil || a.Ret != 0 {
		t.Errorf("%+v %v", a, err)
	}
	if a, err = c.Call(tarskit.Packet{Servant: kitServant, Function: "slow", Body: tarskit.Int(nil, 1, 400), Timeout: 30}); err != nil || a.Ret != -7 {
		t.Errorf("%+v %v", a, err)
	}
	_, _ = g, s
}
