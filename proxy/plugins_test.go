package proxy_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	metricsv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/metrics/v1"
	"github.com/causeway-gateway/causeway/proxy"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// order notes what passes, in the order of things.
type order struct {
	mu   sync.Mutex
	seen []string
}

func (o *order) note(what string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen = append(o.seen, what)
}

func (o *order) take() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := strings.Join(o.seen, " ")
	o.seen = nil
	return s
}

// passing is a plugin that notes calls and their ends.
func passing(name string, o *order) *spy {
	return &spy{name: name, handle: func(next rpc.Handler, ctx context.Context, c *rpc.Call) error {
		o.note(name)
		return next.Handle(ctx, c)
	}, done: func(*rpc.Call, rpc.Sent) { o.note(name + ".") }}
}

// keyed authenticates by the header of its name.
type keyed struct {
	name  string
	creds map[string]*rpc.Consumer
	fail  error
	state *int // outlives it
}

func (k *keyed) Wrap(next rpc.Handler) rpc.Handler { return plugin.Authenticated(k, next) }

func (k *keyed) Authenticate(_ context.Context, c *rpc.Call) error {
	if k.fail != nil {
		return k.fail
	}
	key, n := plugin.Shown(c, "x-"+k.name)
	if n == 0 {
		return plugin.Missing(k.name)
	}
	u := k.creds[key]
	if u == nil {
		return plugin.Invalid(k.name, nil)
	}
	c.Consumer = u
	return nil
}

// keyedKind is a kind whose credentials are empty: the name of a consumer is its key.
func keyedKind(name string, made *[]*keyed) plugin.Kind {
	empty := func() proto.Message { return &metricsv1.Metrics{} }
	return plugin.Kind{Name: name, Config: empty, Credential: empty, New: func(_ proto.Message, env plugin.Env) (plugin.Plugin, error) {
		k := &keyed{name: name, creds: map[string]*rpc.Consumer{}}
		for _, c := range env.Credentials {
			k.creds[c.Consumer.Name] = c.Consumer
		}
		var err error
		k.state, err = plugin.StateOf(env, "n", func() (*int, error) { return new(int), nil })
		*made = append(*made, k)
		return k, err
	}}
}

const scopes = `listen: [{address: "127.0.0.1:0"}]
schemas: [{name: echo, descriptor_set: SET}]
services: [{name: echo, schema: echo, endpoints: [{address: "a:1"}], plugins: [{name: s}]}]
routes: [{name: r, service: echo, methods: ["demo.echo.v1.Echo/*"], plugins: [{name: r1}, {name: r2}]}]
plugins: [{name: g}, {name: key}]
consumers:
  - {name: ann, groups: [x, y], credentials: [{plugin: key}], plugins: [{name: c}]}
  - {name: bob, credentials: [{plugin: key}]}
`

func call(b *bench, key, value string) *visitor {
	return b.visit("GET", "/v1/echo/x", "", rpc.Pair{Key: key, Value: value})
}

// The order of scopes is: global, service, route, consumer; ends are told outermost first, the consumer's before.
func TestScopes(t *testing.T) {
	var o order
	var made []*keyed
	kinds := []plugin.Kind{keyedKind("key", &made)}
	for _, name := range []string{"g", "s", "r1", "r2", "c"} {
		kinds = append(kinds, passing(name, &o).kind())
	}
	b := mustBench(t, scopes, kinds...)
	var header rpc.Metadata
	unary := b.unary
	b.unary = func(ctx context.Context, c *rpc.Call, req *rpc.Message, out *rpc.Reply) error {
		o.note("service")
		header = slices.Clone(c.Header)
		return unary(ctx, c, req, out)
	}
	for _, tc := range []struct{ who, want, groups string }{
		{"ann", "g s r1 r2 c service c. g. s. r1. r2.", "x,y"},
		{"bob", "g s r1 r2 service g. s. r1. r2.", ""},
		{"eve", "g g. s. r1. r2.", ""},
	} {
		header = nil
		v := call(b, "x-key", tc.who)
		if got := o.take(); got != tc.want {
			t.Errorf("%s: want %s, found %s", tc.who, tc.want, got)
		}
		if refused := v.status == 401; refused != (tc.who == "eve") {
			t.Errorf("%s: status %d", tc.who, v.status)
		}
		if tc.who != "eve" && (header.Get("x-consumer-name") != tc.who || header.Get("x-consumer-groups") != tc.groups) {
			t.Errorf("%s: the service is told %v", tc.who, header)
		}
	}
	taken := b.gateway.Current().Explain(proxy.Question{Method: "GET", URL: "/v1/echo/x"}).Taken
	want := []string{"g (global)", "key (global)", "s (service echo)", "r1 (route r)", "r2 (route r)", "those of the consumer"}
	if taken == nil || !slices.Equal(taken.Plugins, want) {
		t.Errorf("explain shows %+v", taken)
	}
}

