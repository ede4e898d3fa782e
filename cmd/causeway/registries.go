package main

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
	"github.com/causeway-gateway/causeway/proxy"
	"github.com/causeway-gateway/causeway/proxy/config"
	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/registry/dns"
	"github.com/causeway-gateway/causeway/registry/tars"
	"github.com/causeway-gateway/causeway/registry/zookeeper"
)

// openZooKeeper connects in the background.
func openZooKeeper(conf *configv1.ZooKeeper, tlsConfig *tls.Config, log *slog.Logger) (proxy.Registry, error) {
	allow, err := networks(conf.GetAllow())
	if err != nil {
		return nil, err
	}
	z := &zooKeeper{root: conf.GetRoot(), allow: allow}
	z.conn, err = zookeeper.Connect(zookeeper.Config{
		Servers: conf.GetServers(),
		Root:    conf.GetRoot(),
		Session: conf.GetSession().AsDuration(),
		Auth:    conf.GetAuth(),
		TLS:     tlsConfig,
		Log:     log,
	})
	return z, err
}

// networks reads what the check of the document has looked at.
func networks(list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, n := range list {
		p, err := config.Network(n)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// zooKeeper is a connection that the services of one registry share.
type zooKeeper struct {
	conn  *zookeeper.Conn
	root  string
	allow []netip.Prefix
}

// Close ends the connection.
func (z *zooKeeper) Close() error {
	z.conn.Close()
	return nil
}

// Resolver makes a resolver for a layout.
func (z *zooKeeper) Resolver(conf *configv1.Discovery) (registry.Resolver, error) {
	layout, err := z.layout(conf)
	if err != nil {
		return nil, err
	}
	return &zookeeper.Resolver{Conn: z.conn, Layout: layout, Allow: z.allow, Beats: conf.GetBeats().AsDuration()}, nil
}

func (z *zooKeeper) layout(conf *configv1.Discovery) (zookeeper.Layout, error) {
	switch root, speaks := conf.GetRoot(), conf.GetProtocols(); conf.GetLayout() {
	case "", "native":
		return zookeeper.Native{Root: cmp.Or(root, z.root), Protocols: speaks}, nil
	case "dubbo":
		return zookeeper.Dubbo{Root: root, Protocols: speaks}, nil
	case "curator":
		return zookeeper.Curator{Root: root, Protocols: speaks}, nil
	case "kratos":
		return zookeeper.Kratos{Root: root, Protocols: speaks}, nil
	case "seed":
		return zookeeper.Seed{Root: root}, nil
	case "generic":
		g := conf.GetGeneric()
		l, err := zookeeper.NewGeneric(zookeeper.GenericConfig{
			Path: g.GetPath(), Leaf: g.GetLeaf(), Name: g.GetName(), Data: g.GetData(), Pointers: g.GetPointers(), Up: g.GetUp(), Verified: g.GetVerified(),
		})
		if err != nil {
			return nil, fmt.Errorf("generic: %s", strings.TrimPrefix(err.Error(), "zookeeper: "))
		}
		return l, nil
	}
	return nil, fmt.Errorf("there is no layout %q", conf.GetLayout()) // the check of the document has it
}

// openDNS asks when services are watched.
func openDNS(conf *configv1.DNS) (proxy.Registry, error) { return dnsServer{conf}, nil }

type dnsServer struct{ conf *configv1.DNS }

// Close has nothing to end.
func (dnsServer) Close() error { return nil }

// Resolver makes a resolver for any name.
func (d dnsServer) Resolver(*configv1.Discovery) (registry.Resolver, error) {
	return &dns.Resolver{Server: d.conf.GetServer(), Interval: d.conf.GetInterval().AsDuration()}, nil
}

// openTARS connects when services are watched.
func openTARS(conf *configv1.TARSRegistry, tlsConfig *tls.Config) (proxy.Registry, error) {
	at, err := tars.ParseLocator(conf.GetLocator())
	if err != nil {
		return nil, fmt.Errorf("locator: %w", err)
	}
	if conf.GetTls() != nil && !at.Secure() {
		return nil, errors.New("tls: no endpoint of the locator is called by TLS: write ssl instead of tcp before those that are, or remove tls")
	}
	allow, err := networks(conf.GetAllow())
	if err != nil {
		return nil, err
	}
	r, err := tars.Open(at, tlsConfig)
	if err != nil {
		return nil, fmt.Errorf("locator: %w", err)
	}
	return &tarsRegistry{r, conf, allow}, nil
}

type tarsRegistry struct {
	registry *tars.Registry
	conf     *configv1.TARSRegistry
	allow    []netip.Prefix
}

// Close ends the connections.
func (t *tarsRegistry) Close() error {
	t.registry.Close()
	return nil
}

// Resolver makes a resolver for any servant.
func (t *tarsRegistry) Resolver(*configv1.Discovery) (registry.Resolver, error) {
	return &tars.Resolver{Registry: t.registry, Interval: t.conf.GetInterval().AsDuration(), Allow: t.allow}, nil
}
