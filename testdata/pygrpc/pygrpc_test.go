package pygrpc_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/descriptorpb"

	ordersv1 "github.com/causeway-gateway/causeway/protos/demo/orders/v1"
	"github.com/causeway-gateway/causeway/testdata/pygrpc"
)

func TestServer(t *testing.T) {
	address, set := pygrpc.Start(t)
	var files descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(set, &files); err != nil || len(files.GetFile()) < 5 {
		t.Errorf("got a set of %d files and %v", len(files.GetFile()), err)
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := ordersv1.NewOrdersClient(conn)

	var header, trailer metadata.MD
	order, err := c.GetOrder(t.Context(), &ordersv1.GetOrderRequest{Name: "orders/1"}, grpc.Header(&header), grpc.Trailer(&trailer))
	if err != nil {
		t.Fatal(err)
	}
	if order.GetAddress().GetCity() != "København" || order.GetCreated().GetNanos() != 1 || order.GetDeliveryTime().GetNanos() != 5e8 || order.GetItems()[0].GetTags()[0] != "blå" {
		t.Errorf("got %v", order)
	}
	if d := cmp.Diff([][]string{{"python"}, {"1"}}, [][]string{header.Get("x-server"), trailer.Get("x-items")}); d != "" {
		t.Errorf("metadata (-want +got):\n%s", d)
	}

	_, err = c.GetOrder(t.Context(), &ordersv1.GetOrderRequest{Name: "orders/2"})
	st := status.Convert(err)
	want := []any{&errdetails.ErrorInfo{Reason: "ORDER_NOT_FOUND", Domain: "orders.python"}}
	if d := cmp.Diff(want, st.Details(), protocmp.Transform()); d != "" || st.Code() != codes.NotFound || st.Message() != "order 'orders/2' not found" {
		t.Errorf("got %v, details (-want +got):\n%s", err, d)
	}

	quote, err := c.Quote(t.Context(), &ordersv1.QuoteRequest{Items: []*ordersv1.Item{{Sku: "mug", Quantity: 2}, {Sku: "kettle", Quantity: 1}}})
	if err != nil || quote.GetTotalCents() != 7499 || quote.GetPrices()["kettle"] != 4999 {
		t.Errorf("got %v and %v", quote, err)
	}
	if _, err = c.Quote(t.Context(), &ordersv1.QuoteRequest{Items: []*ordersv1.Item{{Sku: "none"}}}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("got %v, want INVALID_ARGUMENT", err)
	}
	if _, err = c.CancelOrder(t.Context(), &ordersv1.CancelOrderRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("got %v, want UNIMPLEMENTED", err)
	}
}
