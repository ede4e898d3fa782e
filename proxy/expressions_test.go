package proxy_test

import (
	"context"
	"strings"
	"testing"

	"github.com/causeway-gateway/causeway/proxy"
	"github.com/causeway-gateway/causeway/proxy/expr"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// evaluating evaluates an expression, and more that may come behind it.
type evaluating struct {
	spy
	list []plugin.Expression
}

func (a *evaluating) Expressions(*schema.Method) []plugin.Expression { return a.list }

// evaluatingKind is a kind whose plugins evaluate expressions; one that begins with ? sometimes.
func evaluatingKind(t *testing.T, name string, texts ...string) plugin.Kind {
	t.Helper()
	a := &evaluating{spy: spy{name: name, handle: func(next rpc.Handler, ctx context.Context, c *rpc.Call) error { return next.Handle(ctx, c) }}}
	for _, text := range texts {
		text, sometimes := strings.CutPrefix(text, "?")
		p, err := expr.Text(text)
		if err != nil {
			t.Fatal(err)
		}
		a.list = append(a.list, plugin.Expression{Path: "list[" + string(rune('0'+len(a.list))) + "]", Source: p, Sometimes: sometimes})
	}
	return kindOf(name, a)
}

const oneRoute = "routes: [{name: call, service: echo, methods: [demo.echo.v1.Echo/Call], plugins: [%s]}]\n"

// Every expression of a plugin is held against the methods whose calls come to it.
func TestExpressionsAreHeldAgainstMethods(t *testing.T) {
	const noText = `demo.echo.v1.FailRequest has no field "text", which demo.echo.v1.Echo/Fail takes`
	for _, tc := range []struct {
		plugin         string
		texts          []string
		fault, warning string
	}{
		{"{name: asks}", []string{"request.host", "message.text"}, "plugins[0].config.list[1]: it would fail for every call of a method: " + noText, ""},
		{"{name: asks}", []string{"?message.text"}, "", "plugins[0].config.list[0]: it may fail for calls of a method: " + noText},
		{"{name: asks}", []string{"?message.txet"}, "plugins[0].config.list[0]: it would fail for every call that comes to it: ", ""},
		// What keeps calls from the plugin is followed as far as it goes by the method.
		{`{name: asks, when: "rpc.method == 'Call'"}`, []string{"message.text"}, "", ""},
		{`{name: asks, when: "rpc.method != 'Call'"}`, []string{"message.text"}, "list[0]: it would fail for every call", ""},
		{`{name: asks, when: "has(message.text)"}`, []string{"message.text"}, "", ""},
		{`{name: asks, when: "request.path.startsWith('/v1/echo')"}`, []string{"message.text"}, "", "list[0]: it may fail for calls of a method: " + noText},
		{`{name: asks, when: "request.path.startsWith('/v1/echo')"}`, []string{"message.txet"}, `list[0]: it would fail for every call that comes to it: demo.echo.v1.CallRequest has no field "txet"; did you mean "text"?`, ""},
		{`{name: asks, when: "rpc.method == 'Wait' && request.path == '/a'"}`, []string{"message.text"}, "list[0]: it would fail for every call that comes to it: demo.echo.v1.WaitRequest", ""},
		// Each has its own place; a fault of one does not hide that of another.
		{"{name: asks}", []string{"message.txet", "message.code"}, "list[1]", ""},
		{"{name: asks}", []string{"has(message.text) ? message.text : ''"}, "", ""},
	} {
		b, err := newBench(t, document+"plugins: ["+tc.plugin+"]\n", evaluatingKind(t, "asks", tc.texts...))
		if tc.fault == "" && err != nil || tc.fault != "" && (err == nil || !strings.Contains(err.Error(), tc.fault) || !strings.Contains(err.Error(), "fix: ")) {
			t.Errorf("%s %q:\nwant the fault %q\nfound %v", tc.plugin, tc.texts, tc.fault, err)
		}
		if err == nil {
			warned(t, b, tc.plugin+" "+strings.Join(tc.texts, ", "), tc.warning)
		}
	}
}

// warned wants one warning with a text, or none.
func warned(t *testing.T, b *bench, of, want string) {
	t.Helper()
	found := b.gateway.Current().Warnings()
	if want == "" && len(found) > 0 || want != "" && (len(found) != 1 || !strings.Contains(found[0].Error(), want)) {
		t.Errorf("%s:\nwant the warning %q\nfound %v", of, want, found)
	}
}

// Names that expressions compare with are those of something; what is not is most likely misspelt.
func TestNamesInExpressions(t *testing.T) {
	const people = "consumers: [{name: shop, groups: [partners], labels: {tier: gold}, credentials: [{plugin: key}]}, {name: ann}]\n"
	for text, want := range map[string]string{
		"consumer.name == 'shop' || consumer.name == ''": "",
		"consumer.name == 'shp'":                         `there is no consumer "shp"; did you mean "shop"?`,
		"consumer.name != 'shp'":                         `there is no consumer "shp"`,
		"consumer.name in ['shop', 'annn']":              `there is no consumer "annn"; did you mean "ann"?`,
		"'partners' in consumer.groups":                  "",
		"'partner' in consumer.groups":                   `no consumer is in the group "partner"; did you mean "partners"?`,
		"consumer.groups.exists(g, g == 'admins')":       `no consumer is in the group "admins"`,
		"consumer.labels.tier == 'gold'":                 "",
		"consumer.labels.teir != ''":                     `no consumer has the label "teir"; did you mean "tier"?`,
		"consumer.labels['tier'] == 'glod'":              `no consumer's label tier is "glod"; did you mean "gold"?`,
		"rpc.method == 'Call'":                           "",
		"rpc.method == 'Check'":                          "", // of the gateway's own
		"rpc.method == 'Cal'":                            `no call that comes here is one of a method "Cal"; did you mean "Call"?`,
		"rpc.method == 'demo.echo.v1.Echo/Call'":         `did you mean "Call"?`,
		"rpc.service == 'demo.echo.v1.Echo'":             "",
		"rpc.service in ['Echo']":                        `no call that comes here is one of the service "Echo"; did you mean "demo.echo.v1.Echo"?`,
		"request.protocol == 'connect'":                  "",
		"request.protocol == 'REST'":                     `no call has the protocol "REST"; did you mean "rest"?`,
		"request.scheme == 'htps'":                       `no call has the scheme "htps"`,
		"request.headers['X-A'] == 'b'":                  `headers have their names in lower case here, so there is never a "X-A"; did you mean "x-a"?`,
		"metadata['x-a'] == 'B'":                         "",
		"request.host == 'API.example.com'":              `hosts are in lower case here`,
		"route == 'ech'":                                 `there is no route "ech"; did you mean "echo"?`,
		"service != 'orders'":                            `there is no service "orders"`,
	} {
		var made []*keyed
		b, err := newBench(t, document+people+`plugins: [{name: key}, {name: asks, when: "`+text+`"}]`+"\n", keyedKind("key", &made), evaluatingKind(t, "asks"))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		warned(t, b, text, want)
		if want != "" && !strings.Contains(b.gateway.Current().Warnings()[0].Error(), "plugins[1].when: ") {
			t.Errorf("%s: the warning is without its place: %v", text, b.gateway.Current().Warnings())
		}
	}
	// Where only some methods come to it, only these count.
	b := mustBench(t, document+strings.Replace(oneRoute, "%s", `{name: asks, when: "rpc.method == 'Fail'"}`, 1), evaluatingKind(t, "asks"))
	warned(t, b, "on one route", `no call that comes here is one of a method "Fail"`)
	b = mustBench(t, document+"plugins: [{name: asks}]\n", evaluatingKind(t, "asks", "route == 'nope' ? 'a' : 'b'"))
	warned(t, b, "within a plugin", `plugins[0].config.list[0]: there is no route "nope"`)
	b = mustBench(t, document+`plugins: [{name: ends, when: "answer.code == 'NotFound'"}]`+"\n", kindOf("ends", &endsOnly{&order{}}))
	warned(t, b, "of codes", `there is no code "NotFound"; did you mean "NOT_FOUND"?`)
}

// An expression over who calls stands behind whoever finds out.
func TestExpressionsOverWhoCalls(t *testing.T) {
	const shop = "consumers: [{name: shop, credentials: [{plugin: key}]}]\n"
	const when = `, when: "consumer.name == 'shop'"}`
	for plugins, want := range map[string]string{
		"{name: key}, {name: asks" + when:             "",
		"{name: asks" + when + ", {name: key}":        "plugins[0].when: it asks for who calls, and here nobody knows that so far",
		"{name: who}, {name: key}":                    "plugins[0].config.list[0]: it asks for who calls",
		"{name: key" + when + ", {name: key}":         "plugins[0].when: it asks for who calls",
		"{name: ends" + when + ", {name: key}":        "", // it acts at the end, when that is known
		"{name: key}, {name: who}, {name: who" + when: "",
	} {
		var made []*keyed
		_, err := newBench(t, document+shop+"plugins: ["+plugins+"]\n", keyedKind("key", &made), evaluatingKind(t, "asks"), evaluatingKind(t, "who", "consumer.name"), kindOf("ends", &endsOnly{&order{}}))
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "fix: write it behind key")) {
			t.Errorf("%s: want %q, found %v", plugins, want, err)
		}
	}
	b := mustBench(t, document+"plugins: [{name: who}]\n", evaluatingKind(t, "who", "consumer.name"))
	warned(t, b, "nobody finds out", "plugins[0].config.list[0]: it asks for who calls, and nobody finds out here")
	// Nobody does for the methods without a route; but a route has the plugin, too.
	var made []*keyed
	b = mustBench(t, document+shop+strings.Replace(oneRoute, "%s", `{name: key}, {name: asks`+when, 1), keyedKind("key", &made), evaluatingKind(t, "asks"))
	warned(t, b, "on a route", "")
}

