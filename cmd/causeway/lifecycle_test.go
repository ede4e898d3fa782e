package main

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
	"github.com/causeway-gateway/causeway/proxy"
	"github.com/causeway-gateway/causeway/testdata/descriptors"
	"github.com/causeway-gateway/causeway/testdata/echo"
)

// A call on a listener that a reload took away is waited for by a stop too.
func TestStopWaitsForRemovedListeners(t *testing.T) {
	t.Parallel()
	backend := echo.Start(t, "127.0.0.1:0", "a")
	text := echoConfig(t, t.TempDir(), backend.Address)
	second := reserve(t)
	g := startGateway(t, strings.Replace(text, "  - address: 127.0.0.1:0\n", "  - address: 127.0.0.1:0\n  - address: "+second+"\n", 1))
	got := make(chan answer, 1)
	go func() {
		a, err := trySend(g.client, "GET", "http://"+second+"/v1/wait?time=1.500s", "")
		if err != nil {
			a.body = err.Error()
		}
		got <- a
	}()
	waitFor(t, "the call to reach the service", func() bool { return backend.Waiting.Load() == 1 })
	g.write(text)
	waitFor(t, "the listener to be taken away", func() bool { return len(g.gateway.Addresses()) == 1 })
	g.end()
	if a := <-got; a.status != 200 {
		t.Errorf("want the call to end with 200, found %d %s", a.status, a.body)
	}
}

// silentServer accepts connections and never answers.
func silentServer(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var held []net.Conn
		for {
			c, err := ln.Accept()
			if err != nil {
				break
			}
			held = append(held, c)
		}
		for _, c := range held {
			_ = c.Close() // the end of the test
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); <-done })
	return ln.Addr().String()
}

// While a reload waits for somebody, the gateway answers for itself, and a stop does not wait with it.
func TestReloadThatWaitsHoldsNobodyUp(t *testing.T) {
	backend := echo.Start(t, "127.0.0.1:0", "a")
	text := echoConfig(t, t.TempDir(), backend.Address)
	g := startGateway(t, text)
	g.stopWatch() // the test itself says when to reload
	g.watching.Wait()
	g.write(strings.Replace(text, "schemas:\n", "schemas:\n  - {name: slow, reflection: {address: \""+silentServer(t)+"\"}}\n", 1))
	reloaded := make(chan error, 1)
	go func() { reloaded <- g.gateway.Reload(context.Background()) }()
	waitFor(t, "the reload to begin", func() bool { return len(g.gateway.Files()) > 4 })
	start := time.Now()
	for _, path := range []string{"/livez", "/readyz", "/readyz?verbose", "/metrics", "/api/v1/schemas"} {
		if a := g.control("GET", path, nil); a.status != 200 {
			t.Errorf("%s: want 200, found %d %s", path, a.status, a.body)
		}
	}
	g.gateway.Shutdown(context.Background(), proxy.Stop{Grace: 5 * time.Second})
	if err := <-reloaded; err == nil {
		t.Error("want the reload ended with the gateway")
	}
	if took := time.Since(start); took > 8*time.Second { // a reflection server that is silent is waited for 10 s
		t.Errorf("want nobody to wait for the reload, it took %s", took)
	}
}

// A body that nobody asks for does not keep its sender's answer back.
func TestUnreadBodyHoldsNothing(t *testing.T) {
	backend := echo.Start(t, "127.0.0.1:0", "a")
	g := startEcho(t, "", backend.Address)
	for _, path := range []string{"/nope", "/v1/echo"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://")) //nolint:noctx // on loopback
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "POST "+path+" HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\nContent-Length: 1000\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(raw), "HTTP/1.1 4") {
			t.Errorf("%s: want the refusal and the end of the connection, found %q %v", path, raw, err)
		}
		_ = conn.Close() // it is over
	}
	// A connection whose body was read lives on.
	for range 2 {
		if a := g.call("POST", "/v1/echo", `{}`); a.status != 200 {
			t.Errorf("want 200, found %d %s", a.status, a.body)
		}
	}
}

// A push that the configuration cannot take leaves nothing behind, on disk either.
func TestRefusedPushLeavesNothing(t *testing.T) {
	backend := echo.Start(t, "127.0.0.1:0", "a")
	text := strings.ReplaceAll(pushedConfig, "ADDR", backend.Address)
	dir := t.TempDir()
	g, err := tryGateway(t, dir, text)
	if err != nil {
		t.Fatal(err)
	}
	if a := g.control("PUT", "/api/v1/schemas/echo", descriptors.Encode(t, echov1.File_demo_echo_v1_echo_proto)); a.status != 200 {
		t.Fatal(a.body)
	}
	set := descriptors.Set(echov1.File_demo_echo_v1_echo_proto)
	file := set.GetFile()[len(set.GetFile())-1]
	twin := proto.CloneOf(file.GetService()[0].GetMethod()[0])
	twin.Name = proto.String("Twin") // with the same HTTP rule
	file.Service[0].Method = append(file.Service[0].Method, twin)
	raw, err := proto.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	a := g.control("PUT", "/api/v1/schemas/echo", raw)
	if a.status != 422 || !strings.Contains(a.body, "Echo/Twin of service echo and demo.echo.v1.Echo/Call of service echo both take POST /v1/echo") {
		t.Errorf("want 422 with both owners, found %d %s", a.status, a.body)
	}
	if a := g.control("GET", "/api/v1/schemas/echo", nil); strings.Contains(a.body, `"number": 2`) || !strings.Contains(a.body, "pushed, version 1") {
		t.Errorf("want version 1 alone, found %s", a.body)
	}
	if a := g.call("GET", "/v1/echo/x", ""); a.status != 200 {
		t.Errorf("want the former version to serve, found %d", a.status)
	}
}
