package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// The ends of a call on an instance.
var (
	unreached = &rpc.Error{Code: codes.Unavailable, Message: "unreached", Reason: "UPSTREAM_UNREACHABLE", Class: rpc.Transport}
	torn      = &rpc.Error{Code: codes.Unavailable, Message: "torn", Reason: "UPSTREAM_RESET", Class: rpc.Transport, Executed: true}
	busy      = &rpc.Error{Code: codes.Unavailable, Message: "busy", Class: rpc.Business, Executed: true}
	refusedBy = &rpc.Error{Code: codes.Internal, Message: "refused", Class: rpc.Framework, Executed: true}
)

func hello(out *rpc.Reply) {
	buf := rpc.GetBuffer()
	buf.B = append(buf.B, "\x0a\x02hi"...)
	out.Message.Own(buf)
}

// serviceOf is the document with further keys of its service.
func serviceOf(more string) string {
	return strings.Replace(document, "endpoints:", more+", endpoints:", 1)
}

const (
	read  = "/v1/wait" // a method whose only rule is a GET
	write = "/v1/echo" // one with a POST
)

// What is tried again, and how often.
func TestRetries(t *testing.T) {
	for name, test := range map[string]struct {
		service string
		path    string
		header  string
		errs    []error // of the attempts in their order; then they succeed
		want    int     // attempts
		status  int
	}{
		"nothing was executed":                         {path: write, errs: []error{unreached}, want: 2, status: 200},
		"nothing was executed and twice":               {path: write, errs: []error{unreached, unreached}, want: 3, status: 200},
		"nothing was executed and too often":           {path: write, errs: []error{unreached, unreached, unreached}, want: 3, status: 503},
		"perhaps executed":                             {path: write, errs: []error{torn}, want: 1, status: 503},
		"perhaps executed and idempotent by its verb":  {path: read, errs: []error{torn}, want: 2, status: 200},
		"perhaps executed and idempotent by the route": {service: "retry: {idempotent: true}", path: write, errs: []error{torn}, want: 2, status: 200},
		"not idempotent by the service":                {service: "retry: {idempotent: false}", path: read, errs: []error{torn}, want: 1, status: 503},
		"an answer of the method":                      {path: read, errs: []error{busy}, want: 1, status: 503},
		"an answer of a code that is listed":           {service: "retry: {codes: [UNAVAILABLE]}", path: read, errs: []error{busy}, want: 2, status: 200},
		"a code that is listed and not idempotent":     {service: "retry: {codes: [UNAVAILABLE]}", path: write, errs: []error{busy}, want: 1, status: 503},
		"refused by the framework":                     {path: read, errs: []error{refusedBy}, want: 1, status: 500},
		"once only":                                    {service: "retry: {attempts: 1}", path: read, errs: []error{unreached}, want: 1, status: 503},
		"no budget":                                    {service: "retry: {budget: 0}", path: read, errs: []error{unreached}, want: 1, status: 503},
		"somebody else counts":                         {path: read, header: "x-retry-attempt", errs: []error{torn}, want: 1, status: 503},
		"somebody else counts and not executed":        {path: read, header: "x-retry-attempt", errs: []error{unreached}, want: 2, status: 200},
	} {
		t.Run(name, func(t *testing.T) {
			b := mustBench(t, serviceOf(test.service+strings.Repeat("outliers: {off: true}", 1-min(1, len(test.service)))))
			var where []string
			var counted []string
			b.at = func(_ context.Context, address string, c *rpc.Call, out *rpc.Reply) error {
				where, counted = append(where, address), append(counted, c.Header.Get("x-retry-attempt"))
				if n := len(where); n <= len(test.errs) {
					return test.errs[n-1]
				}
				hello(out)
				return nil
			}
			var header []rpc.Pair
			if test.header != "" {
				header = append(header, rpc.Pair{Key: test.header, Value: "1"})
			}
			method := "POST"
			if test.path == read {
				method = "GET"
			}
			v := b.visit(method, test.path, "", header...)
			if v.status != test.status || len(where) != test.want {
				t.Fatalf("want status %d after %d attempts, found %d after %d: %s", test.status, test.want, v.status, len(where), v.answer)
			}
			if len(where) > 1 && where[0] == where[1] {
				t.Errorf("want the second attempt elsewhere, found both on %s", where[0])
			}
			if len(counted) > 1 && counted[1] != "1" {
				t.Errorf("want the second attempt counted, found %q", counted[1])
			}
		})
	}
}

