package orders

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	ordersv1 "github.com/causeway-gateway/causeway/protos/demo/orders/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func noon() time.Time { return time.Date(2026, time.March, 1, 12, 0, 0, 5, time.UTC) }

// dial starts the service on a port of its own and returns a client of it.
func dial(t *testing.T) (ordersv1.OrdersClient, *Server) {
	t.Helper()
	s := New(WithClock(noon))
	g := grpc.NewServer()
	s.Register(g)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- g.Serve(l) }()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		g.GracefulStop()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		if err := conn.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return ordersv1.NewOrdersClient(conn), s
}

// equal compares messages.
func equal(t *testing.T, what string, got, want proto.Message) {
	t.Helper()
	if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// refused checks code, text and details of an error.
func refused(t *testing.T, err error, code codes.Code, text string, details ...proto.Message) {
	t.Helper()
	st, ok := status.FromError(err)
	if !ok || st.Code() != code || !strings.Contains(st.Message(), text) {
		t.Fatalf("got %v, want %v with %q", err, code, text)
	}
	var got []proto.Message
	for _, d := range st.Details() {
		got = append(got, d.(proto.Message))
	}
	if d := cmp.Diff(details, got, protocmp.Transform()); d != "" {
		t.Errorf("details (-want +got):\n%s", d)
	}
}

// bad is a BadRequest of pairs of field and description.
func bad(pairs ...string) *errdetails.BadRequest {
	b := &errdetails.BadRequest{}
	for i := 0; i < len(pairs); i += 2 {
		b.FieldViolations = append(b.FieldViolations, violation(pairs[i], "%s", pairs[i+1]))
	}
	return b
}

func missing(name string) []proto.Message {
	return []proto.Message{
		&errdetails.ResourceInfo{ResourceType: "demo.orders.v1.Order", ResourceName: name, Description: "no such order"},
		&errdetails.ErrorInfo{Reason: "ORDER_NOT_FOUND", Domain: "orders.demo", Metadata: map[string]string{"name": name}},
	}
}

func wrong(name, state string) *errdetails.PreconditionFailure {
	return &errdetails.PreconditionFailure{Violations: []*errdetails.PreconditionFailure_Violation{
		{Type: "STATE", Subject: name, Description: "the order is " + state},
	}}
}

func names(orders []*ordersv1.Order) string {
	var all []string
	for _, o := range orders {
		all = append(all, strings.TrimPrefix(o.GetName(), "orders/"))
	}
	return strings.Join(all, " ")
}

func TestSeedIsTheSameEachTimeAndCoversTheShapes(t *testing.T) {
	first, second := seed(), seed()
	states := map[ordersv1.State]bool{}
	arms := map[string]bool{}
	for i, o := range first {
		equal(t, "second seed", second[i], o)
		checked := proto.CloneOf(o)
		if faults := complete(checked); len(faults) > 0 {
			t.Errorf("seed %d would be refused: %v", i, faults)
		}
		equal(t, "prices and total", o, checked)
		states[o.GetState()] = true
		switch o.GetDelivery().(type) {
		case *ordersv1.Order_Address:
			arms["address"] = true
		case *ordersv1.Order_PickupShop:
			arms["pickup"] = true
		}
	}
	if len(first) != 3 || len(states) != 3 || len(arms) != 2 {
		t.Errorf("got %d orders, states %v, deliveries %v; want 3 orders, 3 states, both deliveries", len(first), states, arms)
	}
	if got := first[0].GetTotalCents(); got != 2*1290+1250 {
		t.Errorf("total of orders/1 is %d", got)
	}
}

func TestGetOrder(t *testing.T) {
	c, _ := dial(t)
	want := seed()[0]
	want.Name = "orders/1"
	for _, customer := range []string{"", "ada"} {
		got, err := c.GetOrder(t.Context(), &ordersv1.GetOrderRequest{Name: "orders/1", Customer: customer})
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "order of "+customer, got, want)
	}
	_, err := c.GetOrder(t.Context(), &ordersv1.GetOrderRequest{Name: "orders/1", Customer: "grace"})
	refused(t, err, codes.NotFound, `order "orders/1" not found`, missing("orders/1")...)
	_, err = c.GetOrder(t.Context(), &ordersv1.GetOrderRequest{Name: "orders/99"})
	refused(t, err, codes.NotFound, `order "orders/99" not found`, missing("orders/99")...)
	for _, name := range []string{"", "orders/", "books/1", "orders/1/items"} {
		_, err = c.GetOrder(t.Context(), &ordersv1.GetOrderRequest{Name: name})
		refused(t, err, codes.InvalidArgument, "name: want orders/NUMBER", bad("name", `want orders/NUMBER, found "`+name+`"`))
	}
}

