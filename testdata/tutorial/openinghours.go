// Package openinghours is the plugin opening_hours: calls are taken at certain hours of the day.
package openinghours

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// Kind is the plugin as the list of plugins has it.
var Kind = plugin.Kind{
	Name:   "opening_hours",
	Config: func() proto.Message { return new(OpeningHours) },
	New:    newPlugin,
}

// hours never changes once made: any number of calls use it at once.
type hours struct {
	from, until time.Duration // since midnight
	now         func() time.Time
	refused     *telemetry.Counter
}

func newPlugin(config proto.Message, env plugin.Env) (plugin.Plugin, error) {
	conf, ok := config.(*OpeningHours)
	if !ok {
		return nil, fmt.Errorf("want a configuration of type %T, found %T", conf, config)
	}
	h := &hours{now: env.Now}
	var err error
	if h.from, err = timeOfDay("from", conf.GetFrom()); err != nil {
		return nil, err
	}
	if h.until, err = timeOfDay("until", conf.GetUntil()); err != nil {
		return nil, err
	}
	if h.until <= h.from {
		return nil, plugin.Faultf("until", "write a time after "+conf.GetFrom(), "wanted a time after %s, found %s", conf.GetFrom(), conf.GetUntil())
	}
	counter, err := env.Meter.Counter("causeway_opening_hours_refused_total", "", "Calls that came outside the opening hours.")
	if err != nil {
		return nil, err
	}
	h.refused = counter.With()
	return h, nil
}

func timeOfDay(path, text string) (time.Duration, error) {
	t, err := time.Parse("15:04", text)
	if err != nil {
		return 0, plugin.Faultf(path, `write hours and minutes: "08:00"`, "wanted a time of day, found %q", text)
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, nil
}

// Wrap puts the plugin in front of next. It is called once for each route.
func (h *hours) Wrap(next rpc.Handler) rpc.Handler { return &handler{h, next} }

type handler struct {
	*hours
	next rpc.Handler
}

// Handle refuses a call, or hands it on. Nothing of the call has been translated so far.
func (h *handler) Handle(ctx context.Context, c *rpc.Call) error {
	now := h.now().UTC()
	since := time.Duration(now.Hour())*time.Hour + time.Duration(now.Minute())*time.Minute
	if since < h.from || since >= h.until {
		h.refused.Add(1)
		return rpc.Refuse(codes.Unavailable, "CLOSED", "calls are not taken at this hour")
	}
	return h.next.Handle(ctx, c)
}
