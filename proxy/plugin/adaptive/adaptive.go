// Package adaptive is the plugin adaptive_concurrency: it finds out how many calls at a time are served without waiting for
// each other, and refuses what is more before its body is read.
package adaptive

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	adaptivev1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/adaptive/v1"
	"github.com/causeway-gateway/causeway/proxy/expr"
	"github.com/causeway-gateway/causeway/proxy/limit"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Kind is the plugin as the list of plugins has it.
var Kind = plugin.Kind{
	Name:   "adaptive_concurrency",
	Config: func() proto.Message { return new(adaptivev1.AdaptiveConcurrency) },
	New:    newPlugin,
}

// ReasonOverloaded is the reason of refusals.
const ReasonOverloaded = "OVERLOADED"

const (
	defaultMin       = 4
	defaultMax       = 2000
	defaultInitial   = 100
	defaultTolerance = 2
	maxLimit         = 1_000_000
	minTolerance     = 1.1
	maxTolerance     = 10
	maxClasses       = 20
	minShare         = 0.01
)

type adaptive struct {
	limiter *limiter
	classes []class
	rest    class // of calls that no class takes
	clock   func() time.Time
	born    time.Time
	meter   *telemetry.Meter
	gauge   *telemetry.GaugeVec
	scope   string
}

// class is a sort of calls.
type class struct {
	when    *expr.Program // nil: every call
	share   float64
	refused *telemetry.Counter
}

func newPlugin(config proto.Message, env plugin.Env) (plugin.Plugin, error) {
	conf, err := limit.ConfigOf[*adaptivev1.AdaptiveConcurrency](config)
	if err != nil {
		return nil, err
	}
	low, high, initial, tolerance := conf.GetMin(), conf.GetMax(), conf.GetInitial(), conf.GetTolerance()
	setDefault(&low, defaultMin)
	setDefault(&high, max(defaultMax, low))
	setDefault(&initial, min(max(defaultInitial, low), high))
	setDefault(&tolerance, defaultTolerance)
	switch {
	case low < 1 || low > maxLimit:
		return nil, plugin.Faultf("min", "write how many calls may always be served", "wanted 1 to %d, found %d", maxLimit, low)
	case high < low || high > maxLimit:
		return nil, plugin.Faultf("max", "write a larger number, or a smaller `min`", "wanted %d to %d, found %d", low, maxLimit, high)
	case initial < low || initial > high:
		return nil, plugin.Faultf("initial", "write a number from `min` to `max`", "wanted %d to %d, found %d", low, high, initial)
	case math.IsNaN(tolerance) || tolerance < minTolerance || tolerance > maxTolerance:
		return nil, plugin.Faultf("tolerance", "write 2", "wanted %v to %v, found %v", minTolerance, maxTolerance, tolerance)
	}
	p := &adaptive{
		limiter: newLimiter(float64(low), float64(high), float64(initial), tolerance),
		clock:   env.Now, born: env.Now().Add(-time.Second), meter: env.Meter, scope: env.Scope,
	}
	refused, err := env.Meter.Counter("causeway_adaptive_concurrency_refused_total", "", "Calls refused because of overload.", "scope", "class")
	if err != nil {
		return nil, err
	}
	if p.gauge, err = env.Meter.Gauge("causeway_adaptive_concurrency_limit", "", "Calls that are let in at a time.", "scope"); err != nil {
		return nil, err
	}
	p.gauge.With(env.Scope).Set(int64(initial))
	p.rest = class{share: 1, refused: refused.With(env.Scope, "")}
	if err := p.readClasses(conf.GetClasses(), refused); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *adaptive) readClasses(confs []*adaptivev1.Class, refused *telemetry.CounterVec) error {
	if len(confs) > maxClasses {
		return plugin.Faultf("classes", "join some", "wanted at most %d, found %d", maxClasses, len(confs))
	}
	for i, conf := range confs {
		at := fmt.Sprintf("classes[%d]", i)
		c := class{share: conf.GetShare(), refused: refused.With(p.scope, conf.GetName())}
		setDefault(&c.share, 1)
		switch {
		case conf.GetName() == "":
			return plugin.Faultf(at, "give it a `name`", "no name")
		case slices.ContainsFunc(confs[:i], func(o *adaptivev1.Class) bool { return o.GetName() == conf.GetName() }):
			return plugin.Faultf(at+".name", "give each its own name", "%q is the name of another class already", conf.GetName())
		case math.IsNaN(c.share) || c.share < minShare || c.share > 1:
			return plugin.Faultf(at+".share", "write 0.5 for half of the limit", "wanted %v to 1, found %v", minShare, c.share)
		case i > 0 && confs[i-1].GetWhen() == "":
			return plugin.Faultf(at, "move the class without a condition to the end", "no call comes here: the class before takes every call")
		}
		if conf.GetWhen() != "" {
			var err error
			if c.when, err = expr.Bool(conf.GetWhen()); err != nil {
				return plugin.Faultf(at+".when", "mend the expression: https://cel.dev", "%s", err)
			}
			if c.when.AfterAnswer() {
				return plugin.Faultf(at+".when", "ask for what is known of the request", "`answer` is not known yet when a call is let in")
			}
		}
		p.classes = append(p.classes, c)
	}
	return nil
}

