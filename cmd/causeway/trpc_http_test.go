package main

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/causeway-gateway/causeway/testdata/trpckit"
)

// TestTRPCOverHTTP: what clients of trpc-go send over HTTP, to tRPC's services and to others: they send their headers to all.
func TestTRPCOverHTTP(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
	if err != nil {
		t.Fatal(err)
	}
	kit := &trpckit.Server{Unary: func(req *trpckit.Frame) (*trpckit.Frame, bool) {
		if req.Text("func") != "/api/login" {
			return nil, false
		}
		a := trpckit.Response(req, nil)
		a.Body = req.Body
		return a, true
	}}
	done := make(chan struct{})
	go func() { defer close(done); kit.Serve(l) }()
	t.Cleanup(func() { l.Close(); <-done })
	dir := t.TempDir()
	text, err := os.ReadFile("../../testdata/trpc/kit.proto")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir+"/kit.proto", text)
	writeFile(t, dir+"/trpc.proto", []byte(`syntax = "proto3"; package trpc; import "google/protobuf/descriptor.proto";
extend google.protobuf.MethodOptions { string alias = 50001; }`))
	writeFile(t, dir+"/login.proto", []byte(`syntax = "proto3"; package trpc.kit.login; import "trpc.proto";
message User { string name = 1; }
service Login { rpc In(User) returns (User) { option (trpc.alias) = "/api/login"; } rpc Out(User) returns (User); }`))
	g := startGateway(t, fmt.Sprintf(`listen: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
schemas:
  - {name: kit, proto: {paths: [%[1]s/kit.proto]}}
  - {name: login, proto: {paths: [%[1]s/login.proto], import_roots: [%[1]s]}}
services:
  - {name: kit, schema: kit, adapter: trpc, endpoints: [{address: %[2]q}]}
  - {name: login, schema: login, adapter: trpc, endpoints: [{address: %[2]q}]}
routes:
  - {name: all, service: kit, methods: ["*"]}
  - {name: say, service: kit, http: {method: trpc.kit.echo.Echo/Echo, post: "/v1/{msg}", body: "nested"}}
  - {name: login, service: login, methods: ["*"]}
plugins:
  - {name: fault_injection, config: {abort: {code: DATA_LOSS}}, when: "request.caller == 'trpc.peer.Stranger' && request.callee == 'trpc.kit.echo.Echo'"}
`, dir, l.Addr()))
	const echo = "/trpc.kit.echo.Echo/"
	trpc := []string{"trpc-caller", "trpc.peer.Client", "trpc-callee", "trpc.kit.echo.Echo", "trpc-timeout", "5000", "Content-Type", "application/json"}

	// Dyeing and environment go on, as over tRPC itself; a value may stand as it is.
	a := g.call("POST", echo+"Meta", "", append([]string{"trpc-trans-info", `{"trpc-dyeing-key":"ZA==","trpc-env":"ZQ==","app-key":"djE=","app-plain":"as it is"}`, "trpc-message-type", "1"}, trpc...)...)
	if a.status != 200 || a.header.Get("Trpc-Ret") != "0" || a.text(t, "trans_info", "trpc-dyeing-key") != "ZA==" || a.text(t, "trans_info", "trpc-env") != "ZQ==" || a.text(t, "trans_info", "app-key") != "djE=" {
		t.Errorf("%d %v %s", a.status, a.header, a.body)
	}
	seen := kit.Requests()
	if last := seen[len(seen)-1]; last.Uint("message_type")&1 == 0 || last.Info("trans_info")["app-plain"] != "as it is" || last.Uint("timeout") == 0 || last.Uint("timeout") > 5000 {
		t.Errorf("%v", last.Header)
	}

	// An empty message is sent by GET.
	if a = g.call("GET", echo+"Echo", "", trpc...); a.status != 200 || a.header.Get("Trpc-Ret") != "0" || !strings.HasPrefix(a.body, `{"msg":"",`) {
		t.Errorf("%d %v %s", a.status, a.header, a.body)
	}
	// A GET has its message in its query, a form has it as well; what names no field stays behind.
	const asked = "msg=a+b%26&tags=x&tags=y&tags=&nested.msg=in&counts[k]=7&big=9007199254740993&nobody=1"
	if a = g.call("GET", echo+"Echo?"+asked, "", trpc...); a.status != 200 || a.header.Get("Trpc-Ret") != "0" || a.header.Get("Content-Type") != "application/json" || a.text(t, "msg") != "a b&" || a.text(t, "nested", "msg") != "in" || !strings.Contains(a.body, `"tags":["x","y",""],"counts":{"k":7}`) {
		t.Errorf("%d %v %s", a.status, a.header, a.body)
	}
	form := append(slices.Clone(trpc[:len(trpc)-2]), "Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	if b := g.call("POST", echo+"Echo", asked, form...); b.status != 200 || b.body != a.body {
		t.Errorf("%d %v %s, the query gave %s", b.status, b.header, b.body, a.body)
	}
	for _, bad := range []string{"big=x", "msg=%zz", "msg.x=1", "msg=1&msg=2"} {
		if a = g.call("GET", echo+"Echo?"+bad, "", trpc...); a.status != 400 || a.header.Get("Trpc-Ret") == "0" {
			t.Errorf("%s: %d %v %s", bad, a.status, a.header, a.body)
		}
		if a = g.call("POST", echo+"Echo", bad, form...); a.status != 400 || a.header.Get("Trpc-Ret") == "0" {
			t.Errorf("%s: %d %v %s", bad, a.status, a.header, a.body)
		}
	}
	// Methods are called by their aliases, too.
	for _, path := range []string{"/api/login", "/trpc.kit.login.Login/In"} {
		if a = g.call("POST", path, `{"name":"ann"}`, trpc...); a.status != 200 || a.header.Get("Trpc-Ret") != "0" || a.body != `{"name":"ann"}` {
			t.Errorf("%s: %d %v %s", path, a.status, a.header, a.body)
		}
	}
	// REST services hear of no tRPC.
	if a = g.call("POST", "/v1/hello", `{"msg":"in"}`, trpc...); a.status != 200 || a.header.Get("Trpc-Ret") != "" || a.text(t, "nested", "msg") != "in" {
		t.Errorf("%d %v %s", a.status, a.header, a.body)
	}
	// Plugins see who the caller says that it is.
	if a = g.call("POST", echo+"Echo", `{}`, "trpc-caller", "trpc.peer.Stranger", "trpc-callee", "trpc.kit.echo.Echo", "Content-Type", "application/json"); a.header.Get("Trpc-Ret") != "31" {
		t.Errorf("%d %v %s", a.status, a.header, a.body)
	}
	// What nobody takes is refused so that they understand it.
	for _, method := range []string{"POST", "GET"} {
		if a = g.call(method, echo+"Nothing", "", trpc...); a.status != 404 || a.header.Get("Trpc-Ret") != "12" || !strings.Contains(a.header.Get("Trpc-Error-Msg"), "no method /trpc.kit.echo.Echo/Nothing is served here") {
			t.Errorf("%s: %d %v %s", method, a.status, a.header, a.body)
		}
	}
}
