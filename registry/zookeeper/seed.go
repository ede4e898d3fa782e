package zookeeper

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/causeway-gateway/causeway/registry"
)

// Seed is the layout that apisix-seed reads: one persistent node per service, with a JSON array that somebody writes by hand
// or by program. No heartbeat stands behind it, so its instances are unverified.
//
// See internal/discoverer/zookeeper.go in api7/apisix-seed.
type Seed struct {
	Root string // empty: /zookeeper
}

// Places is the service's node.
func (s Seed) Places(service string) ([]Place, error) {
	return []Place{{Path: s.services() + "/" + service, Leaf: true}}, serviceName(service)
}

// Parse reads all instances. Those that are sound come back also when others are not.
func (s Seed) Parse(_ string, _ Place, _ string, data []byte) ([]registry.Endpoint, error) {
	var list []json.RawMessage
	if err := unmarshal(data, &list); err != nil {
		return nil, err
	}
	var faults []error
	endpoints := make([]registry.Endpoint, 0, len(list))
	for i, raw := range list {
		var in struct {
			Host     string            `json:"host"`
			Port     json.Number       `json:"port"`
			Weight   json.Number       `json:"weight"`
			Metadata map[string]string `json:"metadata"`
		}
		err := unmarshal(raw, &in)
		var ep registry.Endpoint
		if err == nil {
			ep, err = entryAt(in.Host, in.Port.String(), in.Weight.String())
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("entry %d: %w", i, err))
			continue
		}
		ep.ID, ep.Unverified, ep.Meta = ep.Address, true, in.Metadata
		endpoints = append(endpoints, ep)
	}
	return endpoints, errors.Join(faults...)
}
