package trafficsplit

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

func TestReadme(t *testing.T) { plugintest.Readme(t, Kind, plugintest.Env(t)) }

func TestFaults(t *testing.T) {
	plugintest.Faults(t, Kind, plugintest.Env(t), []plugintest.Fault{
		{Name: "nothing", Config: `{}`, Path: "", Want: "no rules", Fix: "rules"},
		{Name: "nowhere", Config: `{rules: [{}]}`, Path: "rules[0].services", Want: "nowhere", Fix: "weight"},
		{Name: "no weight", Config: `{rules: [{services: [{service: a, weight: 0}]}]}`, Path: "rules[0].services", Want: "nowhere", Fix: "above 0"},
		{Name: "no name", Config: `{rules: [{services: [{weight: 1}]}]}`, Path: "rules[0].services[0]", Want: "no service", Fix: "name"},
		{Name: "twice", Config: `{rules: [{services: [{service: a}, {service: a}]}]}`, Path: "rules[0].services[1].service", Want: "twice", Fix: "weights"},
		{Name: "heavy", Config: `{rules: [{services: [{service: a, weight: 1000001}]}]}`, Path: "rules[0].services[0].weight", Want: "1000001", Fix: "smaller"},
		{Name: "expression", Config: `{rules: [{when: "consumer.nme == 'a'", services: [{service: a}]}]}`, Path: "rules[0].when", Want: "undeclared", Fix: "cel.dev"},
		{Name: "no truth", Config: `{rules: [{when: "consumer.name", services: [{service: a}]}]}`, Path: "rules[0].when", Want: "wanted an expression that is bool", Fix: "true or false"},
		{Name: "answer", Config: `{rules: [{when: "answer.status == 200", services: [{service: a}]}]}`, Path: "rules[0].when", Want: "not known yet", Fix: "request"},
		{Name: "header", Config: `{rules: [{headers: {"a b": c}, services: [{service: a}]}]}`, Path: `rules[0].headers["a b"]`, Want: "not the name", Fix: "letters"},
		{Name: "sticky", Config: `{rules: [{sticky: cookie, services: [{service: a}]}]}`, Path: "rules[0].sticky", Want: `"cookie"`, Fix: "address"},
		{Name: "sticky without name", Config: `{rules: [{sticky: header, services: [{service: a}]}]}`, Path: "rules[0].sticky", Want: `"header"`, Fix: "NAME"},
		{Name: "sticky with more", Config: `{rules: [{sticky: address x, services: [{service: a}]}]}`, Path: "rules[0].sticky", Want: `"address x"`, Fix: "NAME"},
		{Name: "never reached", Config: `{rules: [{services: [{service: a}]}, {consumers: [b], services: [{service: a}]}]}`, Path: "rules[0]", Want: "takes every call", Fix: "last"},
	})
}

func TestServices(t *testing.T) {
	p := plugintest.New(t, Kind, plugintest.Env(t), `{rules: [{consumers: [x], services: [{service: b}, {service: a}]}, {services: [{service: a}, {service: c, weight: 0}]}]}`)
	chosen, called := p.(plugin.Director).Services() //nolint:forcetypeassert // it is, by the package
	if diff := cmp.Diff([]string{"b", "a", "c"}, chosen); diff != "" || called != nil {
		t.Error(diff, called)
	}
}

func TestRules(t *testing.T) {
	const config = `{rules: [
		{headers: {X-Canary: "1", x-b: "2"}, services: [{service: by-header}]},
		{consumers: [ann, bob], services: [{service: by-consumer}]},
		{consumers: [carl], when: "metadata['x-c'] == 'yes'", services: [{service: by-both}]},
		{when: "has(claims.beta) && claims.beta", services: [{service: by-claim}, {service: never, weight: 0}]}]}`
	for _, tc := range []struct {
		name, consumer string
		header         []string
		claims         rpc.Claims
		want           string
	}{
		{"none", "", nil, nil, "orders"},
		{"headers", "ann", []string{"x-canary", "1", "x-b", "2"}, nil, "by-header"},
		{"headers that come twice", "", []string{"x-canary", "0", "x-canary", "1", "x-b", "2"}, nil, "by-header"},
		{"half of the headers", "", []string{"x-canary", "1"}, nil, "orders"},
		{"another value", "", []string{"x-canary", "11", "x-b", "2"}, nil, "orders"},
		{"consumer", "bob", nil, nil, "by-consumer"},
		{"half of both", "carl", nil, nil, "orders"},
		{"both", "carl", []string{"x-c", "yes"}, nil, "by-both"},
		{"claim", "carl", nil, rpc.Claims{"beta": true}, "by-claim"},
		{"claim that is not", "carl", nil, rpc.Claims{"beta": false}, "orders"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			next := &plugintest.Next{}
			c := plugintest.Call("GET", "/", tc.header...)
			c.Claims = tc.claims
			if tc.consumer != "" {
				c.Consumer = &rpc.Consumer{Name: tc.consumer}
			}
			if err := plugintest.New(t, Kind, plugintest.Env(t), config).Wrap(next).Handle(t.Context(), c); err != nil || c.Service != tc.want || next.Calls != 1 {
				t.Errorf("want %s, found %s, %v", tc.want, c.Service, err)
			}
		})
	}
}