// Expressions implements plugin.Evaluator: the conditions of classes up to one that surely takes the call. Streams are of no
// class.
func (p *adaptive) Expressions(m *schema.Method) []plugin.Expression {
	var out []plugin.Expression
	for i := range p.classes {
		when := p.classes[i].when
		if when == nil || m.Kind != schema.Unary {
			break
		}
		out = append(out, plugin.Expression{Path: fmt.Sprintf("classes[%d].when", i), Source: when})
		if takes, _ := when.Holds(m, ""); takes {
			break
		}
	}
	return out
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (p *adaptive) now() int64 { return int64(p.clock().Sub(p.born)) }

// class finds the class of a call.
func (p *adaptive) class(ctx context.Context, c *rpc.Call) (*class, error) {
	for i := range p.classes {
		k := &p.classes[i]
		if k.when == nil {
			return k, nil
		}
		is, err := k.when.Bool(ctx, c, nil)
		if err != nil {
			if e, ok := errors.AsType[*rpc.Error](err); ok {
				return nil, e // of a message that did not come well
			}
			return nil, rpc.Refuse(codes.Internal, "CONDITION_FAILED", "internal error").WithCause(err)
		}
		if is {
			return k, nil
		}
	}
	return &p.rest, nil
}

// Wrap implements plugin.Plugin.
func (p *adaptive) Wrap(next rpc.Handler) rpc.Handler { return &handler{p, next} }

type handler struct {
	*adaptive
	next rpc.Handler
}

// Handle implements rpc.Handler. Whether there is room is asked twice: before anything is done for the call, and once its
// body is there. From then on it takes a place, and its time counts: a caller who sends slowly holds none.
func (h *handler) Handle(ctx context.Context, c *rpc.Call) error {
	if c.Method.Kind != schema.Unary || c.Body == nil {
		return h.next.Handle(ctx, c)
	}
	k, err := h.class(ctx, c)
	if err != nil {
		return err
	}
	if !h.limiter.room(k.share) {
		return h.refuse(k)
	}
	b := bodies.Get().(*body) //nolint:forcetypeassert // nothing else is put there
	*b = body{Body: c.Body, of: h.adaptive, class: k}
	c.Body = b
	done := false
	defer func() {
		c.Body = b.Body
		b.leave(done && !cancelled(err))
		*b = body{}
		bodies.Put(b)
	}()
	err = h.next.Handle(ctx, c)
	done = true // a call that panicked says nothing of the service
	return err
}

func (p *adaptive) refuse(k *class) error {
	k.refused.Inc()
	e := rpc.Refuse(codes.Unavailable, ReasonOverloaded, "too many calls are being served")
	e.Header.Add("retry-after", "1")
	return e
}

// cancelled tells that a call's end says nothing of how fast the service is: its caller has left, or it was not executed.
func cancelled(err error) bool {
	if err == nil {
		return false
	}
	e := rpc.AsError(err)
	return e.Code == codes.Canceled || e.Class != rpc.Business && e.Code != codes.DeadlineExceeded
}