func TestCreateOrder(t *testing.T) {
	c, _ := dial(t)
	req := &ordersv1.CreateOrderRequest{
		RequestId: "r-1",
		Order: &ordersv1.Order{
			Name: "orders/1", State: ordersv1.State_SHIPPED, TotalCents: 1, Created: timestamppb.New(time.Unix(1, 0)),
			Customer: "linus",
			Items:    []*ordersv1.Item{{Sku: "mug", Quantity: 2, PriceCents: 1, Tags: []string{"blue"}}, {Sku: "teahouse", Quantity: 1}},
			Labels:   map[string]string{"a": "b"},
			Delivery: &ordersv1.Order_PickupShop{PickupShop: 3},
		},
	}
	want := &ordersv1.Order{
		Name: "orders/4", State: ordersv1.State_PLACED, Customer: "linus", Created: timestamppb.New(noon()),
		Items: []*ordersv1.Item{
			{Sku: "mug", Quantity: 2, PriceCents: 1250, Tags: []string{"blue"}},
			{Sku: "teahouse", Quantity: 1, PriceCents: 9007199254740993},
		},
		Labels: map[string]string{"a": "b"}, TotalCents: 9007199254743493,
		Delivery: &ordersv1.Order_PickupShop{PickupShop: 3}, DeliveryTime: durationpb.New(2 * time.Hour),
	}
	for _, round := range []string{"first", "repeated"} {
		got, err := c.CreateOrder(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, round, got, want)
	}
	got, err := c.GetOrder(t.Context(), &ordersv1.GetOrderRequest{Name: "orders/4"})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "stored", got, want)

	other := proto.CloneOf(req)
	other.Order.Customer = "ken"
	_, err = c.CreateOrder(t.Context(), other)
	refused(t, err, codes.AlreadyExists, `request_id "r-1" was used for another order, orders/4`,
		&errdetails.ErrorInfo{Reason: "REQUEST_ID_REUSED", Domain: "orders.demo", Metadata: map[string]string{"name": "orders/4"}})

	for _, number := range []string{"orders/5", "orders/6"} { // without an id each call is an order
		other.RequestId = ""
		got, err := c.CreateOrder(t.Context(), other)
		if err != nil || got.GetName() != number {
			t.Errorf("got %v and %v, want %s", got, err, number)
		}
	}
}

func TestCreateOrderNamesEveryFault(t *testing.T) {
	c, _ := dial(t)
	for _, tc := range []struct {
		name  string
		order *ordersv1.Order
		want  *errdetails.BadRequest
	}{
		{"none", nil, bad("order", "want an order, found none")},
		{"empty", &ordersv1.Order{}, bad("order.customer", "want the name of a customer, found none", "order.items", "want one item or more, found none")},
		{
			"items", &ordersv1.Order{Customer: "a", Items: []*ordersv1.Item{{Sku: "mugs", Quantity: 1}, {Sku: "mug"}, {Sku: "spaceship", Quantity: 1}}},
			bad("order.items[0].sku", `unknown SKU "mugs"; did you mean "mug"?`, "order.items[1].quantity", "want 1 or more, found 0", "order.items[2].sku", `unknown SKU "spaceship"`),
		},
		{
			"total", &ordersv1.Order{Customer: "a", Items: []*ordersv1.Item{{Sku: "teahouse", Quantity: 1000}, {Sku: "teahouse", Quantity: 24}}},
			bad("order.items[1].quantity", "the total of the order exceeds 9223372036854775807 cents"),
		},
		{
			"address", &ordersv1.Order{Customer: "a", Items: []*ordersv1.Item{{Sku: "mug", Quantity: 1}}, Delivery: &ordersv1.Order_Address{}},
			bad("order.address.city", "want a city, found none"),
		},
		{
			"shop", &ordersv1.Order{Customer: "a", Items: []*ordersv1.Item{{Sku: "mug", Quantity: 1}}, Delivery: &ordersv1.Order_PickupShop{PickupShop: -1}, DeliveryTime: durationpb.New(-time.Second)},
			bad("order.pickup_shop", "want the number of a shop, found -1", "order.delivery_time", "want a duration of 0 s or more, found -1 s and 0 ns"),
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := c.CreateOrder(t.Context(), &ordersv1.CreateOrderRequest{Order: tc.order})
			refused(t, err, codes.InvalidArgument, tc.want.GetFieldViolations()[0].GetDescription(), tc.want)
		})
	}
	resp, err := c.ListOrders(t.Context(), &ordersv1.ListOrdersRequest{})
	if err != nil || names(resp.GetOrders()) != "3 2 1" {
		t.Errorf("got %v and %v, want the seeded orders only", resp, err)
	}
}

