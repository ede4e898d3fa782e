package limit_test

import (
	"errors"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	limitv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/limit/v1"
	limitcountv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/limitcount/v1"
	"github.com/causeway-gateway/causeway/proxy/limit"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// params are the variables of a path.
type params map[string]string

func (p params) Param(name string) (string, bool) { v, ok := p[name]; return v, ok }

func number(t *testing.T, k *limit.Keys, c *rpc.Call) uint64 {
	t.Helper()
	n, _, err := k.Number(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func keys(t *testing.T, conf *limitv1.Key) *limit.Keys {
	t.Helper()
	k, err := limit.NewKeys(conf, "key")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// What calls are counted by: two calls have one key or two.
func TestKeys(t *testing.T) {
	from := func(address string) func(*rpc.Call) {
		return func(c *rpc.Call) { c.Peer = netip.MustParseAddrPort(address) }
	}
	header := func(k, v string) func(*rpc.Call) {
		return func(c *rpc.Call) { c.HTTP.Header.Add(k, v); c.Header.Add(k, v) }
	}
	raw := func(k, v string) func(*rpc.Call) { return func(c *rpc.Call) { c.HTTP.Header.Add(k, v) } }
	consumer := func(name string) func(*rpc.Call) { return func(c *rpc.Call) { c.Consumer = &rpc.Consumer{Name: name} } }
	claim := func(v any) func(*rpc.Call) { return func(c *rpc.Call) { c.Claims = rpc.Claims{"tenant": v} } }
	path := func(v string) func(*rpc.Call) { return func(c *rpc.Call) { c.Params = params{"shop": v} } }
	all := func(f ...func(*rpc.Call)) func(*rpc.Call) {
		return func(c *rpc.Call) {
			for _, f := range f {
				f(c)
			}
		}
	}
	nothing := func(*rpc.Call) {}
	address, tenant := &limitv1.Key{By: &limitv1.Key_Address{Address: true}}, &limitv1.Key{By: &limitv1.Key_Claim{Claim: "tenant"}}
	for _, tc := range []struct {
		name string
		key  *limitv1.Key
		a, b func(*rpc.Call)
		same bool
	}{
		{"ports of one address", address, from("192.0.2.7:1"), from("192.0.2.7:2"), true},
		{"two addresses", address, from("192.0.2.7:1"), from("192.0.2.8:1"), false},
		{"one /64", address, from("[2001:db8::1]:1"), from("[2001:db8::ffff:1:2:3]:1"), true},
		{"two of /64", address, from("[2001:db8::1]:1"), from("[2001:db8:0:1::1]:1"), false},
		{"IPv4 in IPv6", address, from("192.0.2.7:1"), from("[::ffff:192.0.2.7]:1"), true},
		{"no zone", address, from("[fe80::1%eth0]:1"), from("[fe80::1%eth1]:1"), true},
		{"forged headers", address, raw("x-forwarded-for", "10.0.0.1"), raw("x-forwarded-for", "10.0.0.2"), true},
		{"the default is the address", nil, from("192.0.2.7:1"), from("192.0.2.8:1"), false},
		{"a trusted proxy's client", address, nothing, func(c *rpc.Call) { c.Client = netip.MustParseAddr("198.51.100.1") }, false},
		{"one consumer, two addresses", &limitv1.Key{By: &limitv1.Key_Consumer{Consumer: true}}, all(consumer("a"), from("192.0.2.7:1")), all(consumer("a"), from("192.0.2.8:1")), true},
		{"two consumers", &limitv1.Key{By: &limitv1.Key_Consumer{Consumer: true}}, consumer("a"), consumer("b"), false},
		{"nobody known, two addresses", &limitv1.Key{By: &limitv1.Key_Consumer{Consumer: true}}, from("192.0.2.7:1"), from("192.0.2.8:1"), false},
		{"nobody known, one address", &limitv1.Key{By: &limitv1.Key_Consumer{Consumer: true}}, nothing, nothing, true},
		{"a consumer named like an address", &limitv1.Key{By: &limitv1.Key_Consumer{Consumer: true}}, consumer("192.0.2.1"), nothing, false},
		{"a header", &limitv1.Key{By: &limitv1.Key_Header{Header: "X-Tenant"}}, header("x-tenant", "a"), header("x-tenant", "b"), false},
		{"a header that is no metadata", &limitv1.Key{By: &limitv1.Key_Header{Header: "x-tenant"}}, header("x-tenant", "a"), raw("x-tenant", "a"), true},
		{"no header", &limitv1.Key{By: &limitv1.Key_Header{Header: "x-tenant"}}, from("192.0.2.7:1"), from("192.0.2.8:1"), false},
		{"a claim", tenant, claim("a"), claim("b"), false},
		{"a claim that is a number", tenant, claim(1.0), claim(2.0), false},
		{"a claim that is true", tenant, claim(true), claim(false), false},
		{"a claim that is a list", tenant, claim([]any{"a"}), nothing, true},
		{"a path variable", &limitv1.Key{By: &limitv1.Key_PathVariable{PathVariable: "shop"}}, path("a"), path("b"), false},
		{"no path variable", &limitv1.Key{By: &limitv1.Key_PathVariable{PathVariable: "shop"}}, nothing, path(""), true},
		{"an expression", &limitv1.Key{By: &limitv1.Key_Expression{Expression: "request.host + metadata['a']"}}, header("a", "1"), header("a", "2"), false},
		{"everybody", &limitv1.Key{By: &limitv1.Key_Everybody{Everybody: true}}, from("192.0.2.7:1"), from("192.0.2.8:1"), true},
		{"routes together", address, nothing, func(c *rpc.Call) { c.Route = "other" }, true},
		{"routes apart", &limitv1.Key{ByRoute: true}, nothing, func(c *rpc.Call) { c.Route = "other" }, false},
		{"one route", &limitv1.Key{ByRoute: true}, nothing, from("192.0.2.1:9"), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k := keys(t, tc.key)
			a, b := plugintest.Call("GET", "/"), plugintest.Call("GET", "/")
			tc.a(a)
			tc.b(b)
			if same := number(t, k, a) == number(t, k, b); same != tc.same {
				t.Errorf("want %v, found %v", tc.same, same)
			}
		})
	}
}

func TestKeyFaults(t *testing.T) {
	for _, tc := range []struct {
		key        *limitv1.Key
		path, want string
	}{
		{&limitv1.Key{By: &limitv1.Key_Header{}}, "key.header", "wanted a name, found an empty one"},
		{&limitv1.Key{By: &limitv1.Key_Claim{}}, "key.claim", "wanted a name, found an empty one"},
		{&limitv1.Key{By: &limitv1.Key_PathVariable{}}, "key.path_variable", "wanted a name, found an empty one"},
		{&limitv1.Key{By: &limitv1.Key_Address{}}, "key.address", "wanted true, found false"},
		{&limitv1.Key{By: &limitv1.Key_Consumer{}}, "key.consumer", "wanted true, found false"},
		{&limitv1.Key{By: &limitv1.Key_Everybody{}}, "key.everybody", "wanted true, found false"},
		{&limitv1.Key{By: &limitv1.Key_Expression{Expression: "nobody"}}, "key.expression", "column 1 of the expression: undeclared reference to 'nobody'"},
		{&limitv1.Key{By: &limitv1.Key_Expression{Expression: "answer.code"}}, "key.expression", "`answer` is not known yet when a call is counted"},
	} {
		_, err := limit.NewKeys(tc.key, "key")
		f, ok := errors.AsType[*plugin.Fault](err)
		if !ok || f.Path != tc.path || f.Message != tc.want || f.Fix == "" {
			t.Errorf("%v: found %v", tc.key, err)
		}
	}
	// An expression that fails refuses the call.
	k := keys(t, &limitv1.Key{By: &limitv1.Key_Expression{Expression: "claims.tenant"}})
	_, _, err := k.Number(t.Context(), plugintest.Call("GET", "/"))
	plugintest.Refused(t, err, codes.Internal, 0, "KEY_FAILED")
}

// every allows so many calls for ever.
type every int64

func (r every) Take(s *int64, _ int64) limit.Verdict {
	if *s >= int64(r) {
		return limit.Verdict{Wait: 1500 * time.Millisecond, Reset: 2 * time.Minute}
	}
	*s++
	return limit.Verdict{OK: true, Remaining: int64(r) - *s, Reset: 2 * time.Minute}
}

func (r every) Rests(s *int64, _ int64) bool { return *s == 0 }

func limiter(t testing.TB, most int64, conf *limitcountv1.LimitCount) *limit.Limiter[int64, every] {
	t.Helper()
	l, err := limit.New[int64](limit.Options[every]{Plugin: "limit_test", Rule: every(most), Limit: most}, conf, plugintest.Env(t))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestAnswersTellWhatIsLeft(t *testing.T) {
	wide, tight := limiter(t, 30_000, &limitcountv1.LimitCount{}), limiter(t, 2, &limitcountv1.LimitCount{})
	c := plugintest.Call("GET", "/")
	c.HTTP.Answer.Add("x-other", "1")
	take := func(l *limit.Limiter[int64, every]) error { _, err := l.Take(t.Context(), c); return err }
	if err := take(wide); err != nil {
		t.Fatal(err)
	}
	want := rpc.Metadata{{Key: "x-other", Value: "1"}, {Key: "ratelimit-limit", Value: "30000"}, {Key: "ratelimit-remaining", Value: "29999"}, {Key: "ratelimit-reset", Value: "120"}}
	if d := cmp.Diff(want, c.HTTP.Answer); d != "" {
		t.Error(d)
	}
	// The tighter limit is the one to tell of, in either order.
	if err := errors.Join(take(tight), take(wide)); err != nil {
		t.Fatal(err)
	}
	want[1].Value, want[2].Value = "2", "1"
	if d := cmp.Diff(want, c.HTTP.Answer); d != "" {
		t.Error(d)
	}
	if err := take(tight); err != nil {
		t.Fatal(err)
	}
	e := plugintest.Refused(t, take(tight), codes.ResourceExhausted, 0, limit.ReasonLimited)
	if e.Header.Get("retry-after") != "2" || c.HTTP.Answer.Get("ratelimit-remaining") != "0" {
		t.Errorf("found %v, %v", e.Header, c.HTTP.Answer)
	}
	hidden := limiter(t, 1, &limitcountv1.LimitCount{HideHeaders: true})
	c = plugintest.Call("GET", "/")
	if err := take(hidden); err != nil || len(c.HTTP.Answer) != 0 {
		t.Errorf("found %v, %v", err, c.HTTP.Answer)
	}
	c.HTTP = nil // a call that came otherwise
	c.Peer = netip.MustParseAddrPort("192.0.2.9:1")
	if err := take(wide); err != nil {
		t.Error(err)
	}
}

func TestSeconds(t *testing.T) {
	for d, want := range map[time.Duration]int64{-time.Second: 0, 0: 0, 1: 1, time.Second: 1, time.Second + 1: 2, 1<<63 - 1: 9223372036} {
		if n := limit.Seconds(d); n != want {
			t.Errorf("%d: want %d, found %d", d, want, n)
		}
	}
}

// Numbers are written as everywhere, from the table and past it.
func TestRemainingIsWritten(t *testing.T) {
	const most = 20_000
	l := limiter(t, most, &limitcountv1.LimitCount{})
	c := plugintest.Call("GET", "/")
	for i := range most {
		c.HTTP.Answer = c.HTTP.Answer[:0]
		if _, err := l.Take(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if got := c.HTTP.Answer.Get("ratelimit-remaining"); got != strconv.Itoa(most-1-i) {
			t.Fatalf("want %d, found %s", most-1-i, got)
		}
	}
}
