package main

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
	"github.com/causeway-gateway/causeway/testdata/descriptors"
	"github.com/causeway-gateway/causeway/testdata/echo"
	"github.com/causeway-gateway/causeway/testdata/tarskit"
	"github.com/causeway-gateway/causeway/testdata/trpckit"
)

// dialKit connects to a listener of the gateway's.
func dialKit(t *testing.T, address string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", address) //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return nc
}

// without is a map without what the gateway adds.
func without(m map[string]string) map[string]string {
	delete(m, "x-request-id")
	return m
}

// spellingGateway is a gateway with a servant that answers with the context and the status that it got, and has them seen; and with a
// service over gRPC. Plugins take "secret" away, and set "tenant".
func spellingGateway(t *testing.T, options, listener string) (g *gatewayTest, seen func() *tarskit.Packet) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	calls := make(chan *tarskit.Packet, 16)
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer nc.Close()
				for {
					r, err := tarskit.ReadRequest(nc)
					if err != nil {
						return
					}
					calls <- r
					a := &tarskit.Packet{Version: r.Version, ID: r.ID, Body: tarskit.String(nil, 0, "hi"), Context: r.Context, Status: map[string]string{"Load": "\xff", "STATUS_X": "hidden"}}
					if _, err := nc.Write(a.Answer()); err != nil {
						return
					}
				}
			}()
		}
	}()
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
  - {address: "127.0.0.1:0", protocol: tars, options: {servants: [{name: %[1]s, service: Kit.Echo}], %[6]s}}
  - {address: "127.0.0.1:0", protocol: trpc}
admin: {address: "127.0.0.1:0"}
schemas:
  - {name: kit, tars: {paths: [%[2]s/Kit.tars]}}
  - {name: echo, descriptor_set: %[2]s/echo.binpb}
services:
  - {name: kit, schema: kit, adapter: tars, endpoints: [{address: %[3]q}], options: {servant: %[1]s, %[5]s}}
  - {name: echo, schema: echo, endpoints: [{address: %[4]q}]}
routes:
  - {name: hello, service: kit, http: {method: Kit.Echo/hello, get: "/v1/hello/{name}"}, request_headers: [userid]}
plugins:
  - {name: headers, config: {request: {remove: [secret], set: {tenant: acme}}, response: {remove: [hidden]}}}
