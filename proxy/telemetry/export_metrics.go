package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// sendMetrics sends the values of all instruments every interval, and once more at the end. It is a goroutine of its own.
func (x *Export) sendMetrics() {
	ticker := time.NewTicker(x.conf.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			x.sendReading()
		case <-x.stop:
			x.sendReading()
			return
		}
	}
}

func (x *Export) sendReading() {
	if x.of.sample != nil {
		x.of.sample()
	}
	scopes, err := producer{x.of.meter}.Produce(x.ctx)
	if err == nil {
		ctx, cancel := context.WithTimeout(x.ctx, x.conf.Timeout)
		err = x.metrics.Export(ctx, &metricdata.ResourceMetrics{Resource: x.res, ScopeMetrics: scopes})
		cancel()
	}
	x.report(metricsSignal, 1, err)
}
