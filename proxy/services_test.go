package proxy_test

import (
	"strings"
	"testing"
)

// A check that can never pass would take every instance out: it is refused with the configuration.
func TestChecksThatCannotPassAreRefused(t *testing.T) {
	for check, want := range map[string]string{
		`{http: {statuses: ["100-199"]}}`: "services[0].health_check.http: want statuses from 200 to 599",
		`{http: {path: "/a b"}}`:          "services[0].health_check.http: want a path",
		`{http: {host: "a b"}}`:           "services[0].health_check.http: want a name for the host",
		`{adapter: {}}`:                   "services[0].health_check.adapter: grpc has nothing to ask instances by",
	} {
		_, err := newBench(t, serviceOf("health_check: "+check))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want a fault with %q, found %v", check, want, err)
		}
	}
	if _, err := newBench(t, serviceOf(`health_check: {http: {path: "/healthz?deep=1", statuses: ["200", "204-299"], host: health.internal}}`)); err != nil {
		t.Errorf("want a check that can pass taken, found %v", err)
	}
}

// A key that no call can have is refused with the configuration; one that some methods have is taken.
func TestKeysThatNoCallHasAreRefused(t *testing.T) {
	for expression, want := range map[string]string{
		"message.customer":           `services[0].balancer.hash.expression: no call of the service has such a key: `,
		"answer.code":                `services[0].balancer.hash.expression: an instance is chosen before there is an answer`,
		"message.text":               "",
		"metadata['x-customer']":     "",
		"has(message.no) ? 'a' : ''": "",
	} {
		_, err := newBench(t, serviceOf(`balancer: {policy: maglev, hash: {expression: "`+expression+`"}}`))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: want a fault with %q, found %v", expression, want, err)
		}
	}
}
