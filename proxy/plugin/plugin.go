// Package plugin is the contract of the chain that every call passes. One plugin is one folder below and one line in
// cmd/causeway/standard.go.
package plugin

import (
	"io"

	"google.golang.org/protobuf/proto"

	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// Plugin is one configured member of a chain. A plugin that holds resources is also an io.Closer; one that wants to see
// the end of each call is an rpc.Finisher; one that answers CORS preflights is a Preflighter. These are looked up once,
// when the chain is built.
type Plugin interface {
	// Wrap returns the handler that stands around next. It is called once per snapshot; what must outlive a snapshot
	// lives in the Plugin.
	Wrap(next rpc.Handler) rpc.Handler
}

// Preflighter is asked by the edge for a CORS preflight, on the route that the asked method would match. nil: not mine.
type Preflighter interface {
	Preflight(h *rpc.HTTP) *rpc.Answer
}

// Kind is one sort of plugin, as the list of plugins has it.
type Kind struct {
	Name   string               // as the configuration calls it: "access_log"
	Config func() proto.Message // an empty configuration message
	New    Factory
}

// Factory makes a plugin of its configuration. It runs while a snapshot is built, never on a call's path. An error
// refuses the whole snapshot.
type Factory func(config proto.Message, env Env) (Plugin, error)

// Env is what the gateway lends to plugins.
type Env struct {
	Meter *telemetry.Meter
	// Open returns a writer to a log output, shared by all who name the same one: see telemetry.Sinks.Open. The plugin
	// closes it in its Close.
	Open func(output string) (io.WriteCloser, error)
}
