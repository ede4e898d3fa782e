package http1_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/http1"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/server"
)

// handler is an exchange's handler as a function.
type handler func(ctx context.Context, x *wire.Exchange)

func (h handler) ServeExchange(ctx context.Context, x *wire.Exchange) { h(ctx, x) }

// seen is a request as a handler saw it.
type seen struct {
	Method, Host, Path, Query, Proto, Body string
	Length                                 int64
	Header                                 rpc.Metadata
	Err                                    string
}

// recorder is a handler that reads the body, remembers what it saw and answers 200 with the body, or the body's error.
type recorder struct {
	mu   sync.Mutex
	seen []seen
}

func (r *recorder) ServeExchange(_ context.Context, x *wire.Exchange) {
	s := seen{Method: x.HTTP.Method, Host: x.HTTP.Host, Path: x.HTTP.Path, Query: x.HTTP.Query, Proto: x.Proto, Length: x.ContentLength, Header: slices.Clone(x.HTTP.Header)}
	body, err := io.ReadAll(x)
	s.Body = string(body)
	if err != nil {
		s.Err = err.Error()
	}
	r.mu.Lock()
	r.seen = append(r.seen, s)
	r.mu.Unlock()
	if e, ok := errors.AsType[*rpc.Error](err); ok {
		_ = x.Respond(max(e.Status, 400), nil, []byte(e.Message))
		return
	}
	if err != nil {
		_ = x.Respond(400, nil, []byte(err.Error()))
		return
	}
	_ = x.Respond(200, nil, body)
}

func (r *recorder) all() []seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.seen)
}

// refusals remembers what the engine answered itself.
type refusals struct {
	mu  sync.Mutex
	all []string
}

func (r *refusals) Refused(peer netip.AddrPort, status int, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !peer.IsValid() {
		reason += " of nobody"
	}
	r.all = append(r.all, fmt.Sprintf("%d %s", status, reason))
}

func (r *refusals) last() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.all) == 0 {
		return ""
	}
	return r.all[len(r.all)-1]
}

// setup is a server to test with.
type setup struct {
	limits  http1.Limits
	refused http1.Refused
	tls     *tls.Config
}

// serve starts it on loopback; the test's end shuts it down.
func (u setup) serve(t testing.TB, h wire.Handler) (*server.Server, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := server.New(h, http1.New(u.limits, u.refused), nil, server.Options{TLS: u.tls})
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx) // cuts what a failed test left
		if err := <-done; err != nil {
			t.Errorf("Serve: want nil after Shutdown, found %v", err)
		}
	})
	return s, ln.Addr().String()
}

// client is a connection to the server from the other side.
type client struct {
	t testing.TB
	net.Conn
	tcp *net.TCPConn
	r   *bufio.Reader
}

// dial opens a connection that the test's end closes, and on which nothing waits for ever.
func (u setup) dial(t testing.TB, address string) *client {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(60 * time.Second)); err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, Conn: conn, tcp: conn.(*net.TCPConn)}
	if u.tls != nil {
		c.Conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
	}
	c.r = bufio.NewReader(c.Conn)
	return c
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.Conn, text); err != nil {
		c.t.Fatal(err)
	}
}

// reply is an answer without its body.
type reply struct {
	StatusCode       int
	Header, Trailer  http.Header
	ContentLength    int64
	TransferEncoding []string
	Close            bool
}

// answer reads one answer to a request of that method.
func (c *client) answer(method string) (reply, string) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		c.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	_ = resp.Body.Close() // read to its end
	return reply{resp.StatusCode, resp.Header, resp.Trailer, resp.ContentLength, resp.TransferEncoding, resp.Close}, string(body)
}

// body reads one answer's body.
func (c *client) body(method string) string {
	c.t.Helper()
	_, body := c.answer(method)
	return body
}

// rest reads to the end of the connection, which must be an orderly one.
func (c *client) rest() string {
	c.t.Helper()
	raw, err := io.ReadAll(c.r)
	if err != nil {
		c.t.Fatalf("%v after %q", err, raw)
	}
	return string(raw)
}

// raw sends bytes on a connection of its own and returns all that comes back until the server ends it.
func raw(t testing.TB, address, request string) string {
	t.Helper()
	c := setup{}.dial(t, address)
	c.send(request)
	return c.rest()
}

// waitFor waits for a condition.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// certificate is a TLS configuration with a certificate of its own.
func certificate(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
}

// both runs a test in plain text and with TLS.
func both(t *testing.T, test func(t *testing.T, u setup)) {
	t.Run("plain", func(t *testing.T) { test(t, setup{}) })
	t.Run("tls", func(t *testing.T) { test(t, setup{tls: certificate(t)}) })
}

// fields makes metadata of names and values.
func fields(kv ...string) (m rpc.Metadata) {
	for i := 0; i < len(kv); i += 2 {
		m.Add(kv[i], kv[i+1])
	}
	return m
}

func repeat(key, value string, n int) (m rpc.Metadata) {
	for range n {
		m.Add(key, value)
	}
	return m
}
