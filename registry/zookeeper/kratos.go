package zookeeper

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/causeway-gateway/causeway/registry"
)

// Kratos is the layout of go-kratos: the JSON of its registry.ServiceInstance, with an address for each protocol.
//
// See contrib/registry/zookeeper in go-kratos/kratos.
type Kratos struct {
	Root      string   // empty: /microservices
	Protocols []string // of the addresses, the first with one of these schemes; empty: grpc
}

type kratosInstance struct {
	ID        string            `json:"id"`
	Version   string            `json:"version"`
	Metadata  map[string]string `json:"metadata"`
	Endpoints []string          `json:"endpoints"`
}

// Places is the service's node.
func (k Kratos) Places(service string) ([]Place, error) {
	return []Place{{Path: k.services() + "/" + service}}, serviceName(service)
}

// Parse reads one instance.
func (k Kratos) Parse(_ string, _ Place, name string, data []byte) ([]registry.Endpoint, error) {
	var in kratosInstance
	if err := unmarshal(data, &in); err != nil {
		return nil, err
	}
	protocols := k.Protocols
	if len(protocols) == 0 {
		protocols = []string{"grpc"}
	}
	for _, text := range in.Endpoints {
		u, err := url.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("zookeeper: want endpoints as URLs: %w", err)
		}
		protocol, secure := u.Scheme, false
		if !slices.Contains(protocols, protocol) {
			if protocol, secure = strings.CutSuffix(protocol, "s"); !secure || !slices.Contains(protocols, protocol) {
				continue
			}
		}
		ep, err := entryAt(u.Hostname(), u.Port(), in.Metadata["weight"])
		if err != nil {
			return nil, err
		}
		ep.ID, ep.Protocol = name, protocol
		ep.TLS = secure || u.Query().Get("isSecure") == "true"
		ep.Zone = in.Metadata["zone"]
		ep.Meta = pickMeta(in.Metadata, "weight", "zone")
		if in.Version != "" {
			ep.Meta = addMeta(ep.Meta, "version", in.Version)
		}
		return []registry.Endpoint{ep}, nil
	}
	return nil, &otherProtocol{name, strings.Join(in.Endpoints, ", "), protocols} // an instance has one node, so nothing else has its name
}