func TestListOrders(t *testing.T) {
	c, _ := dial(t)
	at := func(i int) *timestamppb.Timestamp { return seed()[i-1].GetCreated() }
	for _, tc := range []struct {
		name string
		req  *ordersv1.ListOrdersRequest
		want string
	}{
		{"all", &ordersv1.ListOrdersRequest{}, "3 2 1"},
		{"one state", &ordersv1.ListOrdersRequest{States: []ordersv1.State{ordersv1.State_SHIPPED}}, "2"},
		{"two states", &ordersv1.ListOrdersRequest{States: []ordersv1.State{ordersv1.State_PLACED, ordersv1.State_CANCELLED}}, "3 1"},
		{"customer", &ordersv1.ListOrdersRequest{Filter: &ordersv1.ListOrdersRequest_Filter{Customer: "ada"}}, "3 1"},
		{"created after", &ordersv1.ListOrdersRequest{Filter: &ordersv1.ListOrdersRequest_Filter{CreatedAfter: at(1)}}, "3 2"},
		{"created after a nanosecond less", &ordersv1.ListOrdersRequest{Filter: &ordersv1.ListOrdersRequest_Filter{CreatedAfter: timestamppb.New(at(2).AsTime().Add(-1))}}, "3 2"},
		{"all filters", &ordersv1.ListOrdersRequest{States: []ordersv1.State{ordersv1.State_CANCELLED}, Filter: &ordersv1.ListOrdersRequest_Filter{Customer: "ada", CreatedAfter: at(2)}}, "3"},
		{"nobody", &ordersv1.ListOrdersRequest{Filter: &ordersv1.ListOrdersRequest_Filter{Customer: "nobody"}}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			resp, err := c.ListOrders(t.Context(), tc.req)
			if err != nil {
				t.Fatal(err)
			}
			if got := names(resp.GetOrders()); got != tc.want || resp.GetNextPageToken() != "" {
				t.Errorf("got orders %q and token %q, want %q and none", got, resp.GetNextPageToken(), tc.want)
			}
		})
	}
}

func TestListOrdersPages(t *testing.T) {
	c, _ := dial(t)
	create := func() {
		t.Helper()
		if _, err := c.CreateOrder(t.Context(), &ordersv1.CreateOrderRequest{Order: &ordersv1.Order{Customer: "ada", Items: []*ordersv1.Item{{Sku: "mug", Quantity: 1}}}}); err != nil {
			t.Fatal(err)
		}
	}
	for range 22 {
		create()
	}
	req := &ordersv1.ListOrdersRequest{}
	first, err := c.ListOrders(t.Context(), req)
	if err != nil || len(first.GetOrders()) != defaultPageSize || first.GetNextPageToken() == "" {
		t.Fatalf("got %d orders, token %q, %v; want %d and a token", len(first.GetOrders()), first.GetNextPageToken(), err, defaultPageSize)
	}
	create() // an order that comes in between moves no page
	req.PageToken, req.PageSize = first.GetNextPageToken(), 4
	second, err := c.ListOrders(t.Context(), req)
	if err != nil || names(second.GetOrders()) != "5 4 3 2" {
		t.Fatalf("got %q and %v, want 5 4 3 2", names(second.GetOrders()), err)
	}
	req.PageToken = second.GetNextPageToken()
	last, err := c.ListOrders(t.Context(), req)
	if err != nil || names(last.GetOrders()) != "1" || last.GetNextPageToken() != "" {
		t.Fatalf("got %q, token %q, %v; want 1 and no token", names(last.GetOrders()), last.GetNextPageToken(), err)
	}

	req.States = []ordersv1.State{ordersv1.State_PLACED}
	_, err = c.ListOrders(t.Context(), req)
	refused(t, err, codes.InvalidArgument, "page_token", bad("page_token", "this token was made for other states or another filter; start again without it"))
	_, err = c.ListOrders(t.Context(), &ordersv1.ListOrdersRequest{
		PageSize: 101, PageToken: "!", States: []ordersv1.State{0, 9},
		Filter: &ordersv1.ListOrdersRequest_Filter{CreatedAfter: &timestamppb.Timestamp{Seconds: -1 << 40}},
	})
	refused(t, err, codes.InvalidArgument, "(and 4 more)", bad(
		"page_size", "want 1 to 100, or 0 for 20; found 101",
		"page_token", `want the next_page_token of an earlier answer, found "!"`,
		"states[0]", "want PLACED, SHIPPED or CANCELLED, found STATE_UNSPECIFIED",
		"states[1]", "want PLACED, SHIPPED or CANCELLED, found 9",
		"filter.created_after", "want a time between the years 1 and 9999, found -1099511627776 seconds",
	))
}

