package limitconn

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
	"github.com/causeway-gateway/causeway/proxy/limit"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
	"github.com/causeway-gateway/causeway/proxy/store"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/testdata/realserver"
)

// gone is a store that can fail.
type gone struct {
	plugin.Store // nil: it always fails
	runs         atomic.Int64
	fails        atomic.Bool
}

var errGone = errors.New("gone")

func (g *gone) Run(ctx context.Context, s *plugin.Script, keys []string, args ...any) (any, error) {
	g.runs.Add(1)
	if g.Store == nil || g.fails.Load() {
		return nil, errGone
	}
	return g.Store.Run(ctx, s, keys, args...)
}

func openStore(t testing.TB, address string) *gone {
	t.Helper()
	s, err := store.Open(store.Options{
		Name: "counters", Meter: plugintest.Env(t).Meter, Log: slog.New(slog.DiscardHandler),
		Redis: &configv1.Redis{Addresses: []string{address}, Timeout: durationpb.New(2 * time.Second)}, // the tests are about numbers
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	await(t, "the store", s.Up)
	return &gone{Store: s}
}

func await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func gateway(t testing.TB, st plugin.Store, config string) plugin.Plugin {
	t.Helper()
	env := plugintest.Env(t)
	env.Store = func(string) (plugin.Store, error) { return st, nil }
	return plugintest.New(t, Kind, env, config)
}

// Several gateways have together no more calls in flight than one would, all places are used, and most calls ask nobody.
func TestOneBoundForAllGateways(t *testing.T) {
	for server, address := range map[string]string{"miniredis": miniredis.RunT(t).Addr(), "Redis": realserver.StartRedis(t).Address} {
		t.Run(server, func(t *testing.T) {
			const count = 40
			st := openStore(t, address)
			var inside, most, passed, refused atomic.Int64
			work := handlerFunc(func(context.Context, *rpc.Call) error {
				n := inside.Add(1)
				for done := false; !done; {
					m := most.Load()
					done = n <= m || most.CompareAndSwap(m, n)
				}
				time.Sleep(time.Millisecond)
				inside.Add(-1)
				passed.Add(1)
				return nil
			})
			var handlers []rpc.Handler
			for range 3 {
				handlers = append(handlers, gateway(t, st, `{count: `+strconv.Itoa(count)+`, store: s, replicas: 3}`).Wrap(work))
			}
			var wg sync.WaitGroup
			end, last := time.Now().Add(time.Second), time.Now().Add(30*time.Second)
			// A busy machine has its places used later, and its batches are small for longer.
			settled := func() bool {
				return most.Load() >= count*3/4 && refused.Load() > 0 && st.runs.Load() <= passed.Load()/2
			}
			for _, h := range handlers {
				for range 20 {
					wg.Go(func() {
						for now := time.Now(); now.Before(end) || now.Before(last) && !settled(); now = time.Now() {
							if err := h.Handle(t.Context(), plugintest.Call("GET", "/")); err != nil {
								plugintest.Refused(t, err, codes.ResourceExhausted, 0, limit.ReasonLimited)
								refused.Add(1)
								time.Sleep(time.Millisecond)
							}
						}
					})
				}
			}
			wg.Wait()
			t.Logf("%d passed, %d refused, %d in flight at most, %d questions", passed.Load(), refused.Load(), most.Load(), st.runs.Load())
			if most.Load() > count || !settled() {
				t.Errorf("found %d passed, %d refused, %d in flight at most, %d questions", passed.Load(), refused.Load(), most.Load(), st.runs.Load())
			}
		})
	}
}

// What a gateway does not use any more, another has within a second or two; also when it was closed, and when it has died.
func TestPlacesGoToOtherGateways(t *testing.T) {
	m := miniredis.RunT(t)
	st := openStore(t, m.Addr())
	const config = `{count: 4, store: s}`
	hold := func(p plugin.Plugin) (end func()) {
		in, out := make(chan struct{}), make(chan struct{})
		h := p.Wrap(handlerFunc(func(context.Context, *rpc.Call) error { in <- struct{}{}; <-out; return nil }))
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if err := h.Handle(t.Context(), plugintest.Call("GET", "/")); err != nil {
					t.Error(err)
				}
			})
			<-in
		}
		return sync.OnceFunc(func() { close(out); wg.Wait() })
	}
	a, b := gateway(t, st, config), gateway(t, st, config)
	pass := func() error { return b.Wrap(&plugintest.Next{}).Handle(t.Context(), plugintest.Call("GET", "/")) }
	end := hold(a)
	plugintest.Refused(t, pass(), codes.ResourceExhausted, 0, limit.ReasonLimited)
	end()
	await(t, "a place", func() bool { return pass() == nil })
	await(t, "no key in the store", func() bool { return len(m.Keys()) == 0 })

	end = hold(a)
	end()
	if err := a.(*shared).Close(); err != nil {
		t.Fatal(err)
	}
	if len(m.Keys()) != 0 {
		t.Errorf("want a gateway that ends to give back what it held, found %v", m.Keys())
	}

	c := gateway(t, st, config)
	end = hold(c)
	defer end()
	c.(*shared).stop() // it has died, as far as others can see
	plugintest.Refused(t, pass(), codes.ResourceExhausted, 0, limit.ReasonLimited)
	m.SetTime(time.Now().Add(holdFor + time.Second))
	await(t, "the places of a dead gateway", func() bool { return pass() == nil })
}

