package main

import (
	"crypto/tls"
	"log/slog"
	"math"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
	"github.com/causeway-gateway/causeway/proxy"
	"github.com/causeway-gateway/causeway/proxy/fetch"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/plugin/accesslog"
	"github.com/causeway-gateway/causeway/proxy/plugin/acl"
	"github.com/causeway-gateway/causeway/proxy/plugin/adaptive"
	"github.com/causeway-gateway/causeway/proxy/plugin/basicauth"
	"github.com/causeway-gateway/causeway/proxy/plugin/cors"
	"github.com/causeway-gateway/causeway/proxy/plugin/csrf"
	"github.com/causeway-gateway/causeway/proxy/plugin/extauthz"
	"github.com/causeway-gateway/causeway/proxy/plugin/faultinjection"
	"github.com/causeway-gateway/causeway/proxy/plugin/forwardauth"
	"github.com/causeway-gateway/causeway/proxy/plugin/headers"
	"github.com/causeway-gateway/causeway/proxy/plugin/hmacauth"
	"github.com/causeway-gateway/causeway/proxy/plugin/iprestriction"
	"github.com/causeway-gateway/causeway/proxy/plugin/jwtauth"
	"github.com/causeway-gateway/causeway/proxy/plugin/keyauth"
	"github.com/causeway-gateway/causeway/proxy/plugin/limitconn"
	"github.com/causeway-gateway/causeway/proxy/plugin/limitcount"
	"github.com/causeway-gateway/causeway/proxy/plugin/limitreq"
	"github.com/causeway-gateway/causeway/proxy/plugin/metrics"
	"github.com/causeway-gateway/causeway/proxy/plugin/mirror"
	"github.com/causeway-gateway/causeway/proxy/plugin/redirect"
	"github.com/causeway-gateway/causeway/proxy/plugin/refererrestriction"
	"github.com/causeway-gateway/causeway/proxy/plugin/requestsize"
	"github.com/causeway-gateway/causeway/proxy/plugin/securityheaders"
	"github.com/causeway-gateway/causeway/proxy/plugin/tracing"
	"github.com/causeway-gateway/causeway/proxy/plugin/trafficsplit"
	"github.com/causeway-gateway/causeway/proxy/plugin/uarestriction"
	"github.com/causeway-gateway/causeway/proxy/plugin/uriblocker"
	"github.com/causeway-gateway/causeway/proxy/store"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/registry/static"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/connect"
	"github.com/causeway-gateway/causeway/rpcadapters/grpc"
	"github.com/causeway-gateway/causeway/rpcadapters/grpcweb"
	"github.com/causeway-gateway/causeway/rpcadapters/rest"
	"github.com/causeway-gateway/causeway/rpcadapters/tars"
	"github.com/causeway-gateway/causeway/rpcadapters/trpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/http1"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/http2"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/server"
)

// standard is the one list of what this build consists of. A new face, adapter, resolver, balancer or plugin is one
// folder and one line here.
func standard() (*proxy.Standard, error) {
	restFace, err := rest.New()
	if err != nil {
		return nil, err
	}
	connectFace, err := connect.NewFace()
	if err != nil {
		return nil, err
	}
	return &proxy.Standard{
		Faces: []rpcadapters.Face{
			grpc.NewFace(),
			grpcweb.NewFace(),
			trpc.NewFace(), // before Connect, which takes application/proto as well
			connectFace,
			restFace, // takes what no other face does: last
		},
		Adapters: []rpcadapters.Adapter{
			grpc.Adapter{},
			tars.Adapter{},
			trpc.Adapter{},
		},
		Inlets: []rpcadapters.Inlet{
			tars.Inlet{},
			trpc.Inlet{},
		},
		Plugins: []plugin.Kind{
			accesslog.Kind,
			acl.Kind,
			adaptive.Kind,
			basicauth.Kind,
			cors.Kind,
			csrf.Kind,
			extauthz.Kind,
			faultinjection.Kind,
			forwardauth.Kind,
			headers.Kind,
			hmacauth.Kind,
			iprestriction.Kind,
			jwtauth.Kind,
			keyauth.Kind,
			limitconn.Kind,
			limitcount.Kind,
			limitreq.Kind,
			metrics.Kind,
			mirror.Kind,
			redirect.Kind,
			refererrestriction.Kind,
			requestsize.Kind,
			securityheaders.Kind,
			tracing.Kind,
			trafficsplit.Kind,
			uarestriction.Kind,
			uriblocker.Kind,
		},
		Static: func(service string, endpoints ...registry.Endpoint) (registry.Resolver, error) {
			return static.New(service, endpoints...)
		},
		ZooKeeper: openZooKeeper,
		DNS:       openDNS,
		TARS:      openTARS,
		Fetch:     fetch.New,
		Redis: func(name string, conf *configv1.Redis, tlsConfig *tls.Config, meter *telemetry.Meter, log *slog.Logger) (proxy.Store, error) {
			return store.Open(store.Options{Name: name, Redis: conf, TLS: tlsConfig, Meter: meter, Log: log})
		},
		Engine: func(h wire.Handler, tlsConfig *tls.Config, log *slog.Logger) wire.Server {
			refused, _ := h.(http1.Refused) // the gateway, which logs and counts them
			return server.New(h, http1.New(http1.Limits{}, refused), http2.NewServer(http2.Limits{}), server.Options{TLS: tlsConfig, Conns: math.MaxInt32, Log: log})
		},
		Only: func(h wire.Handler, p wire.Protocol, tlsConfig *tls.Config, log *slog.Logger) wire.Server {
			return server.One(h, p, server.Options{TLS: tlsConfig, Conns: math.MaxInt32, Log: log})
		},
	}, nil
}
