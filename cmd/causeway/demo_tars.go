package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoregistry"

	tarsadapterv1 "github.com/causeway-gateway/causeway/protos/causeway/adapter/tars/v1"
	ordersv1 "github.com/causeway-gateway/causeway/protos/demo/orders/v1"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/tars"
	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// servantOfOrders is what TARS clients call the order service.
const servantOfOrders = "Demo.Gateway.OrdersObj"

// callTARS runs a step with a TARS client.
func (d *demo) callTARS(ctx context.Context, p *printer, s step) error {
	line := fmt.Sprintf("%s@tcp -h %s   %s(%s)", servantOfOrders, strings.Replace(d.tars, ":", " -p ", 1), s.tars[strings.LastIndexByte(s.tars, '/')+1:], s.body)
	answer, err := askTARS(ctx, d.tars, s.tars, s.body)
	if err == nil && !strings.Contains(answer, s.text) {
		err = fmt.Errorf("want %q in it", s.text)
	}
	if err != nil {
		return fmt.Errorf("%s: %s: %w; the answer was %s", s.title, line, err, answer)
	}
	p.printf("✓ %s\n    %s\n    %s\n\n", s.title, line, clip([]byte(answer)))
	return nil
}

// orderMethod is a method of the orders by its path: "/demo.orders.v1.Orders/GetOrder".
func orderMethod(path string) (*schema.Method, error) {
	files := &protoregistry.Files{}
	if err := files.RegisterFile(ordersv1.File_demo_orders_v1_orders_proto); err != nil {
		return nil, err
	}
	compiled, err := schema.New(files)
	if err != nil {
		return nil, err
	}
	m, ok := compiled.Method(path)
	if !ok {
		return nil, fmt.Errorf("there is no method %s", path)
	}
	return m, nil
}

// askTARS calls a method of the orders by TARS, with request and answer in JSON.
func askTARS(ctx context.Context, address, name, request string) (string, error) {
	m, err := orderMethod(name)
	if err != nil {
		return "", err
	}
	conf := &tarsadapterv1.Options{Servant: servantOfOrders}
	plan, err := tars.Adapter{}.Bind(m, conf)
	if err != nil {
		return "", err
	}
	t, err := tars.Adapter{}.Dial(rpcadapters.Target{Address: address, DialTimeout: time.Second, Config: conf})
	if err != nil {
		return "", err
	}
	defer func() { _ = t.Close() }() // its only call is over
	raw, err := jsonwire.AppendWire(nil, []byte(request), m.Input, &jsonwire.Options{})
	if err != nil {
		return "", err
	}
	var reply rpc.Reply
	defer reply.Reset()
	c := &rpc.Call{Method: m, Plan: plan}
	if err := t.Unary(ctx, c, &rpc.Message{Data: raw}, &reply); err != nil {
		return "", err
	}
	out, err := jsonwire.AppendJSON(nil, reply.Message.Data, m.Output, &jsonwire.Options{})
	return string(out), err
}
