package config

import (
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"time"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

func (k *checker) plugins(path string, ps []*configv1.Plugin) {
	for i, p := range ps {
		at := item(path, i)
		switch {
		case k.failed(at) || k.failed(at+".name"):
		case len(p.GetAnyOf()) > 0 || k.written(at+".any_of"):
			k.anyOf(at, p)
		case p.GetName() == "":
			k.missing(at, "name", "name a plugin: "+list(k.types.Plugins.names()))
		default:
			k.pluginNamed(at+".name", "plugin", p.GetName(), k.types.Plugins)
		}
	}
}

// anyOf checks plugins of which one has to accept a call.
func (k *checker) anyOf(at string, p *configv1.Plugin) {
	switch {
	case p.GetName() != "" || p.GetConfig() != nil:
		k.fault(at, "move it into any_of as a plugin of its own", "`any_of` stands beside `name` or `config`")
	case len(p.GetAnyOf()) < 2 && !k.failed(at+".any_of"):
		k.fault(at+".any_of", "list two or more, or write the one without any_of", "wanted at least two plugins, found %d", len(p.GetAnyOf()))
	}
	for i, m := range p.GetAnyOf() {
		if one := item(at+".any_of", i); len(m.GetAnyOf()) > 0 {
			k.fault(one+".any_of", "list its plugins in the outer one", "`any_of` within `any_of`")
		} else if m.GetWhen() != "" {
			k.fault(one+".when", "write it beside the outer any_of", "`when` on one of several ways of authentication")
		}
	}
	k.plugins(at+".any_of", p.GetAnyOf())
}

// pluginNamed checks the name of a plugin at path against those that have something; kind says what.
func (k *checker) pluginNamed(path, kind, name string, known Messages) {
	if known == nil || known[name] != nil {
		return
	}
	near := schema.DidYouMean(name, known.names())
	if k.show(path, "") == mask {
		near = ""
	}
	fix := "name one of: " + list(known.names())
	if len(known) == 0 {
		fix = "remove it: this gateway has none"
	}
	k.fault(path, fix, "unknown %s %s%s", kind, k.show(path, name), near)
}

func (k *checker) consumer(path string, c *configv1.Consumer) {
	if k.failed(path) {
		return
	}
	for i, cr := range c.GetCredentials() {
		at := item(path+".credentials", i)
		switch {
		case k.failed(at) || k.failed(at+".plugin"):
		case cr.GetPlugin() == "":
			k.missing(at, "plugin", "name a plugin of authentication: "+list(k.types.Credentials.names()))
		default:
			k.pluginNamed(at+".plugin", "plugin of authentication", cr.GetPlugin(), k.types.Credentials)
		}
	}
	for i, g := range c.GetGroups() {
		if at := item(path+".groups", i); !k.failed(at) && !validName.MatchString(g) {
			k.fault(at, k.suggest(at, nameRule), "%s is not the name of a group", k.show(at, g))
		}
	}
	k.plugins(path+".plugins", c.GetPlugins())
}

// maxStoreTimeout bounds how long a call waits for a store.
const maxStoreTimeout = 5 * time.Second

func (k *checker) store(path string, s *configv1.Store) {
	if k.failed(path) {
		return
	}
	r := s.GetRedis()
	at := path + ".redis"
	switch {
	case k.failed(at):
		return
	case r == nil:
		k.fault(path, "add redis: {addresses: [\"127.0.0.1:6379\"]}", "no kind of store")
		return
	case len(r.GetAddresses()) == 0 && !k.tried(at+".addresses"):
		k.missing(at, "addresses", "list the host:port of the server, or of members of the cluster")
	}
	for i, a := range r.GetAddresses() {
		k.address(item(at+".addresses", i), a, dialing)
	}
	k.limit(at+".database", int64(r.GetDatabase()), math.MaxInt16)
	if r.GetDatabase() > 0 && len(r.GetAddresses()) > 1 {
		k.fault(at+".database", "remove it", "a cluster has no databases but the first")
	}
	k.between(at+".timeout", r.GetTimeout(), maxStoreTimeout)
	k.clientTLS(at+".tls", r.GetTls())
}

// networks checks a list of networks and addresses.
func (k *checker) networks(path string, nets []string) {
	for i, n := range nets {
		at := item(path, i)
		if k.failed(at) {
			continue
		}
		if _, err := Network(n); err != nil {
			k.fault(at, "write a network (10.0.0.0/8, fd00::/8) or an address", "%s is not a network", k.show(at, n))
		} else if p, err := netip.ParsePrefix(n); err == nil && p.Masked() != p {
			k.fault(at, k.suggest(at, "write "+p.Masked().String()), "%s has bits beyond its length", k.show(at, n))
		}
	}
}

// Network reads a network, or an address as a network of one. IPv4 in the form of IPv6 (::ffff:10.0.0.0/104) is IPv4, which
// the addresses that it is held against are too.
func Network(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.Unmap().WithZone("")
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || !p.Addr().Is4In6() {
		return p, err
	}
	if p.Bits() < 96 {
		return p, fmt.Errorf("%q is neither of IPv4 nor of IPv6", s)
	}
	return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96), nil
}

func (k *checker) telemetry(path string, t *configv1.Telemetry) {
	o := t.GetOtlp()
	at := path + ".otlp"
	if o == nil || k.failed(path) || k.failed(at) {
		return
	}
	switch o.GetProtocol() {
	case "grpc", "":
		if o.GetEndpoint() != "" {
			k.address(at+".endpoint", o.GetEndpoint(), dialing)
		}
	case "http":
		if u, err := url.Parse(o.GetEndpoint()); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Path != "" && u.Path != "/" {
			k.fault(at+".endpoint", "write the URL of a collector: http://127.0.0.1:4318", "wanted an URL without path, found %s", k.show(at+".endpoint", o.GetEndpoint()))
		}
	default:
		k.fault(at+".protocol", "write grpc or http", "unknown protocol %s%s", k.show(at+".protocol", o.GetProtocol()), schema.DidYouMean(o.GetProtocol(), []string{"grpc", "http"}))
	}
	if o.GetEndpoint() == "" {
		k.missing(at, "endpoint", "write the address of a collector: 127.0.0.1:4317")
	}
	for i, s := range o.GetSignals() {
		if one := item(at+".signals", i); s != "traces" && s != "metrics" && s != "logs" && !k.failed(one) {
			k.fault(one, "name any of traces, metrics, logs", "unknown signal %s", k.show(one, s))
		}
	}
	k.timeout(at+".interval", o.GetInterval())
	k.timeout(at+".timeout", o.GetTimeout())
	k.clientTLS(at+".tls", o.GetTls())
}
