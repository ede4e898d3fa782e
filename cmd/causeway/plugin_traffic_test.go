package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/testdata/echo"
)

// metadataOf is what reached the service echo by an inlet, as its answer says; those with answers in binary say nothing.
func metadataOf(t *testing.T, a answer) map[string]string {
	t.Helper()
	m, ok := a.json(t)["metadata"].(map[string]any)
	if !ok {
		t.Fatalf("found %d %s", a.status, a.body)
	}
	out := map[string]string{}
	for k, v := range m {
		out[k], _ = v.(string)
	}
	return out
}

const connectVersion = "Connect-Protocol-Version"

// Metadata and headers are what templates make of the call; who calls cannot be forged by any spelling, with or without the
// condition.
func TestHeaders(t *testing.T) {
	e := startEdge(t, `consumers: [{name: shop, labels: {tier: gold}, credentials: [{plugin: key_auth, config: {key: `+matrixKey+`}}]}]
plugins:
  - any_of: [{name: key_auth}, {name: key_auth, config: {header: x-other-key}}]
  - name: headers
    when: request.headers['x-skip'] != 'yes'
    config:
      request:
        set: {X-User: "{{ consumer.name }}/{{ consumer.labels['tier'] }}", x-path: "{{ request.path }} {{ path['text'] }}", x-empty: "{{ metadata['none'] }}"}
        rename: {x-old: x-new}
        remove: [x-secret]
      response:
        rename: {x-instance: x-served-by}
        remove: [x-cost]
        set: {cache-control: no-store, x-route: "{{ rpc.method }}"}
defaults: {request_headers: [x-user, x_user, x-old, x-secret, x-skip]}
`)
	forged := []string{"X-Api-Key", matrixKey, "X-User", "forged", "X_User", "forged", "x-uSER", "forged", "Grpc-Metadata-X-User", "forged", "X-Consumer-Name", "forged", "X-Old", "o", "X-Secret", "s", "X-Empty", "e"}
	for name, call := range map[string]func(more ...string) answer{
		"REST": func(more ...string) answer { return e.call("GET", "/v1/echo/a%2Fb", "", append(more, forged...)...) },
		"Connect": func(more ...string) answer {
			return e.call("POST", echoCall, `{"text":"a/b"}`, append(append(more, forged...), "Content-Type", "application/json", connectVersion, "1")...)
		},
	} {
		a := call()
		got := metadataOf(t, a)
		want := map[string]string{"x-user": "shop/gold", "x-path": "/v1/echo/a%2Fb a/b", "x-new": "o", "x-consumer-name": "shop"}
		if name == "Connect" {
			want["x-path"] = echoCall
		}
		for k, v := range want {
			if got[k] != v {
				t.Errorf("%s: %s: want %q, found %q", name, k, v, got[k])
			}
		}
		for _, k := range []string{"x_user", "x-old", "x-secret", "x-empty"} {
			if _, ok := got[k]; ok {
				t.Errorf("%s: %s reached the service: %q", name, k, got[k])
			}
		}
		h := a.header
		if h.Get("Cache-Control") != "no-store" || h.Get("X-Route") != "Call" || h.Get("X-Served-By") != "a" || h.Get("X-Instance") != "" || h.Get("Grpc-Metadata-X-Instance") != "" || h.Get("X-Cost") != "" || h.Get("Trailer-X-Cost") != "" || h.Get("Grpc-Trailer-X-Cost") != "" {
			t.Errorf("%s: found %v", name, h)
		}
		past := metadataOf(t, call("X-Skip", "yes"))
		for _, k := range []string{"x-user", "x_user"} {
			if v, ok := past[k]; ok {
				t.Errorf("%s past the plugin: %s reached the service: %q", name, k, v)
			}
		}
		if past["x-consumer-name"] != "shop" {
			t.Errorf("%s past the plugin: x-consumer-name: found %q", name, past["x-consumer-name"])
		}
	}
	// Errors of the service, and answers in pieces, have the headers too.
	for _, path := range []string{"/v1/fail/5", "/v1/rooms/2/messages"} {
		if a := e.call("GET", path, "", "X-Api-Key", matrixKey); a.header.Get("Cache-Control") != "no-store" || a.header.Get("X-Route") == "" {
			t.Errorf("%s: found %d %v", path, a.status, a.header)
		}
	}
	for _, in := range inlets {
		if got := in.ask(t.Context(), t, e.gatewayTest, head{"x-api-key": matrixKey}); got.code != codes.OK || in.http() && got.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: found %s %v", in.name, got, got.header)
		}
	}
}

