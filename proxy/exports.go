package proxy

import (
	"io"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/causeway-gateway/causeway/proxy/certs"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
)

// export is where a snapshot sends signals to, with what it was made for.
type export struct {
	*telemetry.Export
	digest string
}

// get is the export, or nil.
func (x *export) get() *telemetry.Export {
	if x == nil {
		return nil
	}
	return x.Export
}

// telemetry makes what sends signals, or takes it over if it is unchanged.
func (b *builder) telemetry() {
	conf := b.doc.Config.GetTelemetry()
	o := conf.GetOtlp()
	signals := o.GetSignals()
	if len(signals) == 0 {
		signals = []string{"traces", "metrics"}
	}
	sendsLogs := o != nil && slices.Contains(signals, "logs")
	open := b.env.Open
	b.env.Open = func(output string, r telemetry.Rotation) (io.WriteCloser, error) {
		if output == telemetry.Collector && !sendsLogs {
			return nil, telemetry.ErrNoCollector
		}
		return open(output, r)
	}
	if o == nil {
		return
	}
	if sendsLogs {
		b.collects = "\x00logs"
	}
	raw, _ := proto.MarshalOptions{Deterministic: true}.Marshal(conf) // strings that were read as UTF-8
	digest := string(raw) + certs.Fingerprint(o.GetTls().GetCaFile())
	if b.prev != nil && b.prev.export != nil && b.prev.export.digest == digest {
		b.snap.export = b.prev.export
		return
	}
	c := telemetry.ExportConfig{
		Endpoint: o.GetEndpoint(), HTTP: o.GetProtocol() == "http", Headers: o.GetHeaders(),
		Traces: slices.Contains(signals, "traces"), Metrics: slices.Contains(signals, "metrics"), Logs: sendsLogs,
		Interval: o.GetInterval().AsDuration(), Timeout: o.GetTimeout().AsDuration(), Resource: conf.GetResource(), Version: b.version,
	}
	var err error
	if o.GetTls() != nil {
		if c.TLS, err = clientTLS(o.GetTls(), c.Host(), b.log); err != nil {
			b.fault("telemetry.otlp.tls", "%s", err)
			return
		}
	}
	x, err := b.exports.New(c)
	if err != nil {
		b.fault("telemetry.otlp", "%s", err)
		return
	}
	b.made = append(b.made, x.Close) // the snapshot is refused for a reason that is told
	b.snap.export = &export{x, digest}
}
