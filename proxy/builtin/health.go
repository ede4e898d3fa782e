package builtin

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// status is a service's health as the protocol has it (grpc/doc/health-checking.md).
func (h *Handler) status(service string) healthpb.HealthCheckResponse_ServingStatus {
	switch serving, known := h.Current().Health(service); {
	case !known:
		return healthpb.HealthCheckResponse_SERVICE_UNKNOWN
	case serving:
		return healthpb.HealthCheckResponse_SERVING
	}
	return healthpb.HealthCheckResponse_NOT_SERVING
}

func (h *Handler) check(ctx context.Context, c *rpc.Call) error {
	m, err := c.Body.Message(ctx, c.Method.Input)
	if err != nil {
		return err
	}
	var req healthpb.HealthCheckRequest
	if err := read(m, &req); err != nil {
		return err
	}
	status := h.status(req.GetService())
	if status == healthpb.HealthCheckResponse_SERVICE_UNKNOWN {
		return rpc.Refuse(codes.NotFound, "SERVICE_NOT_FOUND", "no service %s is served here", req.GetService())
	}
	c.Reply.Message, err = encoded(&healthpb.HealthCheckResponse{Status: status})
	return err
}

func (h *Handler) list(c *rpc.Call) error {
	out := &healthpb.HealthListResponse{Statuses: map[string]*healthpb.HealthCheckResponse{"": {Status: h.status("")}}}
	for _, name := range h.Current().Services() {
		out.Statuses[name] = &healthpb.HealthCheckResponse{Status: h.status(name)}
	}
	var err error
	c.Reply.Message, err = encoded(out)
	return err
}

// watchTick is how often a watched service is looked at.
const watchTick = time.Second

// watch sends the health now and whenever it has changed, until the caller leaves.
func (h *Handler) watch(ctx context.Context, c *rpc.Call) error {
	var m rpc.Message
	if err := c.Stream.Recv(&m); err != nil {
		return err
	}
	var req healthpb.HealthCheckRequest
	err := read(&m, &req)
	m.Free()
	if err != nil {
		return err
	}
	last := healthpb.HealthCheckResponse_UNKNOWN
	t := time.NewTicker(watchTick)
	defer t.Stop()
	for {
		if now := h.status(req.GetService()); now != last {
			last = now
			m, err := encoded(&healthpb.HealthCheckResponse{Status: now})
			if err != nil {
				return err
			}
			if err := c.Stream.Send(&m, false); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return rpc.AsError(ctx.Err())
		case <-t.C:
		}
	}
}
