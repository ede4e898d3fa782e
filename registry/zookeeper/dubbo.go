package zookeeper

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/causeway-gateway/causeway/registry"
)

// Dubbo is Dubbo's layout at the level of interfaces, which Dubbo 2 and, by default, Dubbo 3 write: everything is in the name
// of a node, a URL that is encoded once. A service is named as Dubbo names it: com.example.Foo,
// com.example.Foo:1.0.0 or group/com.example.Foo:1.0.0; without version or group those of any are taken.
//
// Weights and switches that an operator has put under "configurators" are not read.
//
// See ZookeeperRegistry.java in apache/dubbo, and registry/base_registry.go in apache/dubbo-go.
type Dubbo struct {
	Root      string   // empty: /dubbo
	Protocols []string // take only these, as in the URL: dubbo, tri, rest, grpc; empty: any
}

// Places is the interface's node of providers.
func (d Dubbo) Places(service string) ([]Place, error) {
	_, name, _ := dubboKey(service)
	if err := serviceName(name); err != nil {
		return nil, err
	}
	return []Place{{Path: d.services() + "/" + url.QueryEscape(name) + "/providers", Name: true}}, nil
}

// dubboKey cuts group/interface:version.
func dubboKey(service string) (group, name, version string) {
	group, name, found := strings.Cut(service, "/")
	if !found {
		group, name = "", service
	}
	name, version, _ = strings.Cut(name, ":")
	return group, name, version
}

// otherProtocol is the error for an entry that is sound, and speaks no protocol that is wanted. A host may have others that do.
type otherProtocol struct {
	host, speaks string
	wanted       []string
}

// Error says what was wanted and found.
func (e *otherProtocol) Error() string {
	return fmt.Sprintf("zookeeper: want an instance that speaks %s, found %s at %s", strings.Join(e.wanted, " or "), e.speaks, e.host)
}

// Parse reads a provider's URL.
func (d Dubbo) Parse(service string, _ Place, name string, _ []byte) ([]registry.Endpoint, error) {
	text, err := url.QueryUnescape(name)
	if err != nil {
		return nil, fmt.Errorf("zookeeper: want a provider's URL, encoded once: %w", err)
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("zookeeper: want a provider's URL: %w", err)
	}
	if u.Scheme == "empty" {
		return nil, nil
	}
	if u.Scheme == "" {
		return nil, errors.New("zookeeper: want a provider's URL with its protocol, found none")
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("zookeeper: want a provider's URL: %w", err)
	}
	group, wanted, version := dubboKey(service)
	if i := q.Get("interface"); i != "" && i != wanted {
		return nil, fmt.Errorf("zookeeper: want a provider of %s, found one of %q", wanted, i)
	}
	if version != "" && q.Get("version") != version || group != "" && q.Get("group") != group {
		return nil, nil
	}
	if len(d.Protocols) > 0 && !slices.Contains(d.Protocols, u.Scheme) {
		return nil, &otherProtocol{u.Hostname(), u.Scheme, d.Protocols}
	}
	ep, err := entryAt(u.Hostname(), u.Port(), q.Get("weight"))
	if err != nil {
		return nil, err
	}
	ep.Protocol, ep.Zone = u.Scheme, q.Get("zone")
	if ep.Protocol == "tri" {
		ep.Protocol = "triple"
	}
	ep.ID = u.Scheme + "://" + ep.Address
	for _, key := range []string{"group", "version", "application", "revision", "release", "serialization"} {
		if v := q.Get(key); v != "" {
			ep.Meta = addMeta(ep.Meta, key, v)
		}
	}
	// One process may offer an interface in several versions and groups.
	if v := q.Get("group") + ":" + q.Get("version"); v != ":" {
		ep.ID += "/" + v
	}
	if q.Get("enabled") == "false" || q.Get("disabled") == "true" {
		ep.Status = registry.Down
	}
	ep.Unverified = q.Get("dynamic") == "false" // its node outlives it
	return []registry.Endpoint{ep}, nil
}
