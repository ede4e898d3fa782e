package main

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	tarsadapter "github.com/causeway-gateway/causeway/rpcadapters/tars"
	"github.com/causeway-gateway/causeway/transcode/tarswire"
)

// queryObj is a TARS registry that knows one servant.
type queryObj struct {
	t        testing.TB
	address  string
	mu       sync.Mutex
	active   []string // host:port
	inactive []string
	asked    map[string]int
}

func startQueryObj(t testing.TB) *queryObj {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveQueryObj(t, ln)
}

// serveQueryObj is a registry that listens already.
func serveQueryObj(t testing.TB, ln net.Listener) *queryObj {
	t.Helper()
	q := &queryObj{t: t, address: ln.Addr().String(), asked: map[string]int{}}
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			all.Go(func() { q.serve(c) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return q
}

// set makes the servant have these instances.
func (q *queryObj) set(active, inactive []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.active, q.inactive = active, inactive
}

func (q *queryObj) serve(c net.Conn) {
	for {
		var head [4]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		packet := make([]byte, binary.BigEndian.Uint32(head[:])-4)
		if _, err := io.ReadFull(c, packet); err != nil {
			return
		}
		var r tarsadapter.Request
		if err := tarsadapter.ParseRequest(&r, packet); err != nil {
			q.t.Error(err)
			return
		}
		in := tarswire.NewReader(r.Body)
		_, typ := in.Head()
		servant := string(in.Bytes(typ))
		q.mu.Lock()
		q.asked[string(r.Servant)+"/"+string(r.Function)+"/"+servant]++
		body := tarswire.AppendInt(nil, 0, 0)
		for tag, list := range [][]string{2: q.active, 3: q.inactive} {
			if tag < 2 {
				continue
			}
			if servant != kitServant {
				list = nil
			}
			body = tarswire.AppendInt(tarswire.AppendHead(body, uint8(tag), tarswire.List), 0, int64(len(list)))
			for _, address := range list {
				body = appendEndpointF(q.t, body, address)
			}
		}
		q.mu.Unlock()
		out := tarsadapter.AppendResponse(make([]byte, 4), &tarsadapter.Response{Version: r.Version, ID: r.ID, Body: body})
		binary.BigEndian.PutUint32(out, uint32(len(out)))
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

// appendEndpointF appends an element of a vector of tars::EndpointF.
func appendEndpointF(t testing.TB, dst []byte, address string) []byte {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Error(err)
	}
	n, err := strconv.ParseInt(port, 10, 32)
	if err != nil {
		t.Error(err)
	}
	dst = tarswire.AppendHead(dst, 0, tarswire.StructBegin)
	dst = tarswire.AppendString(dst, 0, host)
	for i, v := range []int64{n, 60000, 1, 0} { // port, timeout, istcp, grid
		dst = tarswire.AppendInt(dst, uint8(i+1), v)
	}
	return tarswire.AppendHead(dst, 0, tarswire.StructEnd)
}

// A REST caller reaches a TARS servant that the TARS registry knows, and follows it when it moves.
func TestDiscoveryTARS(t *testing.T) {
	one, first := startServant(t)
	two, second := startServant(t)
	registry := startQueryObj(t)
	registry.set([]string{first}, []string{second})
	dir := t.TempDir()
	idl, err := os.ReadFile("../../testdata/tars/Kit.tars")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir+"/Kit.tars", idl)
	host, port, err := net.SplitHostPort(registry.address)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`listen: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
schemas:
  - {name: kit, tars: {paths: [%s/Kit.tars]}}
registries:
  - {name: t, tars: {locator: "tars.tarsregistry.QueryObj@tcp -h %s -p %s", interval: 0.1s}}
services:
  - name: kit
    schema: kit
    adapter: tars
    options: {servant: %s}
    discovery: [{registry: t, service: %s}]
routes:
  - {name: kit, service: kit, methods: ["Kit.Echo/*"]}
`, dir, host, port, kitServant, kitServant)
	g := startGateway(t, text)
	add := func() bool {
		a := g.call("POST", "/Kit.Echo/add", `{"a":1,"b":2}`)
		return a.status == 200 && strings.Contains(a.body, "3")
	}
	waitFor(t, "an answer", add)
	if len(one.Calls()) == 0 || len(two.Calls()) != 0 {
		t.Errorf("want the active instance called and no other, found %d and %d calls", len(one.Calls()), len(two.Calls()))
	}
	shown := g.control("GET", "/api/v1/services/kit", nil)
	if !strings.Contains(shown.body, first) || !strings.Contains(shown.body, second) || !strings.Contains(shown.body, "down") {
		t.Errorf("want both instances shown, one of them down, found %d %s", shown.status, shown.body)
	}
	registry.set([]string{second}, nil)
	waitFor(t, "calls at the new place", func() bool {
		if !add() {
			t.Error("want no call to fail while the servant moves")
		}
		return len(two.Calls()) > 0
	})
	registry.mu.Lock()
	defer registry.mu.Unlock()
	if len(registry.asked) != 1 || registry.asked["tars.tarsregistry.QueryObj/findObjectById4Any/"+kitServant] < 2 {
		t.Errorf("want one question again and again, found %v", registry.asked)
	}
}

// A registry is asked by TLS where its locator says ssl, with a certificate where it wants one; one whose certificate nobody vouches for is
// never asked.
func TestDiscoveryTARSOverTLS(t *testing.T) {
	t.Parallel()
	registries, gateways := newAuthority(t, "registries"), newAuthority(t, "gateways")
	certFile, keyFile := registries.issue("registry", 1)
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	ownCert, ownKey := gateways.issue("gateway", 2)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: gateways.pool()})
	if err != nil {
		t.Fatal(err)
	}
	registry := serveQueryObj(t, ln)
	_, address := startServant(t)
	registry.set([]string{address}, nil)
	dir := t.TempDir()
	idl, err := os.ReadFile("../../testdata/tars/Kit.tars")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir+"/Kit.tars", idl)
	host, port, err := net.SplitHostPort(registry.address)
	if err != nil {
		t.Fatal(err)
	}
	config := func(locator, tls string) string {
		return fmt.Sprintf(`listen: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
schemas:
  - {name: kit, tars: {paths: [%s/Kit.tars]}}
registries:
  - {name: t, tars: {locator: "tars.tarsregistry.QueryObj@%s -h %s -p %s", interval: 0.1s%s}}
services:
  - {name: kit, schema: kit, adapter: tars, options: {servant: %[6]s}, discovery: [{registry: t, service: %[6]s}]}
routes:
  - {name: kit, service: kit, methods: ["Kit.Echo/*"]}
`, dir, locator, host, port, tls, kitServant)
	}
	g := startGateway(t, config("ssl", fmt.Sprintf(", tls: {ca_file: %s, cert_file: %s, key_file: %s}", registries.file, ownCert, ownKey)))
	waitFor(t, "an answer", func() bool { return g.call("POST", "/Kit.Echo/add", `{"a":1,"b":2}`).status == 200 })

	stranger := startGateway(t, config("ssl", fmt.Sprintf(", tls: {ca_file: %s, cert_file: %s, key_file: %s}", gateways.file, ownCert, ownKey)))
	waitFor(t, "the registry is not believed", func() bool {
		return strings.Contains(stranger.control("GET", "/api/v1/services/kit", nil).body, "certificate")
	})
	if a := stranger.call("POST", "/Kit.Echo/add", `{"a":1,"b":2}`); a.status != 503 {
		t.Errorf("found %d %s", a.status, a.body)
	}
	if _, err := tryGateway(t, t.TempDir(), config("tcp", fmt.Sprintf(", tls: {ca_file: %s}", registries.file))); err == nil || !strings.Contains(err.Error(), "write ssl instead of tcp") {
		t.Errorf("tls beside tcp: found %v", err)
	}
	if _, err := tryGateway(t, t.TempDir(), config("ssl", ", tls: {ca_file: /no/such.pem}")); err == nil || !strings.Contains(err.Error(), "registries[0]") {
		t.Errorf("an authority that is not there: found %v", err)
	}
}

// A locator that is none refuses the configuration.
func TestDiscoveryTARSLocator(t *testing.T) {
	text := echoConfig(t, t.TempDir(), "127.0.0.1:1") + "registries:\n  - {name: t, tars: {locator: \"tars.tarsregistry.QueryObj@udp -h h -p 1\"}}\n"
	_, err := tryGateway(t, t.TempDir(), text)
	if err == nil || !strings.Contains(err.Error(), `registries[0]`) || !strings.Contains(err.Error(), `found "udp"`) {
		t.Errorf("want the locator refused with its place, found %v", err)
	}
}