// Places that are used stay held.
func TestPlacesAreRenewed(t *testing.T) {
	m := miniredis.RunT(t)
	st := openStore(t, m.Addr())
	p := gateway(t, st, `{count: 1, store: s}`)
	in, out := make(chan struct{}), make(chan struct{})
	h := p.Wrap(handlerFunc(func(context.Context, *rpc.Call) error { in <- struct{}{}; <-out; return nil }))
	done := make(chan error)
	go func() { done <- h.Handle(t.Context(), plugintest.Call("GET", "/")) }()
	<-in
	asked := st.runs.Load()
	await(t, "a renewal", func() bool { return st.runs.Load() > asked })
	if len(m.Keys()) != 1 || m.TTL(m.Keys()[0]) <= 0 {
		t.Errorf("found %v", m.Keys())
	}
	close(out)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// What becomes of calls while the store is gone.
func TestPolicyWhileTheStoreIsGone(t *testing.T) {
	for policy, want := range map[string]int{"local": 2, "allow": 6, "deny": 0} {
		t.Run(policy, func(t *testing.T) {
			p := gateway(t, &gone{}, `{count: 8, store: s, replicas: 4, on_error: `+policy+`}`)
			in, out := make(chan struct{}, 6), make(chan struct{})
			h := p.Wrap(handlerFunc(func(context.Context, *rpc.Call) error { in <- struct{}{}; <-out; return nil }))
			errs := make(chan error, 6)
			for range 6 {
				go func() { errs <- h.Handle(t.Context(), plugintest.Call("GET", "/")) }()
			}
			for range 6 - want {
				err := <-errs
				if policy == "deny" {
					plugintest.Refused(t, err, codes.Unavailable, 0, limit.ReasonUnknown)
				} else {
					plugintest.Refused(t, err, codes.ResourceExhausted, 0, limit.ReasonLimited)
				}
			}
			await(t, "the calls", func() bool { return len(in) == want })
			close(out)
			for range want {
				if err := <-errs; err != nil {
					t.Error(err)
				}
			}
			if n := p.(*shared).keysKnown(); n != 0 {
				t.Errorf("found %d keys", n)
			}
		})
	}
}

// A flood of keys costs a bounded table.
func TestHeldKeysAreBounded(t *testing.T) {
	p := gateway(t, says(1), `{count: 1, store: s, key: {header: k}, on_error: deny}`)
	p.(*shared).stop()
	h := p.Wrap(&plugintest.Next{})
	refused := 0
	for i := range 120_000 {
		if err := h.Handle(t.Context(), plugintest.Call("GET", "/", "k", strconv.Itoa(i))); err != nil {
			refused++
		}
	}
	n := 0
	for i := range p.(*shared).places {
		n += len(p.(*shared).places[i].held)
	}
	if n > limit.MaxKeys || refused < 20_000 {
		t.Errorf("found %d keys, %d refused", n, refused)
	}
}

type says int64

func (s says) Run(context.Context, *plugin.Script, []string, ...any) (any, error) {
	return int64(s), nil
}