// webOnly wants HTTP.
type webOnly struct{ keyed }

func (*webOnly) WithoutHTTP(m *schema.Method) string {
	if strings.HasSuffix(m.Name, "/Fail") {
		return ""
	}
	return "signatures are of requests by HTTP"
}

// A plugin that refuses all that does not come by HTTP is refused where nothing comes so, warned of where something does, and explained.
func TestPluginsThatWantHTTP(t *testing.T) {
	const shop = "consumers: [{name: shop, credentials: [{plugin: key}]}]\n"
	const both, alone = `listen: [{address: "127.0.0.1:0"}, {address: "127.0.0.1:0", protocol: talk}]`, `listen: [{address: "127.0.0.1:0", protocol: talk}]`
	const text = "calls of demo.echo.v1.Echo/Call over talk are refused by web: signatures are of requests by HTTP"
	for _, tc := range []struct{ listen, plugins, fault, warning string }{
		{both, "{name: web}", "", text},
		{alone, "{name: web}", text + ", and there is no other listener", ""},
		{alone, "{any_of: [{name: web}, {name: key}]}", "", ""},
		{both, "{any_of: [{name: web}, {name: key}]}", "", ""},
		{alone, "{any_of: [{name: web}, {name: web}]}", text[:50], ""},
		{both, "{name: web, when: \"request.protocol != 'talk'\"}", "", ""},
		{both, "{name: web, when: \"request.method != ''\"}", "", ""},
		{alone, "{name: web, when: \"request.path == '/a'\"}", "", ""}, // the path is the method's
		{alone, "{name: web, when: \"metadata['x-a'] == 'a'\"}", "", text},
		{both, "{name: web, when: \"rpc.method == 'Fail'\"}", "", ""},
		{`listen: [{address: "127.0.0.1:0"}]`, "{name: web}", "", ""},
	} {
		var made []*keyed
		web := plugin.Kind{Name: "web", Config: keyedKind("web", &made).Config, Credential: keyedKind("web", &made).Config}
		web.New = kindOf("web", &webOnly{keyed{name: "web"}}).New
		doc := strings.Replace(document, `listen: [{address: "127.0.0.1:0"}]`, tc.listen, 1) + shop + "plugins: [" + tc.plugins + "]\n"
		if !strings.Contains(tc.plugins, "key") {
			doc = strings.Replace(doc, shop, "", 1)
		}
		b, err := newBenchOf(t, doc, []rpcadapters.Inlet{&talk{}}, web, keyedKind("key", &made))
		if tc.fault == "" && err != nil || tc.fault != "" && (err == nil || !strings.Contains(err.Error(), tc.fault) || !strings.Contains(err.Error(), "fix: ")) {
			t.Errorf("%s %s:\nwant the fault %q\nfound %v", tc.listen, tc.plugins, tc.fault, err)
		}
		if err != nil {
			continue
		}
		warned(t, b, tc.listen+" "+tc.plugins, tc.warning)
		taken := b.gateway.Current().Explain(proxy.Question{Method: "talk", URL: "/demo.echo.v1.Echo/Call"}).Taken
		if refused := taken != nil && strings.Contains(taken.Fault, "signatures are of requests by HTTP"); refused != (tc.warning != "") {
			t.Errorf("%s %s: explain tells %+v", tc.listen, tc.plugins, taken)
		}
		if tc.listen == both {
			taken = b.gateway.Current().Explain(proxy.Question{Method: "GET", URL: "/v1/echo/x"}).Taken
			if taken == nil || taken.Fault != "" || len(taken.Also) != 1 || (taken.Also[0].Refused != "") != (tc.warning != "") {
				t.Errorf("%s %s: explain tells %+v", tc.listen, tc.plugins, taken)
			}
		}
	}
}
