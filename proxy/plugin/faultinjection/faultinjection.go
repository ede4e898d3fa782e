// Package faultinjection is the plugin fault_injection: it makes calls slow or fail on purpose.
package faultinjection

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	faultinjectionv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/faultinjection/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// Kind is the plugin as the list of plugins has it.
var Kind = plugin.Kind{
	Name:   "fault_injection",
	Config: func() proto.Message { return new(faultinjectionv1.FaultInjection) },
	New:    newPlugin,
}

// faults never change once made.
type faults struct {
	delay          time.Duration
	delayed        share
	abort          *rpc.Error // nil: none; copied for each call
	aborted        share
	delays, aborts *telemetry.Counter
}

// share is a part of all calls, of maxShare.
type share uint64

const (
	maxShare = 1 << 32
	maxDelay = 10 * time.Minute
)

func (s share) hit() bool {
	return s == maxShare || rand.Uint64N(maxShare) < uint64(s) //nolint:gosec // which calls are hit is no secret
}

func newPlugin(config proto.Message, env plugin.Env) (plugin.Plugin, error) {
	conf, ok := config.(*faultinjectionv1.FaultInjection)
	if !ok {
		return nil, fmt.Errorf("want a configuration of type %T, found %T", conf, config)
	}
	if conf.GetDelay() == nil && conf.GetAbort() == nil {
		return nil, plugin.Faultf("", "write delay: {duration: 1s}, or abort: {code: UNAVAILABLE}", "neither `delay` nor `abort`")
	}
	f := &faults{}
	if d := conf.GetDelay(); d != nil {
		f.delay = d.GetDuration().AsDuration()
		if f.delay <= 0 || f.delay > maxDelay {
			return nil, plugin.Faultf("delay.duration", "write a time above 0s, such as 1.5s", "wanted more than 0s and at most %s, found %s", maxDelay, f.delay)
		}
		var err error
		if f.delayed, err = shareOf("delay.percent", d.Percent); err != nil {
			return nil, err
		}
	}
	if a := conf.GetAbort(); a != nil {
		var err error
		if f.abort, err = errorOf(a); err != nil {
			return nil, err
		}
		if f.aborted, err = shareOf("abort.percent", a.Percent); err != nil {
			return nil, err
		}
	}
	total, err := env.Meter.Counter("causeway_fault_injection_faults_total", "", "Calls that were delayed or aborted on purpose.", "scope", "fault")
	if err != nil {
		return nil, err
	}
	f.delays, f.aborts = total.With(env.Scope, "delay"), total.With(env.Scope, "abort")
	return f, nil
}

func shareOf(at string, percent *float64) (share, error) {
	switch {
	case percent == nil:
		return maxShare, nil
	case math.IsNaN(*percent) || *percent < 0 || *percent > 100:
		return 0, plugin.Faultf(at, "write 0 to 100", "wanted a share in percent, found %v", *percent)
	}
	return share(*percent / 100 * maxShare), nil
}

// errorOf is what an aborted call ends with.
func errorOf(conf *faultinjectionv1.Abort) (*rpc.Error, error) {
	status := int(conf.GetStatus())
	if status != 0 && (status < 400 || status > 599) {
		return nil, plugin.Faultf("abort.status", "write 400 to 599", "wanted the status of an error, found %d", status)
	}
	code := codeOf(status)
	if conf.GetCode() != "" {
		var known bool
		if code, known = codeNamed(conf.GetCode()); !known || code == codes.OK {
			return nil, plugin.Faultf("abort.code", "write the name of a gRPC code other than OK, in capitals", "unknown code %q", conf.GetCode())
		}
	} else if status == 0 {
		return nil, plugin.Faultf("abort", "write code: UNAVAILABLE, or status: 503", "neither `code` nor `status`")
	}
	message := conf.GetMessage()
	if message == "" {
		message = "a fault on purpose"
	}
	return rpc.Refuse(code, "FAULT_INJECTED", "%s", message).WithStatus(status), nil
}

// codeNamed is the gRPC code of a name in capitals.
func codeNamed(name string) (codes.Code, bool) {
	for c := codes.OK; c <= codes.Unauthenticated; c++ {
		if rpc.CodeName(c) == name {
			return c, true
		}
	}
	return 0, false
}

// codeOf is the gRPC code that goes with an HTTP status of an error, by google/rpc/code.proto.
func codeOf(status int) codes.Code {
	switch status {
	case 400:
		return codes.InvalidArgument
	case 401:
		return codes.Unauthenticated
	case 403:
		return codes.PermissionDenied
	case 404:
		return codes.NotFound
	case 409:
		return codes.Aborted
	case 413, 429:
		return codes.ResourceExhausted
	case 499:
		return codes.Canceled
	case 500:
		return codes.Internal
	case 501:
		return codes.Unimplemented
	case 502, 503:
		return codes.Unavailable
	case 504:
		return codes.DeadlineExceeded
	}
	return codes.Unknown
}

// Wrap implements plugin.Plugin.
func (f *faults) Wrap(next rpc.Handler) rpc.Handler { return &handler{f, next} }

type handler struct {
	*faults
	next rpc.Handler
}

// Handle implements rpc.Handler.
func (h *handler) Handle(ctx context.Context, c *rpc.Call) error {
	if h.delay > 0 && h.delayed.hit() {
		h.delays.Inc()
		if err := sleep(ctx, h.delay); err != nil {
			return err
		}
	}
	if h.abort != nil && h.aborted.hit() {
		h.aborts.Inc()
		e := *h.abort // faces may add to it
		return &e
	}
	return h.next.Handle(ctx, c)
}

// sleep waits, for no longer than the call has time and somebody waits for it.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return rpc.AsError(ctx.Err())
	}
}