func TestConditionThatFails(t *testing.T) {
	next := &plugintest.Next{}
	h := plugintest.New(t, Kind, plugintest.Env(t), `{rules: [{when: "claims.beta", services: [{service: a}]}]}`).Wrap(next)
	plugintest.Refused(t, h.Handle(t.Context(), plugintest.Call("GET", "/")), codes.Internal, 0, "CONDITION_FAILED")
	if next.Calls != 0 {
		t.Error("want nothing through")
	}
}

// shares are the parts of n calls that went to each service.
func shares(t *testing.T, config string, n int, change func(c *rpc.Call, i int)) (parts map[string]float64, places []string) {
	t.Helper()
	h := plugintest.New(t, Kind, plugintest.Env(t), config).Wrap(&plugintest.Next{})
	parts = map[string]float64{}
	for i := range n {
		c := plugintest.Call("GET", "/")
		change(c, i)
		if err := h.Handle(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		parts[c.Service] += 1 / float64(n)
		places = append(places, c.Service)
	}
	return parts, places
}

func consumer(c *rpc.Call, i int) { c.Consumer = &rpc.Consumer{Name: fmt.Sprintf("user-%d", i)} }

func address(c *rpc.Call, i int) {
	c.Client = netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}

func named(c *rpc.Call, i int) { c.HTTP.Header.Add("x-user", strconv.Itoa(i)) }

// Shares are what the weights say, whatever the key is: with 20,000 calls a share of 10 % is off by 1 % once in a million times.
func TestWeights(t *testing.T) {
	for sticky, change := range map[string]func(*rpc.Call, int){"": consumer, "consumer": consumer, "address": address, "header x-user": named, "header x-none": address} {
		t.Run(sticky, func(t *testing.T) {
			parts, _ := shares(t, `{rules: [{sticky: "`+sticky+`", services: [{service: a, weight: 10}, {service: b, weight: 0}, {service: c, weight: 90}]}]}`, 20_000, change)
			if math.Abs(parts["a"]-0.1) > 0.0105 || parts["b"] != 0 || math.Abs(parts["c"]-0.9) > 0.0105 {
				t.Errorf("found %v", parts)
			}
		})
	}
}

// A caller stays, also on another gateway, and while the first service gets more.
func TestSticky(t *testing.T) {
	config := func(weight int) string {
		return fmt.Sprintf(`{rules: [{sticky: consumer, services: [{service: new, weight: %d}, {service: old, weight: %d}]}]}`, weight, 100-weight)
	}
	_, before := shares(t, config(10), 2000, consumer)
	if _, again := shares(t, config(10), 2000, consumer); !slices.Equal(before, again) {
		t.Error("want the same places from a plugin that was made anew")
	}
	_, after := shares(t, config(30), 2000, consumer)
	for i := range before {
		if before[i] == "new" && after[i] != "new" {
			t.Errorf("user-%d left the new service when it got more", i)
		}
	}
	// Known values hold the places across versions.
	if got := []uint64{hash("c", "ann"), hash("a", ""), hash("h", "7")}; !slices.Equal(got, []uint64{0xcad646141ce6be78, 0x2c0bdbf481420f8, 0x5f001371c9a491d}) {
		t.Errorf("the places of callers have changed: %#x", got)
	}
}

func handling(t testing.TB) rpc.Handler {
	return plugintest.New(t, Kind, plugintest.Env(t), `{rules: [{headers: {x-canary: "1"}, services: [{service: a}]}, {sticky: address, services: [{service: a, weight: 10}, {service: b, weight: 90}]}]}`).Wrap(&plugintest.Next{})
}

func TestHandleAllocs(t *testing.T) {
	plugintest.Allocs(t, 0, handling(t), plugintest.Call("GET", "/"))
}

func BenchmarkHandle(b *testing.B) {
	h, c, ctx := handling(b), plugintest.Call("GET", "/"), b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if err := h.Handle(ctx, c); err != nil {
			b.Fatal(err)
		}
	}
}

// The conditions that calls of a method come to are those up to a rule which surely takes them.
func TestExpressions(t *testing.T) {
	const rules = `{rules: [
		{consumers: [ann], when: "rpc.method == 'Get'", services: [{service: a}]},
		{when: "rpc.method == 'Get' || request.path == '/a'", services: [{service: a}]},
		{when: "message.tier == 'a'", services: [{service: a}]},
		{headers: {x-a: b}, services: [{service: a}]},
		{when: "metadata.a == 'a'", services: [{service: a}]},
		{services: [{service: a}]}]}`
	e := plugintest.New(t, Kind, plugintest.Env(t), rules).(plugin.Evaluator)
	for method, want := range map[string][]string{
		"/acme.v1.Orders/Get":  {"rules[0].when sometimes", "rules[1].when"},
		"/acme.v1.Orders/List": {"rules[0].when sometimes", "rules[1].when", "rules[2].when", "rules[4].when"},
	} {
		var got []string
		for _, x := range e.Expressions(&schema.Method{Name: method}) {
			if x.Sometimes {
				x.Path += " sometimes"
			}
			got = append(got, x.Path)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: want %q, found %q", method, want, got)
		}
	}
}