// While every instance fails, retries are a fifth of the calls and a few more.
func TestRetryStorm(t *testing.T) {
	b := mustBench(t, serviceOf("outliers: {off: true}"))
	var arrivals atomic.Int64
	b.at = func(context.Context, string, *rpc.Call, *rpc.Reply) error {
		arrivals.Add(1)
		return torn
	}
	const calls = 2000
	for range calls {
		b.visit("GET", read, "")
	}
	if n := arrivals.Load(); n > calls*12/10+3 || n < calls*11/10 {
		t.Errorf("want at most %d attempts for %d calls, and some retries, found %d", calls*12/10+3, calls, n)
	}
}

// A try that takes too long counts against the instance, and another gets the call.
func TestPerTryTimeout(t *testing.T) {
	b := mustBench(t, serviceOf("retry: {per_try_timeout: 0.05s}"))
	var n atomic.Int64
	b.at = func(ctx context.Context, _ string, _ *rpc.Call, out *rpc.Reply) error {
		if n.Add(1) == 1 {
			<-ctx.Done()
			return rpc.AsError(ctx.Err())
		}
		hello(out)
		return nil
	}
	if v := b.visit("GET", read, ""); v.status != 200 || n.Load() != 2 {
		t.Errorf("want the second try's answer, found %d after %d tries", v.status, n.Load())
	}
	n.Store(0)
	if v := b.visit("POST", write, ""); v.status != 504 || n.Load() != 1 || !strings.Contains(string(v.answer), "UPSTREAM_TIMEOUT") {
		t.Errorf("want a call that may have been executed ended, found %d after %d tries: %s", v.status, n.Load(), v.answer)
	}
}

// What a try ends with when its time is over: what was never sent, for want of a connection, goes elsewhere whatever the method is;
// what the method itself said in the last moment is its answer.
func TestPerTryTimeoutSaysWhatHappened(t *testing.T) {
	for name, test := range map[string]struct {
		err    func(context.Context) error
		want   int64
		status int
	}{
		"nothing was sent": {func(ctx context.Context) error {
			return rpc.AsError(ctx.Err()).WithCause(errors.New("no connection so far"))
		}, 2, 200},
		"perhaps sent":              {func(ctx context.Context) error { return rpc.AsError(ctx.Err()) }, 1, 504},
		"the method's own error":    {func(context.Context) error { return busy }, 1, 503},
		"no connection":             {func(context.Context) error { return unreached }, 2, 200},
		"refused by its framework":  {func(context.Context) error { return refusedBy }, 1, 500},
		"an error of nobody's kind": {func(ctx context.Context) error { return context.Cause(ctx) }, 1, 504},
	} {
		b := mustBench(t, serviceOf("outliers: {off: true}, retry: {per_try_timeout: 0.02s}"))
		var n atomic.Int64
		b.at = func(ctx context.Context, _ string, _ *rpc.Call, out *rpc.Reply) error {
			if n.Add(1) > 1 {
				hello(out)
				return nil
			}
			<-ctx.Done()
			return test.err(ctx)
		}
		if v := b.visit("POST", write, ""); v.status != test.status || n.Load() != test.want {
			t.Errorf("%s: want status %d after %d tries, found %d after %d: %s", name, test.status, test.want, v.status, n.Load(), v.answer)
		}
	}
}

// A transport that finds by the clock that the time of a try is over does not wait for its context to end.
func TestPerTryTimeoutByTheClock(t *testing.T) {
	b := mustBench(t, serviceOf("retry: {per_try_timeout: 0.02s, budget: 1}"))
	for range 20 {
		var n atomic.Int64
		b.at = func(ctx context.Context, _ string, _ *rpc.Call, out *rpc.Reply) error {
			if n.Add(1) > 1 {
				hello(out)
				return nil
			}
			due, _ := ctx.Deadline()
			for time.Now().Before(due) { // its timer is as late as the machine is busy
				continue
			}
			return rpc.AsError(context.DeadlineExceeded)
		}
		if v := b.visit("GET", read, ""); v.status != 200 || n.Load() != 2 {
			t.Fatalf("want the second try's answer, found %d after %d tries: %s", v.status, n.Load(), v.answer)
		}
	}
}