// asserter tells services what it found.
type asserter struct{ spy }

func (*asserter) Asserts() []string { return []string{"authorization", "x-tier"} }

// What a plugin asserts of calls that reach it, callers of the others cannot say themselves: neither to the service, nor to
// those who look at the request's head.
func TestAssertedHeadersAreTheGatewaysAlone(t *testing.T) {
	forged := []rpc.Pair{{Key: "x-key", Value: "bob"}, {Key: "x-tier", Value: "gold"}, {Key: "x_tier", Value: "gold"}, {Key: "authorization", Value: "Bearer t"}, {Key: "x-other", Value: "1"}}
	for name, tc := range map[string]struct{ plugins, consumer, metadata string }{
		"of a consumer":  {"{name: key}", "{name: tier}", "authorization x-other"},
		"of a condition": {"{name: key}, {name: tier, when: \"consumer.name == 'ann'\"}", "", "x-other"},
	} {
		var made []*keyed
		tier := &asserter{spy{name: "tier"}}
		tier.handle = func(next rpc.Handler, ctx context.Context, c *rpc.Call) error {
			c.Header.Set("x-tier", "silver")
			return next.Handle(ctx, c)
		}
		b := mustBench(t, document+"defaults: {request_headers: [x-tier, x_tier, x-other]}\nplugins: ["+tc.plugins+"]\nconsumers:\n"+
			"  - {name: ann, credentials: [{plugin: key}], plugins: ["+tc.consumer+"]}\n  - {name: bob, credentials: [{plugin: key}]}\n",
			keyedKind("key", &made), kindOf("tier", tier))
		var header, head rpc.Metadata
		unary := b.unary
		b.unary = func(ctx context.Context, c *rpc.Call, req *rpc.Message, out *rpc.Reply) error {
			header, head = slices.Clone(c.Header), slices.Clone(c.HTTP.Header)
			return unary(ctx, c, req, out)
		}
		if v := b.visit("GET", "/v1/echo/x", "", slices.Clone(forged)...); v.status != 200 || header.Has("x-tier") || header.Has("x_tier") || head.Has("x-tier") || head.Has("x_tier") {
			t.Errorf("%s: %d, the service is told %v of %v", name, v.status, header, head)
		}
		for _, key := range []string{"authorization", "x-other"} {
			if header.Has(key) != strings.Contains(tc.metadata, key) || !head.Has(key) {
				t.Errorf("%s: %s in %v of %v", name, key, header, head)
			}
		}
		ann := slices.Clone(forged)
		ann[0].Value = "ann"
		if v := b.visit("GET", "/v1/echo/x", "", ann...); v.status != 200 || header.Get("x-tier") != "silver" || header.Has("x_tier") {
			t.Errorf("%s: %d, the service is told %v of ann", name, v.status, header)
		}
	}
}

func TestAnyOf(t *testing.T) {
	var made []*keyed
	kinds := []plugin.Kind{keyedKind("key", &made), keyedKind("pass", &made)}
	doc := document + `plugins: [{any_of: [{name: key}, {name: pass}]}]
consumers: [{name: ann, credentials: [{plugin: key}]}, {name: bob, credentials: [{plugin: pass}]}]
`
	b := mustBench(t, doc, kinds...)
	for _, tc := range []struct {
		headers []rpc.Pair
		status  int
		reason  string
	}{
		{nil, 401, "CREDENTIALS_MISSING"},
		{[]rpc.Pair{{Key: "x-key", Value: "ann"}}, 200, ""},
		{[]rpc.Pair{{Key: "x-pass", Value: "bob"}}, 200, ""},
		{[]rpc.Pair{{Key: "x-key", Value: "bob"}}, 401, "CREDENTIALS_INVALID"},
		{[]rpc.Pair{{Key: "x-key", Value: "bob"}, {Key: "x-pass", Value: "bob"}}, 200, ""},
	} {
		v := b.visit("GET", "/v1/echo/x", "", tc.headers...)
		if v.status != tc.status || !strings.Contains(string(v.answer), tc.reason) {
			t.Errorf("%v: want %d %s, found %d %s", tc.headers, tc.status, tc.reason, v.status, v.answer)
		}
		if tc.reason == "CREDENTIALS_MISSING" && v.header.Count("www-authenticate") != 2 {
			t.Errorf("want both challenges, found %v", v.header)
		}
	}
	made[0].fail = errors.New("broken")
	if v := call(b, "x-key", "ann"); v.status != 500 {
		t.Errorf("one way broken, the other without credentials: want 500, found %d", v.status)
	}
	if v := call(b, "x-pass", "bob"); v.status != 200 {
		t.Errorf("one way broken, the other accepts: want 200, found %d", v.status)
	}
}

