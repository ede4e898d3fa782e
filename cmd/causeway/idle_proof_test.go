package main

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	ordersv1 "github.com/causeway-gateway/causeway/protos/demo/orders/v1"
	"github.com/causeway-gateway/causeway/testdata/descriptors"
)

// idleKind is a kind of connection of which a gateway has to bear many.
type idleKind struct {
	name  string
	limit int // bytes of the gateway's memory for each
	// again is how often a connection makes a call so that it is not closed for being idle.
	again time.Duration
	tls   bool
	dial  func(t *testing.T, address string, config *tls.Config) (idleCaller, error)
}

// idleCaller is a connection that is idle but for a call now and then.
type idleCaller interface {
	byteCaller
	close()
}

// TestProofIdleConnections measures the resident memory of a gateway of its own with many connections that have made calls
// and then nearly none: 10,000 of each kind five minutes later, or, in the short form, fewer and sooner.
func TestProofIdleConnections(t *testing.T) {
	// The collector has not run since the load in the short form, so that garbage of the calls is still there.
	conns, later, garbage := 400, 2*time.Second, 2
	if full() {
		conns, later, garbage = 10_000, 5*time.Minute, 1
	}
	binary := buildBinary(t)
	for _, kind := range []idleKind{
		{name: "HTTP/1.1", limit: 32 << 10, again: 45 * time.Second, dial: dialIdleREST},
		{name: "HTTP/2 with TLS", limit: 64 << 10, again: 3 * time.Minute, tls: true, dial: dialIdleGRPC},
	} {
		t.Run(kind.name, func(t *testing.T) {
			p, config := startIdle(t, binary, kind.tls)
			first, err := kind.dial(t, p.address, config)
			if err != nil {
				t.Fatal(err)
			}
			callTimes(t, []idleCaller{first}, 100) // the backend's connection and what is made once
			before := resident(t, p.cmd.Process.Pid)
			callers := append(dialAll(t, kind, p.address, config, conns-1), first) // as many as a gateway takes
			defer func() {
				for _, c := range callers {
					c.close()
				}
			}()
			callTimes(t, callers, 3)
			loaded := resident(t, p.cmd.Process.Pid)
			stayIdle(t, callers, later, kind.again)
			after := resident(t, p.cmd.Process.Pid)
			each := (after - before) / conns
			t.Logf("PROOF idle connections, %s: %d bytes of resident memory for each of %d, %v after load (%d at once)",
				kind.name, each, conns, later, (loaded-before)/conns)
			if each > garbage*kind.limit {
				t.Errorf("want at most %d bytes for a connection, found %d", garbage*kind.limit, each)
			}
			callTimes(t, callers, 1) // all are still there
		})
	}
}

// startIdle starts a gateway of its own, with access log and metrics, before a backend that answers at once.
func startIdle(t *testing.T, binary string, secure bool) (*process, *tls.Config) {
	t.Helper()
	backend, dir, address := startCanned(t), t.TempDir(), reserve(t)
	set := filepath.Join(dir, "orders.binpb")
	if err := os.WriteFile(set, descriptors.Encode(t, ordersv1.File_demo_orders_v1_orders_proto), 0o600); err != nil {
		t.Fatal(err)
	}
	listener, config := "", (*tls.Config)(nil)
	if secure {
		a := newAuthority(t, "authority")
		cert, key := a.issue("localhost", 2)
		listener = fmt.Sprintf("\n    tls: {cert_file: %q, key_file: %q}", cert, key)
		config = &tls.Config{RootCAs: a.pool(), ServerName: "localhost", MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}}
	}
	file := filepath.Join(dir, "causeway.yaml")
	text := fmt.Sprintf(`listen:
  - address: %s%s
admin: {address: "127.0.0.1:0", data_dir: %q}
schemas:
  - {name: orders, descriptor_set: %q}
services:
  - {name: orders, schema: orders, endpoints: [{address: %q}]}
plugins:
  - {name: metrics}
  - name: access_log
    config: {output: %q}
`, address, listener, filepath.Join(dir, "data"), set, backend.address, filepath.Join(dir, "access.log"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, args: []string{binary, "run", "-c", file, "--grace", "1s"}, address: address}
	p.start()
	return p, config
}

// together has several goroutines do something with each of n connections, and ends the test at a fault.
func together(t *testing.T, n int, do func(i int) error) {
	t.Helper()
	const at = 8
	var faults [at]error
	var all sync.WaitGroup
	for g := range at {
		all.Go(func() {
			for i := g; i < n && faults[g] == nil; i += at {
				if err := do(i); err != nil {
					faults[g] = fmt.Errorf("connection %d of %d: %w", i, n, err)
				}
			}
		})
	}
	all.Wait()
	if err := errors.Join(faults[:]...); err != nil {
		t.Fatal(err)
	}
}

// dialAll opens the connections.
func dialAll(t *testing.T, kind idleKind, address string, config *tls.Config, conns int) []idleCaller {
	t.Helper()
	callers := make([]idleCaller, conns)
	together(t, conns, func(i int) (err error) {
		// The first call at once: a connection that says nothing for 10 s is closed, and a busy machine takes longer.
		if callers[i], err = kind.dial(t, address, config); err != nil {
			return err
		}
		return callers[i].call()
	})
	return callers
}

// callTimes makes n calls on each connection.
func callTimes(t *testing.T, callers []idleCaller, n int) {
	t.Helper()
	together(t, len(callers), func(i int) error {
		for range n {
			if err := callers[i].call(); err != nil {
				return err
			}
		}
		return nil
	})
}