// The answer that comes first is taken, and the other attempt ended.
func TestHedging(t *testing.T) {
	b := mustBench(t, serviceOf("retry: {hedge_after: 0.02s}"))
	var mu sync.Mutex
	var began []string
	ended := 0
	slow := true
	b.at = func(ctx context.Context, address string, _ *rpc.Call, out *rpc.Reply) error {
		mu.Lock()
		began = append(began, address)
		first := len(began) == 1
		wait := slow && first
		mu.Unlock()
		if wait {
			<-ctx.Done()
			mu.Lock()
			ended++
			mu.Unlock()
			return rpc.AsError(ctx.Err())
		}
		hello(out)
		return nil
	}
	if v := b.visit("GET", read, ""); v.status != 200 || len(began) != 2 || ended != 1 || began[0] == began[1] {
		t.Errorf("want the second instance's answer and the first's call ended, found %d, calls on %v, %d ended", v.status, began, ended)
	}
	began, slow = nil, false
	if v := b.visit("GET", read, ""); v.status != 200 || len(began) != 1 {
		t.Errorf("want one attempt where it answers in time, found %d, calls on %v", v.status, began)
	}
	began, slow = nil, true
	done := make(chan *visitor)
	go func() { done <- b.visit("POST", write, "", rpc.Pair{Key: "x-request-timeout", Value: "0.2"}) }()
	if v := <-done; v.status != 504 || len(began) != 1 {
		t.Errorf("want a call that is not idempotent on one instance, found %d, calls on %v", v.status, began)
	}
}

// Both attempts may fail, in any order, and one may panic.
func TestHedgingFails(t *testing.T) {
	b := mustBench(t, serviceOf("outliers: {off: true}, retry: {hedge_after: 0.01s, attempts: 2}"))
	for name, fail := range map[string]func() error{
		"torn":      func() error { return torn },
		"unreached": func() error { return unreached },
		"panic":     func() error { panic("boom") },
	} {
		var n atomic.Int64
		both := make(chan struct{})
		b.at = func(context.Context, string, *rpc.Call, *rpc.Reply) error {
			if n.Add(1) == 2 {
				close(both)
			}
			<-both
			return fail()
		}
		if v := b.visit("GET", read, ""); v.status < 500 || n.Load() != 2 {
			t.Errorf("%s: want an error after two attempts, found %d after %d", name, v.status, n.Load())
		}
	}
}

// An attempt that another has overtaken tells how slow its instance is at least, and one that failed by itself meanwhile that it did.
func TestHedgingTellsOfTheSlower(t *testing.T) {
	for name, lose := range map[string]func(ctx context.Context) error{
		"overtaken": func(ctx context.Context) error { <-ctx.Done(); return rpc.AsError(ctx.Err()) },
		"failed":    func(ctx context.Context) error { <-ctx.Done(); return unreached },
	} {
		b := mustBench(t, serviceOf("retry: {hedge_after: 0.02s}, balancer: {policy: peak_ewma}"))
		var n atomic.Int64
		var slow atomic.Pointer[string]
		b.at = func(ctx context.Context, address string, _ *rpc.Call, out *rpc.Reply) error {
			if n.Add(1) == 1 {
				slow.Store(&address)
				return lose(ctx)
			}
			hello(out)
			return nil
		}
		if v := b.visit("GET", read, ""); v.status != 200 || n.Load() != 2 {
			t.Fatalf("%s: want the second attempt's answer, found %d after %d", name, v.status, n.Load())
		}
		for _, i := range b.gateway.Services()[0].Instances {
			if i.Address == *slow.Load() && (i.Latency < 10*time.Millisecond || name == "failed" && i.Latency < 500*time.Millisecond) {
				t.Errorf("%s: want the slow instance known to be slow, found a latency of %v", name, i.Latency)
			}
		}
	}
}

// Somebody who counts tries by himself has no more of them made here than the two that were hedged.
func TestHedgingIsNotTriedAgainForThoseWhoCount(t *testing.T) {
	b := mustBench(t, serviceOf("outliers: {off: true}, retry: {hedge_after: 0.01s, attempts: 4}"))
	var n atomic.Int64
	both := make(chan struct{})
	b.at = func(context.Context, string, *rpc.Call, *rpc.Reply) error {
		if n.Add(1) == 2 {
			close(both)
		}
		<-both
		return torn
	}
	b.visit("GET", read, "", rpc.Pair{Key: "x-retry-attempt", Value: "1"})
	if n.Load() != 2 {
		t.Errorf("want two attempts, found %d", n.Load())
	}
}

