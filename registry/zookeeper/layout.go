package zookeeper

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/causeway-gateway/causeway/registry"
)

// Layout says where a service's instances are in the tree, and reads them. It is safe for concurrent use.
type Layout interface {
	// Places are the nodes that hold the instances of a service, or an error when it can have none.
	Places(service string) ([]Place, error)
	// Parse reads one entry: a child of the place with the name and data that it has, or the place's own data with an empty
	// name. It returns the endpoints with IDs of their own, none when the entry says that there is no instance.
	Parse(service string, at Place, name string, data []byte) ([]registry.Endpoint, error)
}

// Place is one node that holds instances.
type Place struct {
	Path string
	Leaf bool // they are in the node's own data; else each child is one
	Name bool // a child's name says everything: its data is not read
}

// serviceName reports an error for a name that cannot be one name in a path.
func serviceName(service string) error {
	if service == "" || service == "." || service == ".." || len(service) > 512 {
		return fmt.Errorf("zookeeper: want a service's name of 1 to 512 bytes, found %q", service)
	}
	for _, r := range service {
		if r == '/' || r <= 0x1f || r >= 0x7f && r <= 0x9f || r >= 0xd800 && r <= 0xf8ff || r >= 0xfff0 && r <= 0xffff {
			return fmt.Errorf("zookeeper: a service's name has no %q, found %q", r, service)
		}
	}
	return nil
}

// Native is this project's own layout, see the README.
type Native struct {
	Root      string   // empty: /causeway
	Protocols []string // of several endpoints that an instance offers, the first that speaks one of them; empty: the first
}

func (n Native) node(service string) (string, error) {
	if err := serviceName(service); err != nil {
		return "", err
	}
	return n.services() + "/" + service, nil
}

// Instances is the node whose children are a service's instances.
func (n Native) Instances(service string) (string, error) {
	at, err := n.node(service)
	return at + "/instances", err
}

// Beats is the node whose children are the beats of a service's instances.
func (n Native) Beats(service string) (string, error) {
	at, err := n.node(service)
	return at + "/beats", err
}

// Places is the service's node of instances.
func (n Native) Places(service string) ([]Place, error) {
	at, err := n.Instances(service)
	return []Place{{Path: at}}, err
}

// Parse reads an instance. The node's name must be its id.
func (n Native) Parse(_ string, _ Place, name string, data []byte) ([]registry.Endpoint, error) {
	in, err := ParseInstance(data)
	if err != nil {
		return nil, err
	}
	if in.ID != name {
		return nil, fmt.Errorf("zookeeper: want the id of an instance to be its node's name %q, found %q", name, in.ID)
	}
	ep, err := in.Endpoint(n.Protocols...)
	if err != nil {
		return nil, err
	}
	return []registry.Endpoint{ep}, nil
}

// instanceID reports an error for an id that cannot be a node's name.
func instanceID(id string) error {
	if len(id) > 256 || strings.TrimSpace(id) != id {
		return fmt.Errorf("zookeeper: want an id of 1 to 256 bytes without blanks around it, found %q", id)
	}
	if err := serviceName(id); err != nil {
		return fmt.Errorf("zookeeper: want an id that can be a node's name, found %q", id)
	}
	return nil
}

const maxForeign = 256 << 10 // bytes of data in layouts of others; one that lists all instances in one node may be large

// unmarshal reads JSON of others.
func unmarshal(data []byte, v any) error {
	if len(data) > maxForeign {
		return fmt.Errorf("zookeeper: want at most %d bytes, found %d", maxForeign, len(data))
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("zookeeper: want JSON: %w", err)
	}
	return nil
}

// entryAt is an endpoint of another's layout, without an ID. A weight that is not given is 100.
func entryAt(host, port, weight string) (registry.Endpoint, error) {
	if !validHost(host) {
		return registry.Endpoint{}, fmt.Errorf("zookeeper: want a host as a name or an address, found %q", host)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return registry.Endpoint{}, fmt.Errorf("zookeeper: want a port within 1 to 65535, found %q", port)
	}
	ep := registry.Endpoint{Address: net.JoinHostPort(host, port), Weight: 100}
	if weight != "" {
		n, err := strconv.ParseUint(weight, 10, 32)
		if err != nil || n > maxWeight {
			return registry.Endpoint{}, fmt.Errorf("zookeeper: want a weight of 0 to %d, found %q", maxWeight, weight)
		}
		ep.Weight = uint32(n)
	}
	return ep, nil
}

func addMeta(meta map[string]string, key, value string) map[string]string {
	if meta == nil {
		meta = map[string]string{}
	}
	meta[key] = value
	return meta
}

// pickMeta copies metadata without some keys; nil when nothing is left.
func pickMeta(meta map[string]string, without ...string) map[string]string {
	var out map[string]string
	for key, value := range meta {
		if !slices.Contains(without, key) {
			out = addMeta(out, key, value)
		}
	}
	return out
}
