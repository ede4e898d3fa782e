package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
	"github.com/causeway-gateway/causeway/proxy/certs"
	"github.com/causeway-gateway/causeway/registry"
)

// Registry is an open registry.
type Registry interface {
	// Resolver makes what watches one service there. The error is about what the configuration says of it.
	Resolver(conf *configv1.Discovery) (registry.Resolver, error)
	io.Closer
}

// openRegistry is a registry with what it was opened for.
type openRegistry struct {
	Registry
	digest string
}

// registries opens the registries, or takes over those that are unchanged, with their connections.
func (b *builder) registries() {
	for i, conf := range b.doc.Config.GetRegistries() {
		at := fmt.Sprintf("registries[%d]", i)
		raw, _ := proto.MarshalOptions{Deterministic: true}.Marshal(conf) // strings that were read as UTF-8
		digest := string(raw) + certs.Fingerprint(conf.GetZookeeper().GetTls().GetCaFile()) + certs.Fingerprint(conf.GetTars().GetTls().GetCaFile())
		if b.prev != nil {
			if old := b.prev.registries[conf.GetName()]; old != nil && old.digest == digest {
				b.snap.registries[conf.GetName()] = old
				continue
			}
		}
		r, err := b.openRegistry(conf)
		if err != nil {
			b.fault(at, "registry %q: %s", conf.GetName(), err)
			continue
		}
		b.made = append(b.made, func() { _ = r.Close() }) // the snapshot is refused for a reason that is told
		b.snap.registries[conf.GetName()] = &openRegistry{r, digest}
	}
}

func (b *builder) openRegistry(conf *configv1.Registry) (Registry, error) {
	switch kind := conf.GetKind().(type) {
	case *configv1.Registry_Zookeeper:
		if b.std.ZooKeeper == nil {
			return nil, errors.New("this gateway has no ZooKeeper")
		}
		tlsConfig, err := b.membersTLS(kind.Zookeeper.GetTls())
		if err != nil {
			return nil, err
		}
		return b.std.ZooKeeper(kind.Zookeeper, tlsConfig, b.log.With("registry", conf.GetName()))
	case *configv1.Registry_Dns:
		if b.std.DNS == nil {
			return nil, errors.New("this gateway has no DNS")
		}
		return b.std.DNS(kind.Dns)
	case *configv1.Registry_Tars:
		if b.std.TARS == nil {
			return nil, errors.New("this gateway has no registry of TARS")
		}
		tlsConfig, err := b.membersTLS(kind.Tars.GetTls())
		if err != nil {
			return nil, err
		}
		return b.std.TARS(kind.Tars, tlsConfig)
	}
	return nil, errors.New("it is of no kind") // the check of the document has it
}

// membersTLS is how the members of a registry are connected to; nil: without TLS.
func (b *builder) membersTLS(t *configv1.ClientTLS) (*tls.Config, error) {
	conf, err := clientTLS(t, "member:0", b.log)
	if conf != nil {
		conf.ServerName = t.GetServerName() // where there is none, each member has its own
		conf.NextProtos = nil
	}
	return conf, err
}