func TestCancelOrder(t *testing.T) {
	c, _ := dial(t)
	want := seed()[0]
	want.Name, want.State = "orders/1", ordersv1.State_CANCELLED
	want.Labels["cancel-reason"] = "too late"
	for _, reason := range []string{"too late", "asked again"} {
		got, err := c.CancelOrder(t.Context(), &ordersv1.CancelOrderRequest{Name: "orders/1", Reason: reason})
		if err != nil {
			t.Fatal(err)
		}
		equal(t, reason, got, want)
	}
	_, err := c.CancelOrder(t.Context(), &ordersv1.CancelOrderRequest{Name: "orders/2"})
	refused(t, err, codes.FailedPrecondition, `order "orders/2" cannot be cancelled: it has been shipped`, wrong("orders/2", "SHIPPED"))
	_, err = c.CancelOrder(t.Context(), &ordersv1.CancelOrderRequest{Name: "orders/9"})
	refused(t, err, codes.NotFound, "not found", missing("orders/9")...)
}

func TestDeleteOrder(t *testing.T) {
	c, _ := dial(t)
	if _, err := c.DeleteOrder(t.Context(), &ordersv1.DeleteOrderRequest{Name: "orders/3"}); err != nil {
		t.Fatal(err)
	}
	_, err := c.DeleteOrder(t.Context(), &ordersv1.DeleteOrderRequest{Name: "orders/3"})
	refused(t, err, codes.NotFound, `order "orders/3" not found`, missing("orders/3")...)
	got, err := c.CreateOrder(t.Context(), &ordersv1.CreateOrderRequest{Order: &ordersv1.Order{Customer: "ada", Items: []*ordersv1.Item{{Sku: "mug", Quantity: 1}}}})
	if err != nil || got.GetName() != "orders/4" {
		t.Errorf("got %v and %v, want orders/4: a number is given once", got, err)
	}
}

