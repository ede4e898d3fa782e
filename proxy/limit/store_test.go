package limit_test

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
	"github.com/causeway-gateway/causeway/proxy/plugin/limitcount"
	"github.com/causeway-gateway/causeway/proxy/plugin/limitreq"
	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
	"github.com/causeway-gateway/causeway/proxy/store"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/testdata/realserver"
)

// counted counts the scripts that are run, and can fail.
type counted struct {
	plugin.Store
	runs atomic.Int64
	fail atomic.Bool
}

var errGone = errors.New("gone")

func (s *counted) Run(ctx context.Context, script *plugin.Script, keys []string, args ...any) (any, error) {
	s.runs.Add(1)
	if s.fail.Load() {
		return nil, errGone
	}
	return s.Store.Run(ctx, script, keys, args...)
}

func openStore(t testing.TB, address string) *counted {
	t.Helper()
	env := plugintest.Env(t)
	s, err := store.Open(store.Options{
		Name: "counters", Meter: env.Meter, Log: slog.New(slog.DiscardHandler),
		Redis: &configv1.Redis{Addresses: []string{address}, Timeout: durationpb.New(5 * time.Second)}, // the tests are about numbers
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	for end := time.Now().Add(20 * time.Second); !s.Up(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the store does not come up")
		}
	}
	return &counted{Store: s}
}

// gateways are so many plugins with one configuration, as several gateways have it.
func gateways(t testing.TB, kind plugin.Kind, st plugin.Store, n int, config string) (handlers []rpc.Handler) {
	t.Helper()
	env := plugintest.Env(t)
	env.Store = func(string) (plugin.Store, error) { return st, nil }
	for range n {
		handlers = append(handlers, plugintest.New(t, kind, env, config).Wrap(&passing{}))
	}
	return handlers
}

// passing counts calls from many goroutines.
type passing struct{ n atomic.Int64 }

func (p *passing) Handle(context.Context, *rpc.Call) error { p.n.Add(1); return nil }

// pour sends calls to all handlers from several callers each until the time is over or the calls are; it returns how many
// passed.
func pour(t testing.TB, handlers []rpc.Handler, callers, calls int, d time.Duration) int64 {
	t.Helper()
	return pourUntil(t, handlers, callers, calls, d, 0)
}

// pourUntil is pour for longer, where the machine is so busy that not so many have passed by then.
func pourUntil(t testing.TB, handlers []rpc.Handler, callers, calls int, d time.Duration, least int64) int64 {
	t.Helper()
	var passed atomic.Int64
	var wg sync.WaitGroup
	end := time.Now().Add(d)
	last := end.Add(30 * time.Second)
	more := func() bool {
		now := time.Now()
		return now.Before(end) || passed.Load() < least && now.Before(last)
	}
	for _, h := range handlers {
		for range callers {
			wg.Go(func() {
				for n := 0; n < calls && more(); n++ {
					switch err := h.Handle(t.Context(), plugintest.Call("GET", "/")); {
					case err == nil:
						passed.Add(1)
					case rpc.AsError(err).Reason != limit.ReasonLimited:
						t.Errorf("found %v", err)
						return
					case d < time.Minute:
						time.Sleep(200 * time.Microsecond) // a client's own time; the store is to have some of the processor
					}
				}
			})
		}
	}
	wg.Wait()
	return passed.Load()
}

// Several gateways allow together what one would, and ask the store far less than once for each call.
func TestOneLimitForAllGateways(t *testing.T) {
	fast := miniredis.RunT(t).Addr()
	full := realserver.StartRedis(t).Address
	for server, address := range map[string]string{"miniredis": fast, "Redis": full} {
		t.Run(server, func(t *testing.T) {
			st := openStore(t, address)
			for _, tc := range []struct {
				name     string
				kind     plugin.Kind
				config   string
				calls    int
				d        time.Duration
				min, max int64
				trips    int64
			}{
				{"fixed", limitcount.Kind, `{count: 6000, window: 600s, store: s, replicas: 3}`, 4000, time.Minute, 6000, 6000, 1200},
				{"fixed, few", limitcount.Kind, `{count: 7, window: 600s, store: s, replicas: 3}`, 100, time.Minute, 7, 7, 40},
				{"sliding", limitcount.Kind, `{count: 6000, window: 600s, type: sliding, store: s, replicas: 3}`, 4000, time.Minute, 6000, 6000, 1200},
				{"rate", limitreq.Kind, `{rate: 2000, burst: 100, store: s, replicas: 3}`, 1 << 30, time.Second, 1000, 2210, 2000},
				{"low rate", limitreq.Kind, `{rate: 5, store: s, replicas: 3}`, 1 << 30, time.Second, 5, 6, 200},
			} {
				t.Run(tc.name, func(t *testing.T) {
					st.runs.Store(0)
					began := time.Now()
					least := int64(0)
					if tc.d == time.Second {
						least = tc.min
					}
					passed := pourUntil(t, gateways(t, tc.kind, st, 3, tc.config), 3, tc.calls, tc.d, least)
					more, trips := int64(0), tc.trips
					if tc.d == time.Second { // a busy machine ends later, when more is allowed
						longer := time.Since(began).Seconds() - 1
						more, trips = int64(float64(tc.max)*longer), trips+int64(float64(trips)*longer)
					}
					if passed < tc.min || passed > tc.max+more || st.runs.Load() > trips {
						t.Errorf("want %d to %d passed with at most %d questions, found %d with %d", tc.min, tc.max+more, trips, passed, st.runs.Load())
					}
					t.Logf("%d passed, %d questions", passed, st.runs.Load())
				})
			}
		})
	}
}

// A key that calls seldom takes one place at a time; what it leaves is there for others.
func TestSeldomCallersLeaveTheLimitToOthers(t *testing.T) {
	st := openStore(t, miniredis.RunT(t).Addr())
	h := gateways(t, limitcount.Kind, st, 5, `{count: 1000, window: 600s, store: s}`)
	if passed := pour(t, h[1:], 1, 1, time.Minute); passed != 4 {
		t.Errorf("found %d", passed)
	}
	if passed := pour(t, h[:1], 1, 2000, time.Minute); passed != 996 {
		t.Errorf("want all that is left, found %d", passed)
	}
}

// What becomes of calls while the store is gone, and afterwards.
func TestPolicyWhileTheStoreIsGone(t *testing.T) {
	for _, tc := range []struct {
		policy string
		passed int
		reason string
		code   codes.Code
	}{
		{"", 25, limit.ReasonLimited, codes.ResourceExhausted},
		{", on_error: local", 25, limit.ReasonLimited, codes.ResourceExhausted},
		{", on_error: allow", 200, "", codes.OK},
		{", on_error: deny", 0, limit.ReasonUnknown, codes.Unavailable},
	} {
		t.Run(tc.policy, func(t *testing.T) {
			m := miniredis.RunT(t)
			st := openStore(t, m.Addr())
			for i, kind := range []plugin.Kind{limitcount.Kind, limitcount.Kind, limitreq.Kind} {
				config := [...]string{`{count: 100, window: 600s`, `{count: 100, window: 600s, type: sliding`, `{rate: 0.1, burst: 96`}[i]
				h := gateways(t, kind, st, 1, config+`, store: s, replicas: 4`+tc.policy+`}`)[0]
				st.fail.Store(true)
				passed := 0
				for range 200 {
					c := plugintest.Call("GET", "/")
					err := h.Handle(t.Context(), c)
					if err == nil {
						passed++
						if told := c.HTTP.Answer.Has("ratelimit-remaining"); told == (tc.code == codes.OK) {
							t.Fatalf("found %v", c.HTTP.Answer)
						}
						continue
					}
					plugintest.Refused(t, err, tc.code, 0, tc.reason)
				}
				if passed != tc.passed {
					t.Errorf("want %d passed, found %d", tc.passed, passed)
				}
				st.fail.Store(false)
				if passed := pour(t, []rpc.Handler{h}, 2, 150, time.Minute); passed < 97 || passed > 100 {
					t.Errorf("want the store's own count afterwards, found %d", passed)
				}
				m.FlushAll()
			}
		})
	}
}

// An answer that no script gives counts as a failure.
func TestStoreThatAnswersNonsense(t *testing.T) {
	for i, answer := range []any{nil, "OK", []any{int64(1)}, []any{int64(1), int64(1), "x", int64(1), int64(1)}, []any{int64(-1), int64(1), int64(1), int64(1), int64(1)}} {
		h := gateways(t, limitcount.Kind, says{answer}, 1, `{count: 100, window: 600s, store: s, on_error: deny}`)[0]
		e := plugintest.Refused(t, h.Handle(t.Context(), plugintest.Call("GET", "/")), codes.Unavailable, 0, limit.ReasonUnknown)
		if e.Header.Get("retry-after") != "1" {
			t.Errorf("%d: %v", i, e.Header)
		}
	}
	// One that grants more than was asked for is not believed.
	h := gateways(t, limitcount.Kind, says{[]any{int64(1000), int64(5), int64(0), int64(1000), int64(1_000_000)}}, 1, `{count: 100, window: 600s, store: s}`)[0]
	c := plugintest.Call("GET", "/")
	if err := h.Handle(t.Context(), c); err != nil || c.HTTP.Answer.Get("ratelimit-remaining") != "5" {
		t.Errorf("found %v %v", err, c.HTTP.Answer)
	}
}

type says struct{ answer any }

func (s says) Run(context.Context, *plugin.Script, []string, ...any) (any, error) {
	return s.answer, nil
}

// Calls that wait for a question share its end, also a panic's, and leave with their own time.
func TestCallsWaitForOneQuestion(t *testing.T) {
	asked, end := make(chan struct{}, 10), make(chan struct{})
	h := gateways(t, limitcount.Kind, hangs{asked, end}, 1, `{count: 100, window: 600s, store: s, on_error: deny}`)[0]
	errs := make(chan error, 3)
	for range 3 {
		go func() {
			defer func() {
				if r := recover(); r != nil {
					errs <- errGone
				}
			}()
			errs <- h.Handle(t.Context(), plugintest.Call("GET", "/"))
		}()
	}
	<-asked
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	plugintest.Refused(t, h.Handle(ctx, plugintest.Call("GET", "/")), codes.Unavailable, 0, limit.ReasonUnknown)
	close(end) // all questions panic from now on
	for range 3 {
		if err := <-errs; err == nil {
			t.Error("want no call to pass")
		}
	}
}

type hangs struct {
	asked, end chan struct{}
}

func (h hangs) Run(context.Context, *plugin.Script, []string, ...any) (any, error) {
	h.asked <- struct{}{}
	<-h.end
	panic("on purpose")
}

// Keys are not readable in the store, and different limits do not share them.
func TestKeysInTheStore(t *testing.T) {
	m := miniredis.RunT(t)
	st := openStore(t, m.Addr())
	for i, config := range []string{
		`{count: 100, window: 600s, store: s, key: {header: x-api-key}}`,
		`{count: 100, window: 60s, store: s, key: {header: x-api-key}}`,
		`{count: 100, window: 60s, store: s, key: {header: x-api-key}, on_error: allow, replicas: 7, hide_headers: true}`, // the same limit
	} {
		h := gateways(t, limitcount.Kind, st, 1, config)[0]
		if err := h.Handle(t.Context(), plugintest.Call("GET", "/", "x-api-key", "s3cret")); err != nil {
			t.Fatal(err)
		}
		if n, want := len(m.Keys()), []int{1, 2, 2}[i]; n != want {
			t.Errorf("want %d keys, found %v", want, m.Keys())
		}
	}
	for _, key := range m.Keys() {
		if len(key) > 80 || key[:len("causeway:limit_count:")] != "causeway:limit_count:" {
			t.Errorf("found %q", key)
		}
		if n, err := m.Get(key); err != nil || n != strconv.Itoa(map[bool]int{true: 2, false: 1}[m.TTL(key) <= time.Minute]) {
			t.Errorf("found %q %v", n, err)
		}
	}
}

func BenchmarkLeased(b *testing.B) {
	st := openStore(b, realserver.StartRedis(b).Address)
	h := gateways(b, limitcount.Kind, st, 1, `{count: 1000000000, window: 3600s, store: s, hide_headers: true}`)[0]
	c := plugintest.Call("GET", "/")
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		_ = h.Handle(ctx, c)
	}
}
