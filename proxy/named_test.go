package proxy_test

import (
	"context"
	"testing"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// A call by the method's name goes to the route that selects the method, through its plugins, and not to one that only has
// an HTTP rule of its own for it, whichever stands first.
func TestNamesGoToTheRouteThatSelects(t *testing.T) {
	const (
		own  = "  - {name: own, service: echo, http: {method: demo.echo.v1.Echo/Call, get: \"/v1/public/{text}\"}}\n"
		all  = "  - {name: all, service: echo, methods: [\"demo.echo.v1.Echo/*\"]}\n"
		team = "  - {name: team, service: echo, http: {method: demo.echo.v1.Echo/Call, get: \"/v1/team/{text}\"}, headers: [{name: x-team, present: true}]}\n"
	)
	for _, tc := range []struct {
		name, routes string
		header       rpc.Metadata
		want         string
	}{
		{"behind one with a rule", own + all, nil, "all"},
		{"before it", all + own, nil, "all"},
		{"without another", own, nil, "own"},
		{"more conditions", all + team, rpc.Metadata{{Key: "x-team", Value: "a"}}, "team"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &spy{name: "outer"}
			b := mustBench(t, document+"plugins: [{name: outer}]\nroutes:\n"+tc.routes, s.kind())
			var took string
			s.handle = func(next rpc.Handler, ctx context.Context, c *rpc.Call) error {
				took = c.Route
				return next.Handle(ctx, c)
			}
			v := b.visit("POST", "/demo.echo.v1.Echo/Call", "", append(tc.header, rpc.Pair{Key: "content-type", Value: "application/proto"})...)
			if v.status != 200 || took != tc.want {
				t.Errorf("want 200 by route %s, found %d by %q: %s", tc.want, v.status, took, v.answer)
			}
		})
	}
}