// The load that an instance tells of is known to the balancer, and goes on to the caller.
func TestLoadIsTaken(t *testing.T) {
	b := mustBench(t, document)
	b.at = func(_ context.Context, _ string, _ *rpc.Call, out *rpc.Reply) error {
		hello(out)
		out.Trailer = rpc.Metadata{{Key: "a", Value: "1"}, {Key: "endpoint-load-metrics-bin", Value: "\x09\x00\x00\x00\x00\x00\x00\xe0\x3f"}, {Key: "b", Value: "2"}}
		return nil
	}
	v := b.visit("POST", write, "")
	if v.status != 200 || v.header.Get("grpc-trailer-endpoint-load-metrics-bin") == "" {
		t.Errorf("want the trailers, found %d %v", v.status, v.header)
	}
	loads := 0
	for _, s := range b.gateway.Services() {
		for _, i := range s.Instances {
			if i.Load == 0.5 {
				loads++
			}
		}
	}
	if loads != 1 {
		t.Errorf("want the load of the instance that answered, found %d instances with one", loads)
	}
}

// A consumer, or an address, meets one instance, whatever it asks for.
func TestHashByWhoCalls(t *testing.T) {
	var consumers []string
	for i := range 20 {
		consumers = append(consumers, fmt.Sprintf("{name: c%d, credentials: [{plugin: key}]}", i))
	}
	for _, key := range []string{"consumer", "address"} {
		t.Run(key, func(t *testing.T) {
			var made []*keyed
			b := mustBench(t, serviceOf("balancer: {policy: maglev, hash: {"+key+": true}}")+"plugins: [{name: key}]\nconsumers: ["+strings.Join(consumers, ", ")+"]\n", keyedKind("key", &made))
			var where []string
			b.at = func(_ context.Context, address string, _ *rpc.Call, out *rpc.Reply) error {
				where = append(where, address)
				hello(out)
				return nil
			}
			seen := map[string]bool{}
			for i := range 20 {
				where = nil
				for n := range 5 {
					who, from := i, n // another address each time
					if key == "address" {
						who, from = n, i
					}
					if v := b.visitFrom(fmt.Sprintf("192.0.2.%d", from), "GET", fmt.Sprintf("/v1/echo/%d", n), "", rpc.Pair{Key: "x-key", Value: fmt.Sprint("c", who)}); v.status != 200 {
						t.Fatalf("found %d %s", v.status, v.answer)
					}
				}
				if where = slices.Compact(where); len(where) != 1 {
					t.Fatalf("%s %d: want one instance, found %v", key, i, where)
				}
				seen[where[0]] = true
			}
			if len(seen) != 2 {
				t.Errorf("want 20 of them on both instances, found %v", seen)
			}
		})
	}
}

// Calls with one key meet one instance, those without are spread.
func TestHashKeys(t *testing.T) {
	for key, of := range map[string]func(i int) (path string, header rpc.Pair){
		"header: x-user": func(i int) (string, rpc.Pair) { return write, rpc.Pair{Key: "x-user", Value: fmt.Sprint("user ", i)} },
		"cookie: who": func(i int) (string, rpc.Pair) {
			return write, rpc.Pair{Key: "cookie", Value: fmt.Sprintf("a=b; who=%d", i)}
		},
		"variable: text":             func(i int) (string, rpc.Pair) { return fmt.Sprintf("/v1/echo/%d", i), rpc.Pair{} },
		`expression: "message.text"`: func(i int) (string, rpc.Pair) { return fmt.Sprintf("/v1/echo/%d", i), rpc.Pair{} },
		`expression: "request.path"`: func(i int) (string, rpc.Pair) { return fmt.Sprintf("/v1/echo/%d", i), rpc.Pair{} },
	} {
		for _, policy := range []string{"ring_hash", "maglev"} {
			t.Run(policy+" by "+key, func(t *testing.T) {
				b := mustBench(t, serviceOf("balancer: {policy: "+policy+", hash: {"+key+"}}"))
				var where []string
				b.at = func(_ context.Context, address string, _ *rpc.Call, out *rpc.Reply) error {
					where = append(where, address)
					hello(out)
					return nil
				}
				ask := func(i int) {
					path, header := of(i)
					method := "GET"
					if path == write {
						method = "POST"
					}
					var headers []rpc.Pair
					if header.Key != "" {
						headers = append(headers, header)
					}
					if v := b.visit(method, path, "", headers...); v.status != 200 {
						t.Fatalf("%s: %d %s", path, v.status, v.answer)
					}
				}
				seen := map[string]bool{}
				for i := range 20 {
					where = nil
					for range 5 {
						ask(i)
					}
					if where = slices.Compact(where); len(where) != 1 {
						t.Fatalf("key %d: want one instance, found %v", i, where)
					}
					seen[where[0]] = true
				}
				if len(seen) != 2 {
					t.Errorf("want 20 keys on both instances, found %v", seen)
				}
			})
		}
	}
}

