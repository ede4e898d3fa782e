package orders

import (
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	ordersv1 "github.com/causeway-gateway/causeway/protos/demo/orders/v1"
)

// domain is the domain of every ErrorInfo of this service.
const domain = "orders.demo"

// fault is one thing that is wrong in a request.
type fault = *errdetails.BadRequest_FieldViolation

func violation(field, format string, args ...any) fault {
	return &errdetails.BadRequest_FieldViolation{Field: field, Description: fmt.Sprintf(format, args...)}
}

// invalid is INVALID_ARGUMENT with every fault of the request.
func invalid(faults ...fault) error {
	text := faults[0].GetField() + ": " + faults[0].GetDescription()
	if more := len(faults) - 1; more > 0 {
		text += fmt.Sprintf(" (and %d more)", more)
	}
	return detailed(codes.InvalidArgument, text, &errdetails.BadRequest{FieldViolations: faults})
}

func notFound(name string) error {
	return detailed(codes.NotFound, fmt.Sprintf("order %q not found", name),
		&errdetails.ResourceInfo{ResourceType: "demo.orders.v1.Order", ResourceName: name, Description: "no such order"},
		&errdetails.ErrorInfo{Reason: "ORDER_NOT_FOUND", Domain: domain, Metadata: map[string]string{"name": name}},
	)
}

// wrongState is FAILED_PRECONDITION: the order is too far for what was asked.
func wrongState(o *ordersv1.Order, why string) error {
	return detailed(codes.FailedPrecondition, fmt.Sprintf("order %q %s", o.GetName(), why),
		&errdetails.PreconditionFailure{Violations: []*errdetails.PreconditionFailure_Violation{
			{Type: "STATE", Subject: o.GetName(), Description: "the order is " + o.GetState().String()},
		}},
	)
}

func requestIDReused(id, name string) error {
	return detailed(codes.AlreadyExists, fmt.Sprintf("request_id %q was used for another order, %s", id, name),
		&errdetails.ErrorInfo{Reason: "REQUEST_ID_REUSED", Domain: domain, Metadata: map[string]string{"name": name}},
	)
}

func stopping() error { return status.Error(codes.Unavailable, "the order service is stopping") }

// detailed attaches details to a status. They are messages of this process, so packing them cannot fail; if it did, the
// status without them still says what happened.
func detailed(code codes.Code, text string, details ...protoadapt.MessageV1) error {
	bare := status.New(code, text)
	full, err := bare.WithDetails(details...)
	if err != nil {
		return bare.Err()
	}
	return full.Err()
}