`, kitServant, dir, l.Addr(), backend.Address, options, listener))
	return g, func() *tarskit.Packet {
		t.Helper()
		return nextOf(t, calls)
	}
}

// nextOf is what a service tells of the next call that came.
func nextOf[T any](t *testing.T, calls <-chan T) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	select {
	case c := <-calls:
		return c
	case <-ctx.Done():
		t.Fatal("the service was not called")
		panic("not reached")
	}
}

// TestSpellingTARS: names and values of the context and of the status arrive as they were sent, and answers' too, but for what
// plugins have taken away or set. Services of gRPC get what metadata can carry.
func TestSpellingTARS(t *testing.T) {
	t.Parallel()
	g, seen := spellingGateway(t, "", "")
	c := &tarskit.Client{Conn: dialKit(t, g.gateway.Addresses()[1])}
	packet := tarskit.Packet{
		Servant: kitServant, Function: "hello", Body: tarskit.String(nil, 1, "kit"), Timeout: 20_000,
		Context: map[string]string{
			"UserId": "42", "userName": "\xe4\xbd\xa0\xe5\xa5\xbd", "X-Consumer-Name": "forged", "Secret": "\xff", "TENANT": "theirs", "plain": "1", "uid@app": "a\x00b", "Hidden": "h",
		},
		Status: map[string]string{"Weight": "3", "STATUS_GRID_KEY": "forged"},
	}
	a, err := c.Call(packet)
	if err != nil || a.Ret != 0 {
		t.Fatalf("%+v %v", a, err)
	}
	got := seen()
	want := map[string]string{"UserId": "42", "userName": "\xe4\xbd\xa0\xe5\xa5\xbd", "tenant": "acme", "plain": "1", "uid@app": "a\x00b", "Hidden": "h"}
	if diff := cmp.Diff(want, without(got.Context)); diff != "" {
		t.Errorf("what the servant got: %s", diff)
	}
	if diff := cmp.Diff(map[string]string{"Weight": "3"}, got.Status); diff != "" {
		t.Errorf("what the servant got: %s", diff)
	}
	delete(want, "Hidden")
	if diff := cmp.Diff(want, without(a.Context)); diff != "" {
		t.Errorf("what the client got: %s", diff)
	}
	if diff := cmp.Diff(map[string]string{"Load": "\xff"}, a.Status); diff != "" {
		t.Errorf("what the client got: %s", diff)
	}
	packet.Servant, packet.Function, packet.Body = "demo.echo.v1.Echo", "Call", []byte{0x1a, 0x0b}
	if a, err = c.Call(packet); err != nil || a.Ret != 0 {
		t.Fatalf("%+v %v", a, err)
	}
	for _, text := range []string{"userid", "plain", "tenant"} {
		if !strings.Contains(string(a.Body), text) {
			t.Errorf("the service of gRPC did not get %s: %q", text, a.Body)
		}
	}
	if strings.Contains(string(a.Body), "%E4") || strings.Contains(string(a.Body), "username") {
		t.Errorf("the service of gRPC got what metadata cannot carry: %q", a.Body)
	}

	// From tRPC to TARS: the same.
	nc := dialKit(t, g.gateway.Addresses()[2])
	f := trpckit.Request(1, "/Kit.Echo/hello", []byte("\x12\x01x")).Set("timeout", uint32(20_000)).Set("trans_info", map[string]string{"UserId": "42", "Raw": "\x00\xff", "Secret": "\x01"})
	if _, err := nc.Write(f.Bytes()); err != nil {
		t.Fatal(err)
	}
	back, err := trpckit.Read(nc, false)
	if err != nil || back.Int("ret") != 0 {
		t.Fatalf("%v %v", back, err)
	}
	if diff := cmp.Diff(map[string]string{"UserId": "42", "Raw": "\x00\xff", "tenant": "acme"}, without(seen().Context)); diff != "" {
		t.Errorf("what the servant got: %s", diff)
	}
	if diff := cmp.Diff(map[string]string{"UserId": "42", "Raw": "\x00\xff", "tenant": "acme", "tars-status-Load": "\xff"}, without(back.Info("trans_info"))); diff != "" {
		t.Errorf("what the client got: %s", diff)
	}
}

// TestSpellingNamed: names of the context are spelled as the configuration has it, whoever calls and whatever a plugin set.
func TestSpellingNamed(t *testing.T) {
	t.Parallel()
	g, seen := spellingGateway(t, "context_names: [UserId, Tenant], request_context: [UserID, tenant]", "context_names: [X-Request-Id, USERID]")
	if a := g.call("GET", "/v1/hello/x", "", "UserID", "42"); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	want := map[string]string{"UserId": "42", "Tenant": "acme"}
	if diff := cmp.Diff(want, seen().Context); diff != "" {
		t.Error(diff)
	}
	c := &tarskit.Client{Conn: dialKit(t, g.gateway.Addresses()[1])}
	a, err := c.Call(tarskit.Packet{Servant: kitServant, Function: "hello", Body: tarskit.String(nil, 1, "kit"), Context: map[string]string{"userID": "43", "Other": "1"}, Timeout: 20_000})
	if err != nil || a.Context["X-Request-Id"] == "" || a.Context["USERID"] != "43" {
		t.Errorf("%+v %v", a, err)
	}
	if diff := cmp.Diff(map[string]string{"UserId": "43", "Tenant": "acme"}, seen().Context); diff != "" {
		t.Error(diff)
	}
}

// TestSpellingTRPC: names and values of trans_info arrive as they were sent, those of unary calls, of streams and over HTTP, and answers' too; what
// servers send back of it is found all the same.
func TestSpellingTRPC(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	calls := make(chan map[string]string, 16)
	own := map[string]string{"AppOwn": "\x00\xfe", "plain": "p", "Own-Bin": "\xff"}
	go func() { // sends trans_info back as servers of trpc-go do, with some of its own, and ends streams at once
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer nc.Close()
				for {
					f, err := trpckit.Read(nc, true)
					if err != nil {
						return
					}
					path := "trans_info"
					var answer *trpckit.Frame
					switch f.Kind {
					case trpckit.Unary:
						answer = trpckit.Response(f, nil)
					case trpckit.Init:
						path = "request_meta.trans_info"
						if _, err := nc.Write(trpckit.Opened(f.ID, 65535, 0, "").Bytes()); err != nil {
							return
						}
						answer = trpckit.End(f.ID, 0, 0, "")
					default:
						continue
					}
					info := f.Info(path)
					back := map[string]string{}
					maps.Copy(back, info)
					maps.Copy(back, own)
					calls <- info
					if _, err := nc.Write(answer.Set("trans_info", back).Bytes()); err != nil {
						return
					}
				}
			}()
		}
	}()
	dir := t.TempDir()
	text, err := os.ReadFile("../../testdata/trpc/kit.proto")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir+"/kit.proto", text)
	g := startGateway(t, fmt.Sprintf(`listen: [{address: "127.0.0.1:0"}, {address: "127.0.0.1:0", protocol: trpc, options: {info_names: [X-Request-Id]}}]
