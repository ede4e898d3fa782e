// Package pricing is the demo's service that knows what things cost, and speaks tRPC.
package pricing

import (
	"context"
	"log/slog"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/causeway-gateway/causeway/cmd/causeway/servant"
	pricingv1 "github.com/causeway-gateway/causeway/protos/demo/pricing/v1"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/trpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Name is what the service is registered as.
const Name = "trpc.demo.pricing.Pricing"

// prices in cents.
var prices = map[string]int64{"mug": 1250, "tea-500g": 899, "teahouse": 9_007_199_254_740_993}

// Files is what the service is described by.
func Files() *descriptorpb.FileDescriptorSet {
	set := &descriptorpb.FileDescriptorSet{}
	seen := map[string]bool{}
	var add func(f protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if seen[f.Path()] {
			return
		}
		seen[f.Path()] = true
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i))
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(f))
	}
	add(pricingv1.File_demo_pricing_v1_pricing_proto)
	return set
}

// New makes a server of the service.
func New(log *slog.Logger) (*servant.Server, error) {
	files := &protoregistry.Files{}
	if err := files.RegisterFile(pricingv1.File_demo_pricing_v1_pricing_proto); err != nil {
		return nil, err
	}
	s, err := schema.New(files)
	if err != nil {
		return nil, err
	}
	in := trpc.Inlet{}
	return servant.New(in, in.Config(), s, map[string]rpc.Handler{
		"/demo.pricing.v1.Pricing/Price": servant.Unary(price),
		"/demo.pricing.v1.Pricing/Watch": servant.ServerStream(watch),
	}, log)
}

func price(_ context.Context, r *pricingv1.PriceRequest) (*pricingv1.PriceReply, error) {
	cents, ok := prices[r.GetSku()]
	if !ok {
		return nil, &rpc.Error{Code: codes.NotFound, Class: rpc.Business, Executed: true, Native: 1404, Message: "nobody sells " + strings.ToValidUTF8(r.GetSku(), "?")}
	}
	return &pricingv1.PriceReply{Sku: r.GetSku(), Cents: cents, Currency: "EUR"}, nil
}

// watch tells prices that rise by a cent each.
func watch(ctx context.Context, r *pricingv1.WatchRequest, send func(*pricingv1.PriceReply) error) error {
	p, err := price(ctx, &pricingv1.PriceRequest{Sku: r.GetSku()})
	if err != nil {
		return err
	}
	count := min(r.GetCount(), 100)
	if count <= 0 {
		count = 3
	}
	for range count {
		if err := send(p); err != nil {
			return err
		}
		p.Cents++
	}
	return nil
}
