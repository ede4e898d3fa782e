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

// What a plugin asks of a service goes to another instance where surely nobody has run it, as calls do; else it is not asked twice.
func TestServicesOfPluginsSurviveAnInstance(t *testing.T) {
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
	b := mustBench(t, strings.Replace(document, "services: [", `services: [{name: rules, for_plugins: true, outliers: {off: true}, retry: {budget: 1}, endpoints: [{address: "p:1"}, {address: "p:2"}]}, `, 1)+
		"plugins: [{name: asks}]\n", kind)
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
