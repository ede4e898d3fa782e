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
	b := mustBench(t, document+`plugins: [{name: key, when: "message.text == 'secret'"}]`+"\n", keyedKind("key", &made))
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
