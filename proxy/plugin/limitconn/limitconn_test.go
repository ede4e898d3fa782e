package limitconn

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/limit"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

func TestReadme(t *testing.T) {
	env := plugintest.Env(t)
	env.Store = func(string) (plugin.Store, error) { return &gone{}, nil }
	plugintest.Readme(t, Kind, env)
}

func TestFaults(t *testing.T) {
	plugintest.Faults(t, Kind, plugintest.Env(t), []plugintest.Fault{
		{Name: "no count", Config: `{}`, Path: "count", Want: "wanted 1 to 1000000, found 0", Fix: "how many"},
		{Name: "too many", Config: `{count: 1000001}`, Path: "count", Want: "wanted 1 to 1000000", Fix: "how many"},
		{Name: "an unknown store", Config: `{count: 1, store: x}`, Path: "store", Want: `there is no store "x"`, Fix: "stores"},
		{Name: "replicas without a store", Config: `{count: 1, replicas: 2}`, Path: "replicas", Want: "without a store", Fix: "store"},
		{Name: "an empty claim", Config: `{count: 1, key: {claim: ""}}`, Path: "key.claim", Want: "found an empty one", Fix: "name"},
	})
}

// keys is how many keys are counted.
func (p *limitConn) keysKnown() (n int) {
	for i := range p.parts {
		n += len(p.parts[i].calls)
	}
	return n
}

func TestCallsInFlight(t *testing.T) {
	p := plugintest.New(t, Kind, plugintest.Env(t), `{count: 2}`)
	end, in := make(chan struct{}), make(chan struct{})
	h := p.Wrap(handlerFunc(func(context.Context, *rpc.Call) error { in <- struct{}{}; <-end; return nil }))
	var wg sync.WaitGroup
	call := func() *rpc.Call { return plugintest.Call("GET", "/") }
	for range 2 {
		wg.Go(func() {
			if err := h.Handle(t.Context(), call()); err != nil {
				t.Error(err)
			}
		})
		<-in
	}
	e := plugintest.Refused(t, h.Handle(t.Context(), call()), codes.ResourceExhausted, 0, limit.ReasonLimited)
	if e.Header.Get("retry-after") != "1" {
		t.Errorf("found %v", e.Header)
	}
	other := call()
	other.Peer = netip.MustParseAddrPort("192.0.2.2:1")
	wg.Go(func() {
		if err := h.Handle(t.Context(), other); err != nil {
			t.Error(err)
		}
	})
	<-in
	if n := p.(*limitConn).keysKnown(); n != 2 {
		t.Errorf("want two keys, found %d", n)
	}
	close(end)
	wg.Wait()
	if n := p.(*limitConn).keysKnown(); n != 0 {
		t.Errorf("want no key left, found %d", n)
	}
}

// A place is given back however the call ends.
func TestPlacesComeBack(t *testing.T) {
	p := plugintest.New(t, Kind, plugintest.Env(t), `{count: 1, key: {everybody: true}}`)
	fault := errors.New("fault")
	h := p.Wrap(handlerFunc(func(context.Context, *rpc.Call) error { return fault }))
	for range 3 {
		if err := h.Handle(t.Context(), plugintest.Call("GET", "/")); !errors.Is(err, fault) {
			t.Errorf("found %v", err)
		}
	}
	panics := p.Wrap(handlerFunc(func(context.Context, *rpc.Call) error { panic(fault) }))
	func() {
		defer func() { _ = recover() }()
		_ = panics.Handle(t.Context(), plugintest.Call("GET", "/"))
	}()
	if n := p.(*limitConn).keysKnown(); n != 0 {
		t.Errorf("want no key left, found %d", n)
	}
}

type handlerFunc func(context.Context, *rpc.Call) error

func (f handlerFunc) Handle(ctx context.Context, c *rpc.Call) error { return f(ctx, c) }

func TestAllocs(t *testing.T) {
	h := plugintest.New(t, Kind, plugintest.Env(t), `{count: 2}`).Wrap(&plugintest.Next{})
	plugintest.Allocs(t, 0, h, plugintest.Call("GET", "/"))
}

func BenchmarkHandle(b *testing.B) {
	h := plugintest.New(b, Kind, plugintest.Env(b), `{count: 2}`).Wrap(&plugintest.Next{})
	c := plugintest.Call("GET", "/")
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		_ = h.Handle(ctx, c)
	}
}