func TestConditions(t *testing.T) {
	var o order
	doc := document + `plugins:
  - {name: some, when: "request.headers['x-a'] == 'yes'"}
  - {name: ends, when: "answer.status >= 400"}
  - {name: broken, when: "claims.sub == 'x' || request.headers['x-a'] == 'fine' || request.headers['x-a'] == 'yes'"}
`
	ends := &endsOnly{o: &o}
	kind := plugin.Kind{Name: "ends", Config: func() proto.Message { return &metricsv1.Metrics{} }, New: func(proto.Message, plugin.Env) (plugin.Plugin, error) { return ends, nil }}
	b := mustBench(t, doc, passing("some", &o).kind(), kind, passing("broken", &o).kind())
	for _, tc := range []struct {
		value, want string
		status      int
	}{
		{"yes", "some broken some. broken.", 200},
		{"fine", "broken broken.", 200},
		{"other", "ends.", 500},
	} {
		if v := call(b, "x-a", tc.value); v.status != tc.status {
			t.Errorf("%s: want %d, found %d %s", tc.value, tc.status, v.status, v.answer)
		}
		if got := o.take(); got != tc.want {
			t.Errorf("%s: want %s, found %s", tc.value, tc.want, got)
		}
	}
}

// endsOnly does nothing before the end of calls.
type endsOnly struct{ o *order }

func (e *endsOnly) Wrap(next rpc.Handler) rpc.Handler { return next }

func (e *endsOnly) Done(*rpc.Call, rpc.Sent) { e.o.note("ends.") }

// dresser is a plugin that acts on every answer.
type dresser struct{ endsOnly }

func (*dresser) Dress(h rpc.Metadata, _ *rpc.HTTP, _ bool) rpc.Metadata {
	return append(h, rpc.Pair{Key: "x-dressed", Value: "1"})
}

// director sends calls elsewhere.
type director struct{ chosen, called []string }

func (d *director) Wrap(next rpc.Handler) rpc.Handler { return &directed{d, next} }

func (d *director) Services() (chosen, called []string) { return d.chosen, d.called }

type directed struct {
	*director
	next rpc.Handler
}

func (d *directed) Handle(ctx context.Context, c *rpc.Call) error {
	if to := c.Header.Get("x-to"); to != "" {
		c.Service = to
	}
	return d.next.Handle(ctx, c)
}

func kindOf(name string, p plugin.Plugin) plugin.Kind {
	return plugin.Kind{Name: name, Config: func() proto.Message { return &metricsv1.Metrics{} }, New: func(proto.Message, plugin.Env) (plugin.Plugin, error) { return p, nil }}
}

// reader goes by who calls.
type reader struct {
	endsOnly
	needs bool
}

func (r *reader) ReadsCaller() (reads, needs bool) { return true, r.needs }

func TestWhoeverGoesByTheCallerStandsBehind(t *testing.T) {
	var made []*keyed
	var o order
	kinds := []plugin.Kind{keyedKind("key", &made), kindOf("acl", &reader{endsOnly{&o}, true}), kindOf("limit", &reader{endsOnly{&o}, false})}
	for plugins, want := range map[string]string{
		"{name: acl}":                "goes by who calls, and here nobody knows that so far",
		"{name: acl}, {name: key}":   "write it behind key",
		"{name: limit}, {name: key}": "write it behind key",
		"{name: limit}":              "",
		"{name: key}, {name: acl}":   "",
		"{any_of: [{name: key}, {name: key}]}, {name: acl}, {name: limit}": "",
	} {
		_, err := newBench(t, document+"plugins: ["+plugins+"]\n", kinds...)
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Count(err.Error(), "goes by who calls") != 1) {
			t.Errorf("%s: want %q, found %v", plugins, want, err)
		}
	}
}