func TestRedirect(t *testing.T) {
	e := startEdge(t, `routes:
  - {name: old, service: echo, methods: [demo.echo.v1.Echo/Call], plugins: [{name: redirect, config: {to: "https://new.example.com/v2/{{ path['text'] }}", status: 307}}]}
  - {name: moved, service: echo, methods: [demo.echo.v1.Echo/Fail], plugins: [{name: redirect, config: {path: {regex: "/v1/fail/(.*)", to: "/v2/fail/{1}"}}}]}
`)
	e.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for path, want := range map[string]string{
		"/v1/echo/a%0D%0Ab":       "400", // no control character passes the edge
		"/v1/echo/a%22%20b%2F%3F": "307 https://new.example.com/v2/a%22%20b/?",
		"/v1/echo/x?number=1":     "307 https://new.example.com/v2/x?number=1",
		"/v1/fail/5":              "302 /v2/fail/5",
	} {
		a := e.call("GET", path, "")
		if got := strings.TrimSpace(fmt.Sprint(a.status, " ", a.header.Get("Location"))); got != want {
			t.Errorf("%s: want %s, found %s %s", path, want, got, a.body)
		}
	}
	for _, in := range inlets[1:4] {
		if got := in.ask(t.Context(), t, e.gatewayTest, head{}); got.code != codes.FailedPrecondition {
			t.Errorf("%s: found %s", in.name, got)
		}
	}
	if e.hits() != 0 {
		t.Error("a service was reached")
	}
}

// Calls and streams go where the rules say, and a reload moves them.
func TestTrafficSplit(t *testing.T) {
	a, b := echo.Start(t, "127.0.0.1:0", "a"), echo.Start(t, "127.0.0.1:0", "b")
	chatA, chatB := startChat(t), startChat(t)
	dir := t.TempDir()
	text := func(share string) string {
		return inletsConfig(t, a.Address, chatA.address, `routes:
  - {name: echo, service: echo, methods: ["demo.echo.v1.Echo/*"], plugins: [{name: traffic_split, config: {rules: [{headers: {x-canary: "1"}, services: [{service: echo-b}]}, `+share+`]}}]}
  - {name: chat, service: chat, methods: ["demo.chat.v1.Chat/*"], plugins: [{name: traffic_split, config: {rules: [{headers: {x-canary: "1"}, services: [{service: chat-b}]}]}}]}
`)
	}
	write := func(share string) string {
		return strings.Replace(text(share), "routes:\n", "  - {name: echo-b, schema: echo, endpoints: [{address: "+b.Address+"}]}\n  - {name: chat-b, schema: chat, endpoints: [{address: "+chatB.address+"}]}\nroutes:\n", 1)
	}
	g, err := tryGateway(t, dir, write("{services: [{service: echo-b, weight: 0}, {service: echo}]}"))
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range inlets {
		before := b.Calls.Load() + chatB.calls.Load()
		if got := in.ask(t.Context(), t, g, head{"x-canary": "1"}); got.code != codes.OK || b.Calls.Load()+chatB.calls.Load() != before+1 {
			t.Errorf("%s with the header: found %s", in.name, got)
		}
		if got := in.ask(t.Context(), t, g, head{}); got.code != codes.OK || b.Calls.Load()+chatB.calls.Load() != before+1 {
			t.Errorf("%s without the header: found %s", in.name, got)
		}
	}
	g.write(write("{services: [{service: echo-b, weight: 3}, {service: echo, weight: 0}], sticky: address}"))
	waitFor(t, "all calls at b", func() bool { return g.call("GET", "/v1/echo/x", "").text(t, "instance") == "b" })
}

// A mirror gets copies of what the calls were, and nothing that it does is felt: not when it fails, hangs, or is not there.
func TestMirror(t *testing.T) {
	t.Parallel()
	e := startEdge(t, "")
	copies := echo.Start(t, "127.0.0.1:0", "copies")
	dead, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dead.Close() }) // it takes connections and says nothing
	config := func(address string) string {
		text := inletsConfig(t, e.echo.Address, e.chat.address, "plugins: [{name: mirror, config: {service: copies, timeout: 60s}}, {name: metrics}]\nadmin: {address: \"127.0.0.1:0\"}\n")
		return strings.Replace(text, "plugins:", "  - {name: copies, for_plugins: true, endpoints: [{address: "+address+"}]}\nplugins:", 1)
	}
	g := startGateway(t, config(copies.Address))
	for i, in := range slices.Concat(inlets[:4], inlets[5:]) {
		if got := in.ask(t.Context(), t, g, head{"x-causeway-mirror": "forged"}); got.code != codes.OK {
			t.Errorf("%s: found %s", in.name, got)
		}
		waitFor(t, "the copy of a call by "+in.name, func() bool { return copies.Calls.Load() == int64(i+1) })
	}
	if m := metadataOf(t, g.call("GET", "/v1/echo/x", "", "X-Causeway-Mirror", "forged", "Grpc-Metadata-X-Causeway-Mirror", "forged")); m["x-causeway-mirror"] != "" {
		t.Errorf("want no call to look like a copy, found %v", m)
	}
	if a := g.call("GET", "/v1/rooms/2/messages", ""); a.status != 200 {
		t.Errorf("a stream: found %d", a.status)
	}
	before := e.hits()
	if a := g.call("GET", "/v1/fail/5", ""); a.status != 404 || e.hits() != before+1 {
		t.Errorf("a call that fails: found %d", a.status)
	}
	waitFor(t, "the copies and the stream counted", func() bool {
		m := g.control("GET", "/metrics", nil).body
		return strings.Contains(m, `causeway_mirror_copies_total{result="ok",service="copies"} 7`) && strings.Contains(m, `causeway_mirror_copies_total{result="stream",service="copies"} 1`) &&
			strings.Contains(m, `causeway_mirror_copies_total{result="error",service="copies"} 1`)
	})
	for name, address := range map[string]string{"hanging": dead.Addr().String(), "absent": "127.0.0.1:1"} {
		t.Run(name, func(t *testing.T) {
			g := startGateway(t, config(address))
			start := time.Now()
			for range 50 {
				if a := g.call("GET", "/v1/echo/x", ""); a.status != 200 {
					t.Fatalf("found %d %s", a.status, a.body)
				}
			}
			if took := time.Since(start); took > 20*time.Second { // 50 copies that hang take 3,000 s
				t.Errorf("50 calls took %s", took)
			}
			g.end() // with copies under way
		})
	}
}

