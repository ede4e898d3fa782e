package orders

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	ordersv1 "github.com/causeway-gateway/causeway/protos/demo/orders/v1"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// writable are the fields of an order that UpdateOrder may change.
func writable() []string {
	return []string{"customer", "state", "items", "labels", "address", "pickup_shop", "delivery_time"}
}

// UpdateOrder changes the fields that the mask names to what they are in the request, or clears them. A path may lead
// into the address. "*" means every writable field; no mask means those that are set in the request. The state may go
// from PLACED to SHIPPED, which is how the shop ships; an order that is not PLACED stays as it is.
func (s *Server) UpdateOrder(_ context.Context, req *ordersv1.UpdateOrderRequest) (*ordersv1.Order, error) {
	if req.GetOrder() == nil {
		return nil, invalid(violation("order", "want an order, found none"))
	}
	paths, faults := maskPaths(req)
	if len(faults) > 0 {
		return nil, invalid(faults...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.find("order.name", req.GetOrder().GetName())
	if err != nil {
		return nil, err
	}
	old := r.version.order
	o := proto.CloneOf(old)
	for _, path := range paths {
		copyPath(o.ProtoReflect(), req.GetOrder().ProtoReflect(), strings.Split(path, "."))
	}
	if o.GetState() == ordersv1.State_STATE_UNSPECIFIED {
		o.State = old.GetState()
	}
	faults = complete(o)
	if to := o.GetState(); to != old.GetState() && to != ordersv1.State_SHIPPED {
		faults = append(faults, violation("order.state", "want SHIPPED, found %v; CancelOrder cancels", to))
	}
	if len(faults) > 0 {
		return nil, invalid(faults...)
	}
	if proto.Equal(o, old) {
		return old, nil
	}
	if old.GetState() != ordersv1.State_PLACED {
		return nil, wrongState(old, "cannot be changed any more")
	}
	r.replace(o)
	return o, nil
}

// maskPaths returns the paths to copy.
func maskPaths(req *ordersv1.UpdateOrderRequest) ([]string, []fault) {
	if len(req.GetUpdateMask().GetPaths()) == 0 {
		var paths []string
		req.GetOrder().ProtoReflect().Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
			if slices.Contains(writable(), string(f.Name())) {
				paths = append(paths, string(f.Name()))
			}
			return true
		})
		return paths, nil
	}
	var paths []string
	var faults []fault
	address := (&ordersv1.Address{}).ProtoReflect().Descriptor().Fields()
	order := req.GetOrder().ProtoReflect().Descriptor().Fields()
	for i, path := range req.GetUpdateMask().GetPaths() {
		field, inner, nested := strings.Cut(path, ".")
		switch {
		case path == "*":
			paths = append(paths, writable()...)
		case slices.Contains(writable(), field) && (!nested || field == "address" && address.ByName(protoreflect.Name(inner)) != nil):
			paths = append(paths, path)
		case order.ByName(protoreflect.Name(path)) != nil:
			faults = append(faults, violation(fmt.Sprintf("update_mask.paths[%d]", i), "%s is given by the server and cannot be changed", path))
		default:
			faults = append(faults, violation(fmt.Sprintf("update_mask.paths[%d]", i), "order has no field %q%s", path, schema.DidYouMean(path, writable())))
		}
	}
	return paths, faults
}

// copyPath makes the field at path in to what it is in from.
func copyPath(to, from protoreflect.Message, path []string) {
	f := to.Descriptor().Fields().ByName(protoreflect.Name(path[0]))
	switch {
	case len(path) > 1:
		copyPath(to.Mutable(f).Message(), from.Get(f).Message(), path[1:])
	case from.Has(f):
		to.Set(f, from.Get(f))
	default:
		to.Clear(f)
	}
}