admin: {address: "127.0.0.1:0"}
schemas: [{name: kit, proto: {paths: [%s/kit.proto]}}]
services: [{name: kit, schema: kit, adapter: trpc, endpoints: [{address: %q}], options: {info_names: [AppSet]}}]
routes: [{name: all, service: kit, methods: ["*"]}]
plugins:
  - {name: headers, config: {request: {remove: [secret], set: {appset: acme}}}}
`, dir, l.Addr()))
	sent := map[string]string{
		"UserId": "42", "raw": "\x00\xff", "Some-Bin": "\xff\xfe", "X-Consumer-Name": "forged", "Secret": "\xff", "APPSET": "theirs", "a/b": "\x01", "trpc-env": "test", "trpc-user-ip": "forged",
	}
	want := map[string]string{"UserId": "42", "raw": "\x00\xff", "Some-Bin": "\xff\xfe", "AppSet": "acme", "a/b": "\x01", "trpc-env": "test"}
	got := func() map[string]string {
		t.Helper()
		info := nextOf(t, calls)
		delete(info, "x-request-id")
		return info
	}
	nc := dialKit(t, g.gateway.Addresses()[1])
	next := func(f *trpckit.Frame) *trpckit.Frame {
		t.Helper()
		if f != nil {
			if _, err := nc.Write(f.Bytes()); err != nil {
				t.Fatal(err)
			}
		}
		back, err := trpckit.Read(nc, false)
		if err != nil {
			t.Fatal(err)
		}
		return back
	}
	same := func(what string, want, got map[string]string) {
		t.Helper()
		if got["X-Request-Id"] == "" {
			t.Errorf("%s has no X-Request-Id", what)
		}
		delete(got, "X-Request-Id")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	back := next(trpckit.Request(1, "/trpc.kit.echo.Echo/Echo", nil).Set("trans_info", sent))
	if diff := cmp.Diff(want, got()); diff != "" {
		t.Errorf("what the service got: %s", diff)
	}
	same("the answer", own, back.Info("trans_info"))

	back = next(trpckit.Open(100, "/trpc.kit.echo.Stream/Chat", 65535).Set("request_meta.trans_info", sent))
	for back.Kind != trpckit.Close {
		back = next(nil)
	}
	if diff := cmp.Diff(want, got()); diff != "" {
		t.Errorf("what the service got on a stream: %s", diff)
	}
	same("the end of the stream", own, back.Info("trans_info"))

	a := g.call("POST", "/trpc.kit.echo.Echo/Echo", `{}`, "Content-Type", "application/json", "trpc-caller", "trpc.peer.Client", "trpc-trans-info", `{"UserId":"NDI=","Raw":"AP8="}`)
	if a.status != 200 || !strings.Contains(a.header.Get("trpc-trans-info"), `"AppOwn":"AP4="`) || strings.Contains(a.header.Get("trpc-trans-info"), "UserId") {
		t.Errorf("%d %v", a.status, a.header)
	}
	if info := got(); info["UserId"] != "42" || info["Raw"] != "\x00\xff" {
		t.Errorf("what the service got of a call by HTTP: %q", info)
	}
}
