package limitcount

import (
	"context"
	"errors"
	"math/rand/v2"
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
		{Name: "no count", Config: `{window: 1s}`, Path: "count", Want: "wanted 1 to 1000000000, found 0", Fix: "how many"},
		{Name: "too many", Config: `{count: 1000000001, window: 1s}`, Path: "count", Want: "wanted 1 to 1000000000", Fix: "how many"},
		{Name: "no window", Config: `{count: 1}`, Path: "", Want: "no window", Fix: "60s"},
		{Name: "too short", Config: `{count: 1, window: 0.0001s}`, Path: "window", Want: "wanted 0.001s to 86400s, found 100µs", Fix: "60s"},
		{Name: "too long", Config: `{count: 1, window: 86401s}`, Path: "window", Want: "wanted 0.001s to 86400s", Fix: "60s"},
		{Name: "an unknown store", Config: `{count: 1, window: 1s, store: x}`, Path: "store", Want: `there is no store "x"`, Fix: "stores"},
		{Name: "an unknown store, sliding", Config: `{count: 1, window: 1s, type: sliding, store: x}`, Path: "store", Want: `there is no store "x"`, Fix: "stores"},
	})
}

func TestFixedWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := &plugintest.Next{}
		h := plugintest.New(t, Kind, plugintest.Env(t), `{count: 3, window: 60s}`).Wrap(next)
		pass := func() error { return h.Handle(t.Context(), plugintest.Call("GET", "/")) }
		for range 3 {
			if err := pass(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
		}
		e := plugintest.Refused(t, pass(), codes.ResourceExhausted, 0, limit.ReasonLimited)
		if e.Header.Get("retry-after") != "30" {
			t.Errorf("found %v", e.Header)
		}
		time.Sleep(30*time.Second - 1)
		plugintest.Refused(t, pass(), codes.ResourceExhausted, 0, limit.ReasonLimited)
		time.Sleep(time.Nanosecond)
		for range 3 {
			if err := pass(); err != nil {
				t.Errorf("in the next window: %v", err)
			}
		}
		plugintest.Refused(t, pass(), codes.ResourceExhausted, 0, limit.ReasonLimited)
		if next.Calls != 6 {
			t.Errorf("found %d", next.Calls)
		}
	})
}

// Against the definition: no window anywhere has more than the count, and what is refused would be one too many but for the
// piece by which calls leave late.
func TestSlidingWindowAgainstAList(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 40 {
		count := 1 + r.Int64N(40)
		window := time.Duration(1+r.Int64N(5000)) * time.Millisecond
		rule, s := newSliding(count, window), slots{}
		var passed []int64
		within := func(now, length int64) (n int64) {
			for i := len(passed) - 1; i >= 0 && passed[i] > now-length; i-- {
				n++
			}
			return n
		}
		now := int64(1 << 58)
		for range 3000 {
			now += r.Int64N(int64(window) / count)
			if r.IntN(200) == 0 {
				now += r.Int64N(3 * int64(window))
			}
			before := within(now, int64(window))
			v := rule.Take(&s, now)
			switch {
			case v.OK && before >= count:
				t.Fatalf("call %d of %d within %s", before+1, count, window)
			case !v.OK && within(now, int64(window)+2*rule.piece) < count:
				t.Fatalf("refused, though only %d of %d were there", before, count)
			case !v.OK:
				later := s
				if rule.Take(&later, now+int64(v.Wait)-1).OK {
					t.Fatal("want the wait to be the shortest")
				}
				later = s
				if !rule.Take(&later, now+int64(v.Wait)).OK {
					t.Fatal("want a call to pass after the wait")
				}
			default:
				passed = append(passed, now)
				if v.Remaining != count-s.total || v.Remaining < 0 || v.Remaining > count-before-1 {
					t.Fatalf("found %d left of %d after %d", v.Remaining, count, before+1)
				}
			}
			rested := s
			if v.OK && (rule.Rests(&rested, now+int64(v.Reset)-1) || !rule.Rests(&rested, now+int64(v.Reset))) {
				t.Fatalf("want the key at rest after %s and not before", v.Reset)
			}
		}
	}
}

func TestSlidingWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := plugintest.New(t, Kind, plugintest.Env(t), `{count: 2, window: 32s, type: sliding}`).Wrap(&plugintest.Next{})
		c := plugintest.Call("GET", "/")
		for range 2 {
			if err := h.Handle(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		plugintest.Refused(t, h.Handle(t.Context(), c), codes.ResourceExhausted, 0, limit.ReasonLimited)
		time.Sleep(31 * time.Second)
		plugintest.Refused(t, h.Handle(t.Context(), c), codes.ResourceExhausted, 0, limit.ReasonLimited)
		time.Sleep(2 * time.Second)
		if err := h.Handle(t.Context(), c); err != nil {
			t.Error(err)
		}
	})
}

// reused empties a call's answer headers as an exchange would.
type reused struct{ next rpc.Handler }

func (r reused) Handle(ctx context.Context, c *rpc.Call) error {
	c.HTTP.Answer = c.HTTP.Answer[:0]
	return r.next.Handle(ctx, c)
}

func TestAllocs(t *testing.T) {
	for _, kind := range []string{"fixed", "sliding"} {
		h := plugintest.New(t, Kind, plugintest.Env(t), `{count: 9000, window: 3600s, type: `+kind+`}`).Wrap(&plugintest.Next{})
		plugintest.Allocs(t, 0, reused{h}, plugintest.Call("GET", "/"))
	}
}

func BenchmarkHandle(b *testing.B) {
	for _, kind := range []string{"fixed", "sliding"} {
		b.Run(kind, func(b *testing.B) {
			h := reused{plugintest.New(b, Kind, plugintest.Env(b), `{count: 1000000000, window: 3600s, hide_headers: true, type: `+kind+`}`).Wrap(&plugintest.Next{})}
			c := plugintest.Call("GET", "/")
			ctx := b.Context()
			b.ReportAllocs()
			for b.Loop() {
				_ = h.Handle(ctx, c)
			}
		})
	}
}