// stayIdle waits for a time in which each connection makes a call every so often, evenly spread. What is late on a busy
// machine is made up for.
func stayIdle(t *testing.T, callers []idleCaller, d, again time.Duration) {
	t.Helper()
	begun := time.Now()
	for round := time.Duration(0); round < d; round += again {
		together(t, len(callers), func(i int) error {
			due := round + again*time.Duration(i)/time.Duration(len(callers))
			if due >= d {
				return nil
			}
			wait := time.NewTimer(due - time.Since(begun))
			defer wait.Stop()
			<-wait.C
			return callers[i].call()
		})
	}
	rest := time.NewTimer(d - time.Since(begun))
	defer rest.Stop()
	<-rest.C
}

// resident is how many bytes of memory a process has.
func resident(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		t.Skipf("it needs Linux: %v", err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatalf("no VmRSS in %q", text)
	return 0
}

// idleDialer sends no probes: those of 10,000 connections at once are more than a loopback takes, and a connection whose
// probes are lost ends.
var idleDialer = net.Dialer{Timeout: 30 * time.Second, KeepAlive: -1}

// idleREST calls by HTTP/1.1.
type idleREST struct {
	conn    net.Conn
	request []byte
	buf     []byte
}

func dialIdleREST(_ *testing.T, address string, _ *tls.Config) (idleCaller, error) {
	conn, err := idleDialer.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return &idleREST{conn: conn, buf: make([]byte, 2<<10), request: fmt.Appendf(nil,
		"GET /v1/customers/customers-7f3a91c2/orders/42 HTTP/1.1\r\nHost: %s\r\nUser-Agent: orders-app/5.14.2\r\nAuthorization: Bearer %s\r\n\r\n",
		address, strings.Repeat("eyJhbGciOi", 30))}, nil
}

func (c *idleREST) close() { _ = c.conn.Close() } // it is done with

func (c *idleREST) call() error {
	if err := c.conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	for have := 0; ; {
		n, err := c.conn.Read(c.buf[have:])
		if err != nil {
			return err
		}
		have += n
		if a := string(c.buf[:have]); strings.HasPrefix(a, "HTTP/1.1 200 ") && strings.HasSuffix(a, `"}`) && strings.Contains(a, `"name":"orders/42"`) {
			return nil
		}
		if have == len(c.buf) {
			return fmt.Errorf("unexpected answer %q", c.buf)
		}
	}
}

// idleGRPC calls by HTTP/2 over TLS.
type idleGRPC struct {
	conn   net.Conn
	reader http2Reader
	call1  []byte // HEADERS and DATA
	stream uint32
}

func dialIdleGRPC(t *testing.T, address string, config *tls.Config) (idleCaller, error) {
	ctx, cancel := context.WithTimeout(t.Context(), idleDialer.Timeout)
	defer cancel()
	conn, err := (&tls.Dialer{NetDialer: &idleDialer, Config: config}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &idleGRPC{conn: conn, reader: http2Reader{conn: conn, buf: make([]byte, 2<<10)}, stream: 1}
	// POST, https, then literals without the dynamic table.
	block := []byte("\x83\x87")
	for _, f := range [][2]string{
		{":path", ordersv1.Orders_GetOrder_FullMethodName}, {":authority", "localhost"}, {"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		block = append(block, 0, byte(len(f[0])))
		block = append(block, f[0]...)
		block = append(block, byte(len(f[1])))
		block = append(block, f[1]...)
	}
	c.call1 = appendHTTP2(nil, http2.FrameHeaders, http2.FlagHeadersEndHeaders, 0, block)
	c.call1 = appendHTTP2(c.call1, http2.FrameData, http2.FlagDataEndStream, 0, prefixed([]byte("\x0a\x09orders/42")))
	hello := appendHTTP2([]byte(http2.ClientPreface), http2.FrameSettings, 0, 0, nil)
	_, err = conn.Write(hello)
	return c, err
}

func (c *idleGRPC) close() { _ = c.conn.Close() } // it is done with

func (c *idleGRPC) call() error {
	if err := c.conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	for at := 0; at < len(c.call1); at += 9 + int(binary.BigEndian.Uint32(c.call1[at:])>>8) {
		binary.BigEndian.PutUint32(c.call1[at+5:], c.stream)
	}
	if _, err := c.conn.Write(c.call1); err != nil {
		return err
	}
	answered := false
	for {
		kind, flags, stream, p, err := c.reader.next()
		if err != nil {
			return err
		}
		switch {
		case kind == http2.FrameSettings && !flags.Has(http2.FlagSettingsAck):
			if _, err := c.conn.Write(settingsAck); err != nil {
				return err
			}
		case kind == http2.FramePing && !flags.Has(http2.FlagPingAck):
			if _, err := c.conn.Write(appendHTTP2(nil, http2.FramePing, http2.FlagPingAck, 0, p)); err != nil {
				return err
			}
		case kind == http2.FrameData && stream == c.stream:
			answered = len(p) > 5
		case kind == http2.FrameHeaders && stream == c.stream && flags.Has(http2.FlagHeadersEndStream):
			if !answered {
				return fmt.Errorf("no message in the answer: %q", p)
			}
			c.stream += 2
			return nil
		case kind == http2.FrameRSTStream || kind == http2.FrameGoAway:
			return fmt.Errorf("%v: %x", kind, p)
		}
	}
}
