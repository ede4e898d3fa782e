package proxy_test

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	metricsv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/metrics/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// rulesAsker is a plugin that asks the service rules before each call.
func rulesAsker() plugin.Kind {
	var service plugin.Service
	s := &spy{name: "asks"}
	kind := s.kind()
	kind.Config = func() proto.Message { return &metricsv1.Metrics{} }
	made := kind.New
	kind.New = func(m proto.Message, env plugin.Env) (plugin.Plugin, error) {
		service = env.Service("rules")
		return made(m, env)
	}
	s.handle = func(next rpc.Handler, ctx context.Context, c *rpc.Call) error {
		var out rpc.Reply
		defer out.Reset()
		if err := service.Unary(ctx, &rpc.Call{Method: c.Method}, &rpc.Message{}, &out); err != nil {
			return err
		}
		return next.Handle(ctx, c)
	}
	return kind
}

// What a plugin asks of a service goes to another instance where surely nobody has run it, as calls do; else it is not asked twice.
func TestServicesOfPluginsSurviveAnInstance(t *testing.T) {
	b := mustBench(t, strings.Replace(document, "services: [", `services: [{name: rules, for_plugins: true, outliers: {off: true}, retry: {budget: 1}, endpoints: [{address: "p:1"}, {address: "p:2"}]}, `, 1)+
		"plugins: [{name: asks}]\n", rulesAsker())
	end, asked := unreached, map[string]int{}
	b.at = func(_ context.Context, address string, _ *rpc.Call, out *rpc.Reply) error {
		asked[address]++
		if address == "p:1" {
			return end
		}
		hello(out)
		return nil
	}
	for range 4 {
		if v := b.visit("POST", write, ""); v.status != 200 {
			t.Errorf("want the instance asked that is there, found %d %s", v.status, v.answer)
		}
	}
	end, asked = torn, map[string]int{}
	for range 4 {
		b.visit("POST", write, "")
	}
	if asked["p:1"]+asked["p:2"] != 4 {
		t.Errorf("want what may have been executed asked once, found %v", asked)
	}
}

// The breaker of a service bounds what plugins ask of it too.
func TestBreakerBoundsWhatPluginsAsk(t *testing.T) {
	b := mustBench(t, strings.Replace(document, "services: [", `services: [{name: rules, for_plugins: true, outliers: {off: true}, breaker: {failure_rate: 0.5, min_calls: 10, open: 60s}, endpoints: [{address: "p:1"}]}, `, 1)+
		"plugins: [{name: asks}]\n", rulesAsker())
	asked := 0
	b.at = func(context.Context, string, *rpc.Call, *rpc.Reply) error { asked++; return torn }
	for range 200 {
		b.visit("POST", write, "")
	}
	v := b.visit("POST", write, "")
	if asked < 10 || asked > 150 || v.status != 503 || !strings.Contains(string(v.answer), "BREAKER_OPEN") {
		t.Errorf("want what is asked refused while the service fails, found %d calls of 200, %d %s", asked, v.status, v.answer)
	}
	for _, sv := range b.gateway.Services() {
		if sv.Service == "rules" && sv.Breaker.Inside != 0 {
			t.Errorf("want nothing left inside, found %d", sv.Breaker.Inside)
		}
	}
}
