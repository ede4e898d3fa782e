package proxy_test

import (
	"strings"
	"testing"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// No other spelling of a path leads to the same route past a plugin with a condition on it.
func TestConditionsOnPathsHoldInEverySpelling(t *testing.T) {
	var made []*keyed
	b := mustBench(t, document+`plugins: [{name: key, when: "request.path.startsWith('/v1/echo/')"}]`+"\n", keyedKind("key", &made))
	for _, path := range []string{"/v1/echo/x", "/v1/%65cho/x", "/%76%31/echo/x", "/v1/e%63%68o/%78"} {
		if v := b.visit("GET", path, ""); v.status != 401 {
			t.Errorf("%s: want 401, found %d %s", path, v.status, v.answer)
		}
	}
}

// A condition over the message refuses what is no message as the message itself would have been.
func TestConditionsOnMessages(t *testing.T) {
	var made []*keyed
	b := mustBench(t, document+`plugins: [{name: key, when: "rpc.method == 'Call' && message.text == 'secret'"}]`+"\n", keyedKind("key", &made))
	for _, tc := range []struct {
		body   string
		status int
		text   string
	}{
		{`{"text": "open"}`, 200, `{"text":"hi"}`},
		{`{"text": "secret"}`, 401, "CREDENTIALS_MISSING"},
		{`{"text": 7}`, 400, "text"},
		{`{`, 400, "INVALID_REQUEST"},
	} {
		v := b.visit("POST", "/v1/echo", tc.body, rpc.Pair{Key: "content-type", Value: "application/json"})
		if v.status != tc.status || !strings.Contains(string(v.answer), tc.text) {
			t.Errorf("%s: want %d %s, found %d %s", tc.body, tc.status, tc.text, v.status, v.answer)
		}
	}
}

// A condition that asks for a field which the requests of a method do not have is refused with the configuration, and doubted where it
// depends on the call.
func TestConditionsOnFieldsThatAreNotThere(t *testing.T) {
	const routes = "routes: [{name: call, service: echo, methods: [demo.echo.v1.Echo/Call], plugins: [{name: key, when: \"%s\"}]}]\n"
	for _, tc := range []struct{ text, fault, warning string }{
		{`plugins: [{name: key, when: "message.text == 'a'"}]`, `demo.echo.v1.FailRequest has no field "text", which demo.echo.v1.Echo/Fail takes`, ""},
		{`plugins: [{name: key, when: "rpc.method == 'Call' && message.text == 'a'"}]`, "", ""},
		{`plugins: [{name: key, when: "has(message.text) && message.text == 'a'"}]`, "", ""},
		{`plugins: [{name: key, when: "request.method == 'PUT' && message.text == 'a'"}]`, "", `demo.echo.v1.FailRequest has no field "text"`},
		{strings.Replace(routes, "%s", "message.text == 'a'", 1), "", ""},
		{strings.Replace(routes, "%s", "message.txet == 'a'", 1), `did you mean "text"?`, ""},
		{strings.Replace(document, "schema: echo,", `schema: echo, plugins: [{name: key, when: "message.code == 5"}],`, 1), `which demo.echo.v1.Echo/Call takes`, ""},
		{`consumers: [{name: shop, plugins: [{name: spy, when: "message.code == 5"}]}]`, `which demo.echo.v1.Echo/Call takes`, ""},
	} {
		text := document + tc.text + "\n"
		if strings.HasPrefix(tc.text, "listen:") {
			text = tc.text
		}
		var made []*keyed
		b, err := newBench(t, text, keyedKind("key", &made), (&spy{name: "spy"}).kind())
		if tc.fault == "" && err != nil || tc.fault != "" && (err == nil || !strings.Contains(err.Error(), tc.fault) || !strings.Contains(err.Error(), ".when: ") || strings.Count(err.Error(), "fix: ") != 1) {
			t.Errorf("%s:\nwant the fault %q\nfound %v", tc.text, tc.fault, err)
		}
		if err != nil {
			continue
		}
		found := b.gateway.Current().Warnings()
		if tc.warning == "" && len(found) > 0 || tc.warning != "" && (len(found) != 1 || !strings.Contains(found[0].Error(), tc.warning)) {
			t.Errorf("%s:\nwant the warning %q\nfound %v", tc.text, tc.warning, found)
		}
	}
}
