// Package proxy is the gateway itself: it builds a snapshot of routes, chains and services from the configuration, swaps
// it in whole, and takes each request through it: edge, face, chain, forward, transport, and back.
package proxy

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net/netip"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
)

// Store is an open store.
type Store interface {
	plugin.Store
	io.Closer
}

// Standard is what a build of the gateway consists of: the one list is in cmd/causeway/standard.go.
type Standard struct {
	// Faces are asked in order; the last takes every request.
	Faces    []rpcadapters.Face
	Adapters []rpcadapters.Adapter
	// Inlets are the protocols whose connections are not HTTP.
	Inlets  []rpcadapters.Inlet
	Plugins []plugin.Kind
	// Static resolves the endpoints given in the configuration.
	Static func(service string, endpoints ...registry.Endpoint) (registry.Resolver, error)
	// ZooKeeper, DNS and TARS open registries; nil: this build has none of the kind. Opening does not wait for servers.
	ZooKeeper func(conf *configv1.ZooKeeper, tlsConfig *tls.Config, log *slog.Logger) (Registry, error)
	DNS       func(conf *configv1.DNS) (Registry, error)
	TARS      func(conf *configv1.TARSRegistry, tlsConfig *tls.Config) (Registry, error)
	// Redis opens the store of a name; tlsConfig nil: plain text. Opening does not wait for the server.
	Redis func(name string, conf *configv1.Redis, tlsConfig *tls.Config, meter *telemetry.Meter, log *slog.Logger) (Store, error)
	// Fetch makes HTTP requests of the gateway's own, to public addresses and those allowed.
	Fetch func(allow []netip.Prefix) plugin.Fetcher
	// Engine puts exchanges on the network; tlsConfig nil: plain text.
	Engine func(h wire.Handler, tlsConfig *tls.Config, log *slog.Logger) wire.Server
	// Only serves connections that all speak p, which is not HTTP. h says how many there may be.
	Only func(h wire.Handler, p wire.Protocol, tlsConfig *tls.Config, log *slog.Logger) wire.Server
}
