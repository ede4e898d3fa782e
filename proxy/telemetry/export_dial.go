package telemetry

import (
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// answerWindow is how many bytes of an answer a collector may send ahead, the least that HTTP/2 starts with.
const answerWindow = 64 << 10

// dial makes the exporters of the chosen signals. Everything that the environment (OTEL_EXPORTER_OTLP_*) could say is said
// here: the configuration alone decides.
func (x *Export) dial() error {
	address, plain, err := x.conf.address()
	if err != nil {
		return err
	}
	for _, s := range []struct {
		wanted bool
		dial   func(address string, plain bool) error
	}{
		{x.conf.Traces, x.dialTraces},
		{x.conf.Metrics, x.dialMetrics},
		{x.conf.Logs, x.dialLogs},
	} {
		if s.wanted {
			if err := s.dial(address, plain); err != nil {
				return err
			}
		}
	}
	return nil
}

// modest keeps what a collector may send that nobody reads small: by itself a connection lets in more the faster it is.
func modest() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithStaticStreamWindowSize(answerWindow), grpc.WithStaticConnWindowSize(answerWindow),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
	}
}

func (x *Export) headers() map[string]string {
	if x.conf.Headers == nil {
		return map[string]string{}
	}
	return x.conf.Headers
}

func (x *Export) dialTraces(address string, plain bool) error {
	c := &x.conf
	if c.HTTP {
		o := []otlptracehttp.Option{
			otlptracehttp.WithEndpoint(address), otlptracehttp.WithURLPath("/v1/traces"), otlptracehttp.WithHeaders(x.headers()),
			otlptracehttp.WithTimeout(c.Timeout), otlptracehttp.WithMaxResponseSize(maxAnswer), otlptracehttp.WithMaxRequestSize(maxExportSize),
			otlptracehttp.WithCompression(otlptracehttp.NoCompression),
			otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: true, InitialInterval: retryFirst, MaxInterval: retryAtMost, MaxElapsedTime: c.Timeout}),
		}
		if plain {
			o = append(o, otlptracehttp.WithInsecure())
		} else if c.TLS != nil {
			o = append(o, otlptracehttp.WithTLSClientConfig(c.TLS))
		}
		x.traces = otlptracehttp.NewClient(o...)
	} else {
		o := []otlptracegrpc.Option{
			otlptracegrpc.WithEndpoint(address), otlptracegrpc.WithHeaders(x.headers()), otlptracegrpc.WithTimeout(c.Timeout),
			otlptracegrpc.WithMaxRequestSize(maxExportSize), otlptracegrpc.WithDialOption(modest()...),
			otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{Enabled: true, InitialInterval: retryFirst, MaxInterval: retryAtMost, MaxElapsedTime: c.Timeout}),
		}
		if plain {
			o = append(o, otlptracegrpc.WithInsecure())
		} else {
			o = append(o, otlptracegrpc.WithTLSCredentials(credentials.NewTLS(c.TLS)))
		}
		x.traces = otlptracegrpc.NewClient(o...)
	}
	return x.traces.Start(x.ctx)
}

func (x *Export) dialMetrics(address string, plain bool) (err error) {
	c := &x.conf
	if c.HTTP {
		o := []otlpmetrichttp.Option{
			otlpmetrichttp.WithEndpoint(address), otlpmetrichttp.WithURLPath("/v1/metrics"), otlpmetrichttp.WithHeaders(x.headers()),
			otlpmetrichttp.WithTimeout(c.Timeout), otlpmetrichttp.WithMaxResponseSize(maxAnswer), otlpmetrichttp.WithMaxRequestSize(maxExportSize),
			otlpmetrichttp.WithCompression(otlpmetrichttp.NoCompression),
			otlpmetrichttp.WithRetry(otlpmetrichttp.RetryConfig{Enabled: true, InitialInterval: retryFirst, MaxInterval: retryAtMost, MaxElapsedTime: c.Timeout}),
		}
		if plain {
			o = append(o, otlpmetrichttp.WithInsecure())
		} else if c.TLS != nil {
			o = append(o, otlpmetrichttp.WithTLSClientConfig(c.TLS))
		}
		x.metrics, err = otlpmetrichttp.New(x.ctx, o...)
		return err
	}
	o := []otlpmetricgrpc.Option{
		otlpmetricgrpc.WithEndpoint(address), otlpmetricgrpc.WithHeaders(x.headers()), otlpmetricgrpc.WithTimeout(c.Timeout),
		otlpmetricgrpc.WithMaxRequestSize(maxExportSize), otlpmetricgrpc.WithDialOption(modest()...),
		otlpmetricgrpc.WithRetry(otlpmetricgrpc.RetryConfig{Enabled: true, InitialInterval: retryFirst, MaxInterval: retryAtMost, MaxElapsedTime: c.Timeout}),
	}
	if plain {
		o = append(o, otlpmetricgrpc.WithInsecure())
	} else {
		o = append(o, otlpmetricgrpc.WithTLSCredentials(credentials.NewTLS(c.TLS)))
	}
	x.metrics, err = otlpmetricgrpc.New(x.ctx, o...)
	return err
}

func (x *Export) dialLogs(address string, plain bool) (err error) {
	c := &x.conf
	x.emit = newEmitter(x.res)
	if c.HTTP {
		o := []otlploghttp.Option{
			otlploghttp.WithEndpoint(address), otlploghttp.WithURLPath("/v1/logs"), otlploghttp.WithHeaders(x.headers()),
			otlploghttp.WithTimeout(c.Timeout), otlploghttp.WithMaxResponseSize(maxAnswer), otlploghttp.WithMaxRequestSize(maxExportSize),
			otlploghttp.WithCompression(otlploghttp.NoCompression),
			otlploghttp.WithRetry(otlploghttp.RetryConfig{Enabled: true, InitialInterval: retryFirst, MaxInterval: retryAtMost, MaxElapsedTime: c.Timeout}),
		}
		if plain {
			o = append(o, otlploghttp.WithInsecure())
		} else if c.TLS != nil {
			o = append(o, otlploghttp.WithTLSClientConfig(c.TLS))
		}
		x.logs, err = otlploghttp.New(x.ctx, o...)
		return err
	}
	o := []otlploggrpc.Option{
		otlploggrpc.WithEndpoint(address), otlploggrpc.WithHeaders(x.headers()), otlploggrpc.WithTimeout(c.Timeout),
		otlploggrpc.WithMaxRequestSize(maxExportSize), otlploggrpc.WithDialOption(modest()...),
		otlploggrpc.WithRetry(otlploggrpc.RetryConfig{Enabled: true, InitialInterval: retryFirst, MaxInterval: retryAtMost, MaxElapsedTime: c.Timeout}),
	}
	if plain {
		o = append(o, otlploggrpc.WithInsecure())
	} else {
		o = append(o, otlploggrpc.WithTLSCredentials(credentials.NewTLS(c.TLS)))
	}
	x.logs, err = otlploggrpc.New(x.ctx, o...)
	return err
}