// A delay ends with the call's time, an abort is what it says by every protocol.
func TestFaultInjection(t *testing.T) {
	t.Parallel()
	e := startEdge(t, `plugins:
  - {name: fault_injection, config: {delay: {duration: 600s}}, when: "request.headers['x-slow'] == '1'"}
  - {name: fault_injection, config: {abort: {code: DATA_LOSS}}, when: "request.headers['x-slow'] != '1'"}
defaults: {timeout: 0.2s, stream: {max_age: 0.2s}}
`)
	e.every(t, "an abort", head{}, codes.DataLoss)
	e.every(t, "a delay", head{"x-slow": "1"}, codes.DeadlineExceeded)
	// A caller that leaves ends it too.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, e.url+"/v1/echo/x", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Slow", "1")
	if resp, err := e.client.Do(r); err == nil {
		_ = resp.Body.Close()
		t.Errorf("found %d", resp.StatusCode)
	}
}

// Faults of plugins stand where they are in the file.
func TestPluginFaultPositions(t *testing.T) {
	for _, tc := range []struct{ plugins, want string }{
		{"- {name: headers, config: {request: {set: {x-a: v, X-B: \"{{ nobody }}\"}}}}", "plugins[0].config.request.set[\"X-B\"]: \"nobody\": column 1 of the expression: undeclared reference to 'nobody'"},
		{"- {name: uri_blocker, config: {paths: [a, \"(\"]}}", "plugins[0].config.paths[1]: \"(\": error parsing regexp: missing closing ): `(`"},
		{"- {name: security_headers, when: \"true\"}", "plugin \"security_headers\" acts on every answer of its routes"},
		{"- {name: mirror, config: {service: ecoh}}", "there is no service \"ecoh\"; did you mean \"echo\"?"},
		{"- {name: traffic_split, config: {rules: [{services: [{service: chat}]}]}}", "service \"chat\" does not serve demo.echo.v1.Echo/"},
		{"- {name: key_auth}\n  - {name: acl, config: {allow: {consumers: [shop]}, deny: {consumers: [eev]}}}\nconsumers: [{name: shop}, {name: eve}]", "plugins[1].config.deny.consumers[0]: there is no consumer \"eev\"; did you mean \"eve\"?"},
		{"- {name: key_auth}\n  - {name: traffic_split, config: {rules: [{consumers: [shop], services: [{service: echo}]}]}}", "plugins[1].config.rules[0].consumers[0]: there is no consumer \"shop\""},
		{"- {name: limit_count, config: {count: 1, window: 1s, key: {expression: message.text}}}", "plugins[0].config.key.expression: it would fail for every call of a method: "},
		{"- {name: headers, config: {request: {set: {x-a: \"{{ message.text }}\"}}}}", "plugins[0].config.request.set[\"x-a\"]: it would fail for every call of a method: "},
		{"- {name: adaptive_concurrency, config: {classes: [{name: a, when: message.text == 'a'}]}}", "plugins[0].config.classes[0].when: it would fail for every call of a method: "},
		{"- {name: access_log, config: {output: DIR/access.log}, when: message.text == 'a'}", "plugins[0].when: `message` is not there any more when plugin \"access_log\" acts, at the end of calls"},
		{"- {name: csrf, config: {token: {secrets: [canary-of-a-secret]}}}", "plugins[0].config.token.secrets[0]: wanted 32 bytes or more, found 18"},
	} {
		_, err := tryGateway(t, t.TempDir(), inletsConfig(t, "127.0.0.1:1", "127.0.0.1:1", "plugins:\n  "+tc.plugins+"\n"))
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "causeway.yaml:") || !strings.Contains(err.Error(), "plugins[") {
			t.Errorf("%s:\nwant %s\nfound %v", tc.plugins, tc.want, err)
		}
		if err != nil && strings.Contains(err.Error(), "canary-of-a-secret") {
			t.Errorf("a secret is shown: %v", err)
		}
	}
}
