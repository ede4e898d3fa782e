package rpcadapters

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Configured is an Adapter or Inlet that takes settings. Looked up once, when the gateway is made.
type Configured interface {
	// Config makes an empty message of the settings: what `options` of a service or of a listener is read into.
	Config() proto.Message
}

// Binder is an Adapter that prepares methods. What it makes is in Call.Plan when a transport of the adapter is called.
type Binder interface {
	// Bind checks the method and makes what calls of it need: names, codecs, limits. conf is the service's options, made by
	// Configured.Config; nil where the adapter has none. It is called at load, once for each method that is routed to the
	// service, and may be called by several goroutines at once. What it makes is read by many calls at once. The error says
	// why the method cannot be called over this protocol, and refuses the configuration.
	Bind(m *schema.Method, conf proto.Message) (plan any, err error)
}

// Prober is a Transport that can ask its instance whether it is well.
type Prober interface {
	// Probe asks, and waits for the answer until ctx ends. nil: it is well.
	Probe(ctx context.Context) error
}
