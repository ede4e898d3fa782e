package limitreq

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/limit"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// nobody is a store that answers nothing.
type nobody struct{}

var errGone = errors.New("gone")

func (nobody) Run(context.Context, *plugin.Script, []string, ...any) (any, error) {
	return nil, errGone
}

func env(t testing.TB) plugin.Env {
	t.Helper()
	e := plugintest.Env(t)
	e.Store = func(string) (plugin.Store, error) { return nobody{}, nil }
	return e
}

func TestReadme(t *testing.T) { plugintest.Readme(t, Kind, env(t)) }

func TestFaults(t *testing.T) {
	plugintest.Faults(t, Kind, plugintest.Env(t), []plugintest.Fault{
		{Name: "no rate", Config: `{}`, Path: "rate", Want: "wanted more than 0, found 0", Fix: "how many calls"},
		{Name: "a rate below 0", Config: `{rate: -1}`, Path: "rate", Want: "wanted more than 0, found -1", Fix: "how many calls"},
		{Name: "no number", Config: `{rate: "NaN"}`, Path: "rate", Want: "wanted more than 0", Fix: "how many calls"},
		{Name: "too fast", Config: `{rate: 100, per: 0.000001s}`, Path: "rate", Want: "wanted at most 1e+07 calls in a second", Fix: "lower"},
		{Name: "too slow", Config: `{rate: 0.5, per: 86400s}`, Path: "rate", Want: "wanted at least one call in 24h", Fix: "higher"},
		{Name: "no time", Config: `{rate: 1, per: 0s}`, Path: "per", Want: "wanted more than 0s", Fix: "1s"},
		{Name: "too long", Config: `{rate: 1, per: 86401s}`, Path: "per", Want: "at most 86400s", Fix: "3600s"},
		{Name: "a burst below 0", Config: `{rate: 1, burst: -1}`, Path: "burst", Want: "wanted at least 0", Fix: "0"},
		{Name: "a burst for days", Config: `{rate: 1, burst: 100000}`, Path: "burst", Want: "within 24h", Fix: "fewer"},
		{Name: "nothing to delay", Config: `{rate: 1, delay: true}`, Path: "delay", Want: "no burst", Fix: "burst"},
		{Name: "delay with a store", Config: `{rate: 1, burst: 1, delay: true, store: x}`, Path: "delay", Want: "cannot wait", Fix: "remove"},
		{Name: "an empty header", Config: `{rate: 1, key: {header: ""}}`, Path: "key.header", Want: "found an empty one", Fix: "name"},
		{Name: "an unknown store", Config: `{rate: 1, store: x}`, Path: "store", Want: `there is no store "x"`, Fix: "stores"},
		{Name: "replicas without a store", Config: `{rate: 1, replicas: 3}`, Path: "replicas", Want: "without a store", Fix: "store"},
		{Name: "too many replicas", Config: `{rate: 1, store: x, replicas: 100000}`, Path: "replicas", Want: "wanted 1 to 10000", Fix: "how many"},
		{Name: "a policy without a store", Config: `{rate: 1, on_error: deny}`, Path: "on_error", Want: "no store", Fix: "store"},
	})
}

// The rate holds to the call, however calls are spread: against the definition, a bucket that leaks.
func TestRateAgainstALeakingBucket(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		burst := r.Int64N(5)
		interval := float64(1+r.Int64N(1000)) * 1e6
		g, s := newGCRA(interval, burst), cell{}
		level, last, now := 0.0, int64(0), int64(1<<58)
		for i := range 2000 {
			now += r.Int64N(int64(interval))
			level = max(0, level-float64(now-last)/interval)
			last = now
			v := g.Take(&s, now)
			if want := level <= float64(burst)+1e-9; v.OK != want {
				t.Fatalf("call %d: want %v at level %v of %d, found %v", i, want, level, burst, v)
			}
			if !v.OK {
				if left := time.Duration((level - float64(burst)) * interval); (v.Wait - left).Abs() > 2*time.Microsecond {
					t.Fatalf("want to wait %s, found %s", left, v.Wait)
				}
				continue
			}
			if v.Remaining > burst || v.Remaining < 0 {
				t.Fatalf("found %d left of %d", v.Remaining, burst)
			}
			level++
		}
	}
}

func TestCallsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := &plugintest.Next{}
		h := plugintest.New(t, Kind, plugintest.Env(t), `{rate: 10, burst: 2}`).Wrap(next)
		pass := func(address string) error {
			c := plugintest.Call("GET", "/")
			c.Peer = netip.MustParseAddrPort(address)
			return h.Handle(t.Context(), c)
		}
		for range 3 {
			if err := pass("192.0.2.1:1"); err != nil {
				t.Fatal(err)
			}
		}
		e := plugintest.Refused(t, pass("192.0.2.1:2"), codes.ResourceExhausted, 0, limit.ReasonLimited)
		if e.Header.Get("retry-after") != "1" {
			t.Errorf("found %v", e.Header)
		}
		if err := pass("192.0.2.2:1"); err != nil {
			t.Errorf("another address: %v", err)
		}
		time.Sleep(100 * time.Millisecond)
		if err := pass("192.0.2.1:3"); err != nil {
			t.Errorf("after the interval: %v", err)
		}
		plugintest.Refused(t, pass("192.0.2.1:3"), codes.ResourceExhausted, 0, limit.ReasonLimited)
		if next.Calls != 5 {
			t.Errorf("want 5 calls through, found %d", next.Calls)
		}
	})
}

func TestCallsWaitForTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := &plugintest.Next{}
		h := plugintest.New(t, Kind, plugintest.Env(t), `{rate: 10, burst: 2, delay: true}`).Wrap(next)
		began := time.Now()
		for i := range 3 {
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := h.Handle(t.Context(), plugintest.Call("GET", "/")); err != nil {
					t.Error(err)
				}
			})
			wg.Wait()
			if took, want := time.Since(began), time.Duration(i)*100*time.Millisecond; took != want {
				t.Errorf("call %d: want it after %s, found %s", i, want, took)
			}
		}
		// One whose caller leaves meanwhile does not reach the service.
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := h.Handle(ctx, plugintest.Call("GET", "/")); !errors.Is(err, context.DeadlineExceeded) || next.Calls != 3 {
			t.Errorf("found %v and %d calls", err, next.Calls)
		}
	})
}

// Many callers at once: never one call more than the rate gives.
func TestRateUnderContention(t *testing.T) {
	h := plugintest.New(t, Kind, plugintest.Env(t), `{rate: 2000, burst: 5}`)
	var through atomic.Int64
	end := h.Wrap(handlerFunc(func(context.Context, *rpc.Call) error { through.Add(1); return nil }))
	began := time.Now()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			c := plugintest.Call("GET", "/")
			for n := range 20_000 {
				c.HTTP.Answer = c.HTTP.Answer[:0]
				c.Peer = netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), uint16(1+i*5000+n%5000))
				_ = end.Handle(t.Context(), c)
			}
		})
	}
	wg.Wait()
	if most := int64(time.Since(began).Seconds()*2000) + 6; through.Load() > most || through.Load() < 6 {
		t.Errorf("want at most %d, found %d", most, through.Load())
	}
}

type handlerFunc func(context.Context, *rpc.Call) error

func (f handlerFunc) Handle(ctx context.Context, c *rpc.Call) error { return f(ctx, c) }

// answers is a call whose answer headers are emptied as an exchange would.
type reused struct{ next rpc.Handler }

func (r reused) Handle(ctx context.Context, c *rpc.Call) error {
	c.HTTP.Answer = c.HTTP.Answer[:0]
	return r.next.Handle(ctx, c)
}

func TestAllocs(t *testing.T) {
	for _, key := range []string{"", ", key: {consumer: true}", ", key: {header: x-tenant, by_route: true}", ", key: {everybody: true}"} {
		h := plugintest.New(t, Kind, plugintest.Env(t), `{rate: 1000000, burst: 9000`+key+`}`).Wrap(&plugintest.Next{})
		c := plugintest.Call("GET", "/", "x-tenant", "a")
		c.Consumer = &rpc.Consumer{Name: "a"}
		plugintest.Allocs(t, 0, reused{h}, c)
	}
}

func BenchmarkHandle(b *testing.B) {
	for name, config := range map[string]string{
		"pass":    `{rate: 10000000, burst: 9000000}`,
		"refuse":  `{rate: 0.001, per: 1s}`,
		"hidden":  `{rate: 10000000, burst: 9000000, hide_headers: true}`,
		"routes":  `{rate: 10000000, burst: 9000000, key: {by_route: true}}`,
		"flooded": `{rate: 1, key: {header: x-tenant}}`,
	} {
		b.Run(name, func(b *testing.B) {
			h := plugintest.New(b, Kind, plugintest.Env(b), config).Wrap(&plugintest.Next{})
			c := plugintest.Call("GET", "/", "x-tenant", "a")
			ctx := b.Context()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				c.HTTP.Answer = c.HTTP.Answer[:0]
				if name == "flooded" {
					c.Header[0].Value = strconv.Itoa(i)
				}
				_ = h.Handle(ctx, c)
			}
		})
	}
}
