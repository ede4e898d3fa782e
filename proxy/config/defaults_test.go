package config_test

import (
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/proxy/config"
)

// A route that says something of its streams takes over what it does not say, key by key.
func TestRoutesTakeOverStreamOptions(t *testing.T) {
	const head = `listen: [{address: "127.0.0.1:0"}]
schemas: [{name: a, descriptor_set: a.binpb}]
services: [{name: a, schema: a, endpoints: [{address: "a:1"}]}]
defaults: {stream: {idle_timeout: 7s, max_age: 60s}}
routes: [{name: r, service: a, methods: ["a.A/*"]`
	for _, tc := range []struct {
		stream    string
		idle, age time.Duration
	}{
		{"", 7 * time.Second, time.Minute},
		{", stream: {idle_timeout: 3s}", 3 * time.Second, time.Minute},
		{", stream: {max_age: 3s}", 7 * time.Second, 3 * time.Second},
	} {
		doc, err := config.Parse("causeway.yaml", []byte(head+tc.stream+"}]\n"), config.Types{})
		if err != nil {
			t.Fatal(err)
		}
		s := doc.Config.GetRoutes()[0].GetStream()
		if idle, age := s.GetIdleTimeout().AsDuration(), s.GetMaxAge().AsDuration(); idle != tc.idle || age != tc.age {
			t.Errorf("%q: want %s and %s, found %s and %s", tc.stream, tc.idle, tc.age, idle, age)
		}
	}
}