func TestRoutedOnly(t *testing.T) {
	b := mustBench(t, document+"routes: [{name: r, service: echo, methods: [demo.echo.v1.Echo/Call]}]\ndefaults: {routed_only: true}\n")
	for path, status := range map[string]int{"/v1/echo/x": 200, "/v1/fail/5": 404, "/demo.echo.v1.Echo/Fail": 404} {
		if v := b.visit("GET", path, ""); v.status != status {
			t.Errorf("%s: want %d, found %d", path, status, v.status)
		}
	}
}

// What plugins of no use where they stand, and what is wrong with their configuration, is refused with its position.
func TestPluginFaults(t *testing.T) {
	var made []*keyed
	var o order
	picky := plugin.Kind{Name: "picky", Config: func() proto.Message { return &metricsv1.Metrics{} }, New: func(proto.Message, plugin.Env) (plugin.Plugin, error) {
		return nil, plugin.Faultf("keys[1]", "write another", "no key")
	}}
	kinds := []plugin.Kind{
		keyedKind("key", &made), passing("g", &o).kind(), picky, kindOf("dress", &dresser{endsOnly{&o}}),
		kindOf("elsewhere", &director{chosen: []string{"ech"}}), kindOf("elsewhere2", &director{chosen: []string{"chat"}}),
	}
	for _, tc := range []struct{ more, want string }{
		{"plugins: [{name: picky}]", "plugins[0].config.keys[1]: no key"},
		{"plugins: [{any_of: [{name: key}, {name: g}]}]", `plugins[0].any_of[1]: plugin "g" does not find out who calls`},
		{"plugins: [{any_of: [{name: key}]}]", "plugins[0].any_of: wanted at least two plugins, found 1"},
		{"plugins: [{name: g, any_of: [{name: key}, {name: key}]}]", "`any_of` stands beside `name`"},
		{"plugins: [{name: g, when: 'request.metho == 1'}]", "plugins[0].when: column 8 of the expression: undeclared reference to 'request.metho'"},
		{"plugins: [{name: g, when: 'answer.status == 1'}]", "plugins[0].when: `answer` is not known yet when a call reaches plugin \"g\""},
		{"plugins: [{name: dress, when: 'true'}]", `plugins[0].when: plugin "dress" acts on every answer`},
		{"consumers: [{name: a, plugins: [{name: dress}]}]", `consumers[0].plugins[0]: plugin "dress" acts on every answer of a route, whoever calls`},
		{"consumers: [{name: a, plugins: [{name: key}]}]", `consumers[0].plugins[0]: plugin "key" finds out who calls, and here that is known`},
		{"consumers: [{name: a, credentials: [{plugin: g}]}]", `consumers[0].credentials[0].plugin: unknown plugin of authentication "g"`},
		{"plugins: [{name: elsewhere}]", `plugins[0]: plugin "elsewhere": there is no service "ech"; did you mean "echo"?`},
		{"plugins: [{name: elsewhere2}]", `plugin "elsewhere2": there is no service "chat"`},
		{"stores: [{name: s, redis: {addresses: ['a:1']}}]", "stores[0].redis: this gateway has no Redis"},
	} {
		_, err := newBench(t, document+tc.more+"\n", kinds...)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s:\nwant %s\nfound %v", tc.more, tc.want, err)
		}
	}
}