func TestQuote(t *testing.T) {
	c, _ := dial(t)
	got, err := c.Quote(t.Context(), &ordersv1.QuoteRequest{Items: []*ordersv1.Item{{Sku: "mug", Quantity: 3}, {Sku: "tea-500g", Quantity: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "quote", got, &ordersv1.QuoteResponse{TotalCents: 5040, Prices: map[string]int64{"mug": 1250, "tea-500g": 1290}})
	_, err = c.Quote(t.Context(), &ordersv1.QuoteRequest{Items: []*ordersv1.Item{{Sku: "mug", Quantity: 3}, {Sku: "ketle", Quantity: 1}}})
	refused(t, err, codes.InvalidArgument, `items[1].sku: unknown SKU "ketle"; did you mean "kettle"?`, bad("items[1].sku", `unknown SKU "ketle"; did you mean "kettle"?`))
	_, err = c.Quote(t.Context(), &ordersv1.QuoteRequest{})
	refused(t, err, codes.InvalidArgument, "items: want one item or more", bad("items", "want one item or more, found none"))
}

func TestUpdateOrder(t *testing.T) {
	berlin := &ordersv1.Order_Address{Address: &ordersv1.Address{Street: "Torstraße 1", City: "Berlin", Country: "DE"}}
	for _, tc := range []struct {
		name  string
		order *ordersv1.Order
		mask  []string
		want  func(*ordersv1.Order)
	}{
		{"one field", &ordersv1.Order{Customer: "bob", Labels: map[string]string{"x": "y"}}, []string{"customer"}, func(o *ordersv1.Order) { o.Customer = "bob" }},
		{"cleared", &ordersv1.Order{}, []string{"labels"}, func(o *ordersv1.Order) { o.Labels = nil }},
		{"inside the address", &ordersv1.Order{Delivery: berlin}, []string{"address.city", "address.country"}, func(o *ordersv1.Order) {
			o.GetAddress().City, o.GetAddress().Country = "Berlin", "DE"
		}},
		{"other side of the oneof", &ordersv1.Order{Delivery: &ordersv1.Order_PickupShop{PickupShop: 2}}, []string{"address", "pickup_shop"}, func(o *ordersv1.Order) {
			o.Delivery = &ordersv1.Order_PickupShop{PickupShop: 2}
		}},
		{"items are priced again", &ordersv1.Order{Items: []*ordersv1.Item{{Sku: "kettle", Quantity: 2}}}, []string{"items"}, func(o *ordersv1.Order) {
			o.Items, o.TotalCents = []*ordersv1.Item{{Sku: "kettle", Quantity: 2, PriceCents: 4999}}, 9998
		}},
		{"shipped", &ordersv1.Order{State: ordersv1.State_SHIPPED}, []string{"state"}, func(o *ordersv1.Order) { o.State = ordersv1.State_SHIPPED }},
		{"no mask: what is set, without what the server gives", &ordersv1.Order{Customer: "bob", TotalCents: 1, Created: timestamppb.New(noon())}, nil, func(o *ordersv1.Order) { o.Customer = "bob" }},
		{"everything", &ordersv1.Order{Customer: "bob", Items: []*ordersv1.Item{{Sku: "mug", Quantity: 1}}, Delivery: berlin, DeliveryTime: durationpb.New(time.Hour)}, []string{"*"}, func(o *ordersv1.Order) {
			o.Customer, o.Labels, o.Delivery, o.DeliveryTime = "bob", nil, berlin, durationpb.New(time.Hour)
			o.Items, o.TotalCents = []*ordersv1.Item{{Sku: "mug", Quantity: 1, PriceCents: 1250}}, 1250
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, _ := dial(t)
			tc.order.Name = "orders/1"
			req := &ordersv1.UpdateOrderRequest{Order: tc.order}
			if tc.mask != nil {
				req.UpdateMask = &fieldmaskpb.FieldMask{Paths: tc.mask}
			}
			got, err := c.UpdateOrder(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			want := seed()[0]
			want.Name = "orders/1"
			tc.want(want)
			equal(t, "answer", got, want)
			stored, err := c.GetOrder(t.Context(), &ordersv1.GetOrderRequest{Name: "orders/1"})
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "stored", stored, want)
		})
	}
}

func TestUpdateOrderRefuses(t *testing.T) {
	for _, tc := range []struct {
		name    string
		order   *ordersv1.Order
		mask    []string
		code    codes.Code
		text    string
		details []proto.Message
	}{
		{"no order", nil, nil, codes.InvalidArgument, "order: want an order", []proto.Message{bad("order", "want an order, found none")}},
		{"no name", &ordersv1.Order{}, nil, codes.InvalidArgument, "order.name", []proto.Message{bad("order.name", `want orders/NUMBER, found ""`)}},
		{"unknown order", &ordersv1.Order{Name: "orders/8"}, nil, codes.NotFound, "not found", missing("orders/8")},
		{"fields of the mask", &ordersv1.Order{Name: "orders/1"}, []string{"customer", "total_cents", "costumer", "address.zip"}, codes.InvalidArgument, "(and 2 more)", []proto.Message{bad(
			"update_mask.paths[1]", "total_cents is given by the server and cannot be changed",
			"update_mask.paths[2]", `order has no field "costumer"; did you mean "customer"?`,
			"update_mask.paths[3]", `order has no field "address.zip"`,
		)}},
		{"cancelled by state", &ordersv1.Order{Name: "orders/1", State: ordersv1.State_CANCELLED}, []string{"state"}, codes.InvalidArgument, "order.state", []proto.Message{bad("order.state", "want SHIPPED, found CANCELLED; CancelOrder cancels")}},
		{"cleared customer", &ordersv1.Order{Name: "orders/1"}, []string{"customer"}, codes.InvalidArgument, "order.customer", []proto.Message{bad("order.customer", "want the name of a customer, found none")}},
		{"too late", &ordersv1.Order{Name: "orders/2", Customer: "bob"}, nil, codes.FailedPrecondition, `order "orders/2" cannot be changed any more`, []proto.Message{wrong("orders/2", "SHIPPED")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, _ := dial(t)
			_, err := c.UpdateOrder(t.Context(), &ordersv1.UpdateOrderRequest{Order: tc.order, UpdateMask: &fieldmaskpb.FieldMask{Paths: tc.mask}})
			refused(t, err, tc.code, tc.text, tc.details...)
			for i, want := range seed() {
				want.Name = []string{"orders/1", "orders/2", "orders/3"}[i]
				got, err := c.GetOrder(t.Context(), &ordersv1.GetOrderRequest{Name: want.GetName()})
				if err != nil {
					t.Fatal(err)
				}
				equal(t, "after the refusal", got, want)
			}
		})
	}
}

func TestWatchOrderSendsEveryState(t *testing.T) {
	c, _ := dial(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	watch, err := c.WatchOrder(ctx, &ordersv1.GetOrderRequest{Name: "orders/1"})
	if err != nil {
		t.Fatal(err)
	}
	now, err := watch.Recv()
	if err != nil || now.GetCustomer() != "ada" {
		t.Fatalf("got %v and %v, want the order as it is", now, err)
	}
	for _, customer := range []string{"b", "c", "c", "d"} { // the repeated one changes nothing
		if _, err := c.UpdateOrder(ctx, &ordersv1.UpdateOrderRequest{Order: &ordersv1.Order{Name: "orders/1", Customer: customer}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.DeleteOrder(ctx, &ordersv1.DeleteOrderRequest{Name: "orders/1"}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"b", "c", "d"} {
		got, err := watch.Recv()
		if err != nil || got.GetCustomer() != want {
			t.Fatalf("got %v and %v, want customer %q", got, err, want)
		}
	}
	_, err = watch.Recv()
	refused(t, err, codes.NotFound, `order "orders/1" not found`, missing("orders/1")...)
}

func TestWatchOrderEnds(t *testing.T) {
	c, s := dial(t)
	open := func(ctx context.Context) grpc.ServerStreamingClient[ordersv1.Order] {
		t.Helper()
		watch, err := c.WatchOrder(ctx, &ordersv1.GetOrderRequest{Name: "orders/2", Customer: "grace"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := watch.Recv(); err != nil {
			t.Fatal(err)
		}
		return watch
	}
	ctx, cancel := context.WithCancel(t.Context())
	gone, staying := open(ctx), open(t.Context())
	cancel()
	if _, err := gone.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("got %v, want CANCELLED", err)
	}
	s.Close()
	s.Close() // twice is fine
	_, err := staying.Recv()
	refused(t, err, codes.Unavailable, "the order service is stopping")
	none, err := c.WatchOrder(t.Context(), &ordersv1.GetOrderRequest{Name: "orders/2", Customer: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = none.Recv()
	refused(t, err, codes.NotFound, "not found", missing("orders/2")...)
}

func TestConcurrentCallsKeepEveryOrder(t *testing.T) {
	c, _ := dial(t)
	const callers, each = 8, 25
	done := make(chan error, callers)
	for range callers {
		go func() {
			var err error
			for i := 0; i < each && err == nil; i++ {
				var o *ordersv1.Order
				o, err = c.CreateOrder(t.Context(), &ordersv1.CreateOrderRequest{Order: &ordersv1.Order{Customer: "crowd", Items: []*ordersv1.Item{{Sku: "mug", Quantity: 1}}}})
				if err == nil && i%5 == 0 {
					_, err = c.CancelOrder(t.Context(), &ordersv1.CancelOrderRequest{Name: o.GetName()})
				}
			}
			done <- err
		}()
	}
	for range callers {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	req := &ordersv1.ListOrdersRequest{PageSize: 33, Filter: &ordersv1.ListOrdersRequest_Filter{Customer: "crowd"}}
	for {
		resp, err := c.ListOrders(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range resp.GetOrders() {
			seen[o.GetName()] = true
		}
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	if len(seen) != callers*each {
		t.Errorf("got %d orders, want %d", len(seen), callers*each)
	}
}
