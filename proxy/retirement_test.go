package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/causeway-gateway/causeway/proxy"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// What a plugin or a registry takes its time to close holds up neither the change, nor the call that leaves last; the end of the
// gateway waits for it.
func TestClosingHoldsNobodyUp(t *testing.T) {
	var closing atomic.Bool
	may := make(chan struct{})
	slow := &spy{name: "slow", close: func() { closing.Store(true); <-may }}
	b := mustBench(t, document+"plugins: [{name: slow}]\n", slow.kind())
	b.set(document)
	slow.handle = func(next rpc.Handler, ctx context.Context, c *rpc.Call) error {
		slow.handle = nil
		if err := b.gateway.Reload(ctx); err != nil { // so that this call is the last to leave
			t.Error(err)
		}
		return next.Handle(ctx, c)
	}
	if v := b.visit("GET", "/v1/echo/x", ""); v.status != 200 {
		t.Errorf("the last call: found %d", v.status)
	}
	soon(t, "the plugin being closed", closing.Load)
	if err := b.gateway.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	b.gateway.Sample()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.gateway.Shutdown(context.Background(), proxy.Stop{})
		if _, closed, _ := slow.counts(); closed != 1 {
			t.Error("the gateway has ended before the plugin was closed")
		}
	}()
	close(may)
	<-ended
}

// A panic of one plugin's Close is counted, and keeps nobody else from being closed.
func TestPanicInCloseIsCounted(t *testing.T) {
	bad, good := &spy{name: "bad", close: func() { panic("boom") }}, &spy{name: "good"}
	b := mustBench(t, document+"plugins: [{name: bad}, {name: good}]\n", bad.kind(), good.kind())
	b.set(strings.Replace(document, `{address: "a:1"}, `, "", 1))
	if err := b.gateway.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	soon(t, "the rest closed and the panic counted", func() bool {
		_, closed, _ := good.counts()
		return closed == 1 && b.closes.Load() == 2 && panics(t, b) == 1
	})
}

// A stream that outlives a change of its service keeps the connections of that service as it was, and nothing else: no resolver
// and no prober stays for it, nor what came and went after it.
func TestLongStreamKeepsOnlyConnections(t *testing.T) {
	caller := newQuietCaller()
	end := make(chan struct{})
	b, _ := chatBench(t, caller, func(context.Context, *rpc.Call) (rpcadapters.ClientStream, error) {
		return &upstreamStream{
			header: func() (rpc.Metadata, error) { return nil, nil },
			recv:   func(*rpc.Message) error { <-end; return io.EOF },
		}, nil
	})
	port := accepting(t)
	before := *b.text.Load()
	with := func(endpoints string) {
		t.Helper()
		b.set(strings.Replace(before, `endpoints: [{address: "a:1"}, {address: "b:1"}]`, `health_check: {tcp: {}, interval: 0.1s}, endpoints: [`+endpoints+"]", 1))
		if err := b.gateway.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	with(`{address: "127.0.0.1:` + port + `"}, {address: "127.0.0.2:` + port + `"}`)
	soon(t, "the first service closed", func() bool { return b.closes.Load() == 2 })
	got := make(chan int, 1)
	go func() { got <- b.visit("POST", "/v1/rooms/a:talk", "").status }()
	select {
	case <-caller.asked:
	case status := <-got:
		t.Fatalf("the stream did not begin: %d", status)
	}
	const changes = 5
	for n := range changes {
		with(fmt.Sprintf(`{address: "127.0.0.%d:%s"}`, 10+n, port))
	}
	soon(t, "one resolver at work", func() bool { return b.watches.Load() == 1 })
	soon(t, "one endpoint probed", func() bool { return probed(t, b) == 1 })
	soon(t, "what came and went meanwhile closed", func() bool { return b.closes.Load() == 2+changes-1 })
	if b.watches.Load() != 1 || b.closes.Load() != 2+changes-1 {
		t.Errorf("want the stream's own service open, found %d resolvers and %d transports closed", b.watches.Load(), b.closes.Load())
	}
	close(end)
	<-got
	soon(t, "the stream's service closed with it", func() bool { return b.closes.Load() == 2+changes-1+2 })
}

// accepting is a port at which connections are taken on every address of this machine.
func accepting(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "0.0.0.0:0") //nolint:gosec,noctx // the checks come to several addresses; binding does not wait
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.Close() // that it was taken is all
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close() // nobody is left
		<-done
	})
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// probed is how many endpoints the gateway probes.
func probed(t testing.TB, b *bench) (n int64) {
	t.Helper()
	b.gateway.Sample()
	vec, err := b.meter.Gauge("causeway_health_endpoints", "", "Endpoints that are probed, by what is known of them.", "state")
	if err != nil {
		t.Fatal(err)
	}
	for _, state := range []string{"up", "down", "unknown"} {
		n += vec.With(state).Value()
	}
	return n
}

// Services that know their instances are not doubted where a change has no more time to wait for them.
func TestKnownInstancesAreNotWarnedOf(t *testing.T) {
	b := mustBench(t, document)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for range 50 {
		if err := b.gateway.Reload(over); err != nil {
			t.Fatal(err)
		}
	}
	if text := b.log.String(); strings.Contains(text, "does not know its instances") {
		t.Errorf("found %s", text)
	}
}

// What a refused or checked configuration had is closed, and what it shared with the one in force is not.
func TestCheckedConfigurationIsClosed(t *testing.T) {
	b := mustBench(t, document)
	b.set(document + "defaults: {timeout: 3s}\n")
	_, release, err := b.gateway.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	release()
	if b.closes.Load() != 0 || b.watches.Load() != 1 {
		t.Errorf("want what is in force left alone, found %d closed and %d watching", b.closes.Load(), b.watches.Load())
	}
	b.set(strings.Replace(document, "b:1", "c:1", 1))
	if _, release, err = b.gateway.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	dialled := b.dials.Load()
	release()
	if b.closes.Load() != dialled-2 || b.watches.Load() != 1 {
		t.Errorf("want the checked service closed, found %d of %d closed and %d watching", b.closes.Load(), dialled-2, b.watches.Load())
	}
	if v := b.visit("GET", "/v1/echo/x", ""); v.status != 200 {
		t.Errorf("the configuration in force: found %d", v.status)
	}
}