// A plugin that panics while it is made refuses the configuration; the gateway serves on, and what was made is closed.
func TestPanicWhileBuilding(t *testing.T) {
	s := &spy{name: "spy"}
	odd := plugin.Kind{Name: "odd", Config: func() proto.Message { return &metricsv1.Metrics{} }, New: func(proto.Message, plugin.Env) (plugin.Plugin, error) {
		panic("boom")
	}}
	b := mustBench(t, document, s.kind(), odd)
	b.set(document + "plugins: [{name: spy}, {name: odd}]\n")
	if err := b.gateway.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "the configuration cannot be built: panic: boom") {
		t.Errorf("found %v", err)
	}
	if made, closed, _ := s.counts(); made != 1 || closed != 1 {
		t.Errorf("%d made, %d closed", made, closed)
	}
	if v := b.visit("GET", "/v1/echo/x", ""); v.status != 200 {
		t.Errorf("found %d", v.status)
	}
	b.set(document)
	if err := b.gateway.Reload(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestDressersAreOnEveryAnswer(t *testing.T) {
	var o order
	b := mustBench(t, document+"plugins: [{name: dress}]\n", kindOf("dress", &dresser{endsOnly{&o}}))
	for _, path := range []string{"/v1/echo/x", "/v1/none", "/v1/%2e%2e/x", "/demo.echo.v1.Echo/None"} {
		if v := b.visit("GET", path, ""); v.header.Get("x-dressed") != "1" {
			t.Errorf("%s: %d %v", path, v.status, v.header)
		}
	}
}

// retried is how many calls of a service were tried again.
func retried(t *testing.T, b *bench, service string) int64 {
	t.Helper()
	vec, err := b.meter.Counter("causeway_retries_total", "", "Calls tried again: retried, hedged, or refused by the budget.", "service", "result")
	if err != nil {
		t.Fatal(err)
	}
	return vec.With(service, "retried").Value()
}

func TestDirectorChoosesTheService(t *testing.T) {
	two := strings.Replace(document, "services: [", `services: [{name: other, schema: echo, serves: [demo.echo.v1.Echo], endpoints: [{address: "other:1"}]}, `, 1)
	two += "routes: [{name: r, service: echo, methods: ['demo.echo.v1.Echo/*'], plugins: [{name: d}], request_headers: [x-to]}]\n"
	b := mustBench(t, two, kindOf("d", &director{chosen: []string{"other"}}))
	var node string
	unary := b.unary
	b.unary = func(ctx context.Context, c *rpc.Call, req *rpc.Message, out *rpc.Reply) error {
		node = c.Node
		return unary(ctx, c, req, out)
	}
	for to, want := range map[string]string{"": "a:1 b:1", "other": "other:1"} {
		v := call(b, "x-to", to)
		if v.status != 200 || !strings.Contains(want, node) {
			t.Errorf("to %q: %d from %q, want one of %s", to, v.status, node, want)
		}
	}
	b.unary = func(context.Context, *rpc.Call, *rpc.Message, *rpc.Reply) error { return unreached }
	call(b, "x-to", "other")
	if of, elsewhere := retried(t, b, "other"), retried(t, b, "echo"); of != 2 || elsewhere != 0 {
		t.Errorf("want two retries counted where they were made, found %d there and %d under the route's service", of, elsewhere)
	}
	b.unary = unary
	if v := call(b, "x-to", "elsewhere"); v.status != 500 {
		t.Errorf("a service that was not named: want 500, found %d", v.status)
	}
}

// A plugin lives as long as its configuration does; one of authentication is made anew with its consumers, and its state
// goes on.
func TestPluginsAndTheirStateOutliveReloads(t *testing.T) {
	var made []*keyed
	var o order
	g := passing("g", &o)
	doc := document + "plugins: [{name: g}, {name: key}]\nconsumers: [{name: ann, credentials: [{plugin: key}]}]\n"
	b := mustBench(t, doc, keyedKind("key", &made), g.kind())
	reload := func(text string) {
		t.Helper()
		b.set(text)
		if err := b.gateway.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	// Nothing that concerns them: another plugin in front, another consumer's group without credentials of this kind.
	reload(strings.Replace(doc, "plugins: [", "defaults: {timeout: 7s}\nplugins: [", 1) + "")
	if n, closed, _ := g.counts(); n != 1 || closed != 0 || len(made) != 1 {
		t.Fatalf("want both taken over, found %d made, %d closed, %d made", n, closed, len(made))
	}
	reload(strings.Replace(doc, "consumers: [", "consumers: [{name: bob, credentials: [{plugin: key}]}, ", 1))
	if n, _, _ := g.counts(); n != 1 || len(made) != 2 {
		t.Fatalf("want the plugin of authentication made anew, found %d and %d made", n, len(made))
	}
	if made[1].creds["ann"] != made[0].creds["ann"] {
		t.Error("want an unchanged consumer to stay the same")
	}
	if made[1].state != made[0].state {
		t.Error("want the state to go on")
	}
	for _, who := range []string{"ann", "bob"} {
		if v := call(b, "x-key", who); v.status != 200 {
			t.Errorf("%s: found %d", who, v.status)
		}
	}
	reload(document)
	soon(t, "a plugin that is gone closed", func() bool { _, closed, _ := g.counts(); return closed == 1 })
	soon(t, "state that nobody holds to begin anew", func() bool {
		reload(doc)
		fresh := made[len(made)-1].state != made[0].state
		reload(document)
		return fresh
	})
}
