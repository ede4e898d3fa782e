package zookeeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/causeway-gateway/causeway/registry"
)

// Curator is the JSON of Curator's x-discovery, as Spring Cloud ZooKeeper and Dubbo 3 at the level of applications write it.
// Both use the same root by default and may stand beside each other under one name: they are told apart by each instance's
// own payload. A service is an application's name.
//
// See ServiceInstance.java in apache/curator, ZookeeperInstance.java in spring-cloud-zookeeper and in apache/dubbo.
type Curator struct {
	Root      string   // empty: /services
	Protocols []string // of the endpoints that a Dubbo application names, the first that speaks one of them; empty: the first
}

type curatorInstance struct {
	Address     string         `json:"address"`
	Port        *int64         `json:"port"`
	SSLPort     *int64         `json:"sslPort"`
	Enabled     *bool          `json:"enabled"` // nil: true; Spring Cloud does not write it
	ServiceType string         `json:"serviceType"`
	Payload     curatorPayload `json:"payload"`
}

type curatorPayload struct {
	Class    string            `json:"@class"`
	Metadata map[string]string `json:"metadata"`
}

// UnmarshalJSON takes payloads of other kinds for none.
func (p *curatorPayload) UnmarshalJSON(data []byte) error {
	type plain curatorPayload
	var q plain
	if json.Unmarshal(data, &q) == nil {
		*p = curatorPayload(q)
	}
	return nil
}

// Places is the application's node.
func (c Curator) Places(service string) ([]Place, error) {
	return []Place{{Path: c.services() + "/" + service}}, serviceName(service)
}

// Parse reads one instance.
func (c Curator) Parse(_ string, _ Place, _ string, data []byte) ([]registry.Endpoint, error) {
	var in curatorInstance
	if err := unmarshal(data, &in); err != nil {
		return nil, err
	}
	var port string
	secure := false
	switch {
	case in.Port != nil && *in.Port != 0:
		port = strconv.FormatInt(*in.Port, 10)
	case in.SSLPort != nil:
		port, secure = strconv.FormatInt(*in.SSLPort, 10), true
	default:
		return nil, errors.New("zookeeper: want a port or an sslPort, found none")
	}
	protocol := ""
	meta := in.Payload.Metadata
	if text := meta["dubbo.endpoints"]; text != "" {
		var offers []struct {
			Port     int64  `json:"port"`
			Protocol string `json:"protocol"`
		}
		if err := unmarshal([]byte(text), &offers); err != nil || len(offers) == 0 {
			return nil, fmt.Errorf("zookeeper: want dubbo.endpoints as a list of ports and protocols, found %.200q", text)
		}
		at := 0
		if len(c.Protocols) > 0 {
			for at < len(offers) && !slices.Contains(c.Protocols, offers[at].Protocol) {
				at++
			}
			if at == len(offers) {
				return nil, &otherProtocol{in.Address, text, c.Protocols}
			}
		}
		port, protocol, secure = strconv.FormatInt(offers[at].Port, 10), offers[at].Protocol, false
		if protocol == "tri" {
			protocol = "triple"
		}
	}
	ep, err := entryAt(in.Address, port, meta["weight"])
	if err != nil {
		return nil, err
	}
	ep.ID, ep.TLS, ep.Protocol, ep.Zone = ep.Address, secure, protocol, meta["zone"]
	ep.Meta = pickMeta(meta, "dubbo.endpoints", "weight", "zone", "instance_status")
	switch status := meta["instance_status"]; {
	case in.Enabled != nil && !*in.Enabled, status != "" && status != "UP":
		ep.Status = registry.Down
	}
	ep.Unverified = slices.Contains([]string{"STATIC", "PERMANENT"}, in.ServiceType) // its node outlives it
	return []registry.Endpoint{ep}, nil
}