// A breaker bounds the calls of a service, has some wait, and refuses the rest.
func TestBreakerBounds(t *testing.T) {
	b := mustBench(t, serviceOf("breaker: {max_calls: 1, max_pending: 1, pending_timeout: 10s}"))
	inside, leave := make(chan struct{}), make(chan struct{})
	b.at = func(_ context.Context, _ string, _ *rpc.Call, out *rpc.Reply) error {
		inside <- struct{}{}
		<-leave
		hello(out)
		return nil
	}
	results := make(chan *visitor, 2)
	go func() { results <- b.visit("POST", write, "") }()
	<-inside
	go func() { results <- b.visit("POST", write, "") }()
	pending := func() int64 { return b.gateway.Services()[0].Breaker.Pending }
	for pending() != 1 {
		time.Sleep(time.Millisecond)
	}
	if v := b.visit("POST", write, ""); v.status != 503 || !strings.Contains(string(v.answer), "OVERLOADED") {
		t.Errorf("want the third call refused, found %d %s", v.status, v.answer)
	}
	leave <- struct{}{}
	<-inside
	leave <- struct{}{}
	for range 2 {
		if v := <-results; v.status != 200 {
			t.Errorf("want the others answered, found %d", v.status)
		}
	}
}

// A breaker refuses calls of a service that fails, and says when it will try.
func TestBreakerOpens(t *testing.T) {
	b := mustBench(t, serviceOf("outliers: {off: true}, retry: {attempts: 1}, breaker: {failure_rate: 0.5, min_calls: 10, open: 60s}"))
	calls := 0
	var err error = busy
	b.at = func(context.Context, string, *rpc.Call, *rpc.Reply) error { calls++; return err }
	for range 50 {
		b.visit("POST", write, "")
	}
	if calls != 50 {
		t.Fatalf("want what the method answers never counted, found %d of 50 calls", calls)
	}
	err = torn
	for range 200 {
		b.visit("POST", write, "")
	}
	v := b.visit("POST", write, "")
	if calls > 150 || v.status != 503 || !strings.Contains(string(v.answer), "BREAKER_OPEN") || v.header.Get("retry-after") == "" {
		t.Errorf("want calls refused with a time to come back, found %d calls, %d %s %v", calls, v.status, v.answer, v.header)
	}
}

// A route's subset and retries are its own.
func TestRouteSubset(t *testing.T) {
	text := strings.Replace(document, `{address: "b:1"}`, `{address: "b:1", metadata: {version: v2}}`, 1)
	text = strings.Replace(text, "endpoints:", "balancer: {subsets: [{name: canary, match: {version: v2}}]}, endpoints:", 1)
	b := mustBench(t, text+"routes: [{name: r, service: echo, subset: canary, headers: [{name: x-canary, present: true}], methods: [\"*\"]}, {name: s, service: echo, methods: [\"*\"]}]\n")
	where := map[string]int{}
	b.at = func(_ context.Context, address string, _ *rpc.Call, out *rpc.Reply) error {
		where[address]++
		hello(out)
		return nil
	}
	for range 20 {
		b.visit("POST", write, "", rpc.Pair{Key: "x-canary", Value: "1"})
	}
	if where["b:1"] != 20 {
		t.Errorf("want the canary only, found %v", where)
	}
	for range 20 {
		b.visit("POST", write, "")
	}
	if where["a:1"] != 10 || where["b:1"] != 30 {
		t.Errorf("want the others on both, found %v", where)
	}
}

// An instance at which nobody was reached is passed over by the next call already: retries for it would soon be used up.
func TestUnreachedIsAvoidedAtOnce(t *testing.T) {
	b := mustBench(t, document)
	there := 0
	b.at = func(_ context.Context, address string, _ *rpc.Call, out *rpc.Reply) error {
		if address == "a:1" {
			there++
			return unreached
		}
		hello(out)
		return nil
	}
	for i := range 100 {
		if v := b.visit("POST", write, ""); v.status != 200 {
			t.Fatalf("call %d: want it on the other instance, found %d %s", i, v.status, v.answer)
		}
	}
	if there == 0 || there > 3 {
		t.Errorf("want the instance tried once, and once more perhaps, found %d times", there)
	}
}
