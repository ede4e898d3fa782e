package zookeeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/causeway-gateway/causeway/registry"
)

// GenericConfig describes a layout. What is known of an instance comes from named groups of the two expressions (host, port,
// address, weight, zone, status, protocol, version) and then from JSON pointers into the data, the later before the earlier.
type GenericConfig struct {
	Path string // of the node whose children are the instances, with {service} in it: "/{service}" for kitex
	Leaf bool   // the node's own data is a JSON array of instances, or lines when Data is given
	Name string // expression on a child's name: `^(?P<host>.+):(?P<port>\d+)$`
	Data string // expression on the data, which is then no JSON: `^(?P<address>[^:]+:\d+)(:(?P<weight>\d+))?$`
	// Pointers (RFC 6901) into the data by the name of what they point at: {"weight": "/Weight"}.
	Pointers map[string]string
	Up       []string // statuses that are up; empty: up, UP, true and none
	Verified bool     // nodes vanish with their instances; else they are unverified
}

// Generic is a layout that configuration describes. NewGeneric makes it.
type Generic struct {
	cfg        GenericConfig
	name, data *regexp.Regexp
}

func genericFields() []string {
	return []string{"host", "port", "address", "weight", "zone", "status", "protocol", "version"}
}

// NewGeneric checks a description.
func NewGeneric(cfg GenericConfig) (*Generic, error) {
	g := &Generic{cfg: cfg}
	if !strings.HasPrefix(cfg.Path, "/") || strings.Count(cfg.Path, "{service}") != 1 || strings.HasSuffix(cfg.Path, "/") {
		return nil, fmt.Errorf("zookeeper: want a path such as /registry/{service}, found %q", cfg.Path)
	}
	if cfg.Leaf && cfg.Name != "" {
		return nil, errors.New("zookeeper: want an expression on names only where children are instances")
	}
	var said []string
	for _, e := range []struct {
		text string
		to   **regexp.Regexp
	}{{cfg.Name, &g.name}, {cfg.Data, &g.data}} {
		if e.text == "" {
			continue
		}
		re, err := regexp.Compile(e.text)
		if err != nil {
			return nil, fmt.Errorf("zookeeper: %w", err)
		}
		*e.to = re
		for _, group := range re.SubexpNames() {
			if group != "" {
				said = append(said, group)
			}
		}
	}
	if cfg.Data != "" && len(cfg.Pointers) > 0 {
		return nil, errors.New("zookeeper: want an expression on the data or pointers into it, found both")
	}
	for field, pointer := range cfg.Pointers {
		said = append(said, field)
		if !strings.HasPrefix(pointer, "/") {
			return nil, fmt.Errorf("zookeeper: want a JSON pointer such as /weight for %s, found %q", field, pointer)
		}
	}
	for _, field := range said {
		if !slices.Contains(genericFields(), field) {
			return nil, fmt.Errorf("zookeeper: want one of %s, found %q", strings.Join(genericFields(), ", "), field)
		}
	}
	if !slices.Contains(said, "address") && !(slices.Contains(said, "host") && slices.Contains(said, "port")) {
		return nil, errors.New("zookeeper: want to be told where address, or host and port, come from")
	}
	return g, nil
}

// Places is the service's node.
func (g *Generic) Places(service string) ([]Place, error) {
	return []Place{{
		Path: strings.Replace(g.cfg.Path, "{service}", service, 1), Leaf: g.cfg.Leaf,
		Name: !g.cfg.Leaf && g.data == nil && len(g.cfg.Pointers) == 0,
	}}, serviceName(service)
}

// Parse reads one instance, or all of a leaf.
func (g *Generic) Parse(_ string, at Place, name string, data []byte) ([]registry.Endpoint, error) {
	if !at.Leaf {
		ep, err := g.parse(name, data)
		if err != nil {
			return nil, err
		}
		ep.ID = name
		return []registry.Endpoint{ep}, nil
	}
	var parts [][]byte
	if g.data != nil {
		for line := range strings.Lines(string(data)) {
			if line = strings.TrimSpace(line); line != "" {
				parts = append(parts, []byte(line))
			}
		}
	} else {
		var list []json.RawMessage
		if err := unmarshal(data, &list); err != nil {
			return nil, err
		}
		for _, raw := range list {
			parts = append(parts, raw)
		}
	}
	var faults []error
	endpoints := make([]registry.Endpoint, 0, len(parts))
	for i, part := range parts {
		ep, err := g.parse("", part)
		if err != nil {
			faults = append(faults, fmt.Errorf("entry %d: %w", i, err))
			continue
		}
		ep.ID = ep.Address
		endpoints = append(endpoints, ep)
	}
	return endpoints, errors.Join(faults...)
}

func (g *Generic) parse(name string, data []byte) (registry.Endpoint, error) {
	fields := map[string]string{}
	for _, e := range []struct {
		re   *regexp.Regexp
		text string
	}{{g.name, name}, {g.data, string(data)}} {
		if e.re == nil {
			continue
		}
		match := e.re.FindStringSubmatch(e.text)
		if match == nil {
			return registry.Endpoint{}, fmt.Errorf("zookeeper: want what fits %s, found %.200q", e.re, e.text)
		}
		for i, group := range e.re.SubexpNames() {
			if group != "" && match[i] != "" {
				fields[group] = match[i]
			}
		}
	}
	if len(g.cfg.Pointers) > 0 {
		var v any
		if err := unmarshal(data, &v); err != nil {
			return registry.Endpoint{}, err
		}
		for field, pointer := range g.cfg.Pointers {
			if text, found := pointAt(v, pointer); found {
				fields[field] = text
			}
		}
	}
	if a := fields["address"]; a != "" {
		host, port, err := net.SplitHostPort(a)
		if err != nil {
			return registry.Endpoint{}, fmt.Errorf("zookeeper: want an address as host:port, found %q", a)
		}
		fields["host"], fields["port"] = host, port
	}
	ep, err := entryAt(fields["host"], fields["port"], fields["weight"])
	if err != nil {
		return registry.Endpoint{}, err
	}
	ep.Zone, ep.Protocol, ep.Unverified = fields["zone"], fields["protocol"], !g.cfg.Verified
	if v := fields["version"]; v != "" {
		ep.Meta = addMeta(nil, "version", v)
	}
	up := g.cfg.Up
	if len(up) == 0 {
		up = []string{"", "up", "UP", "true"}
	}
	if !slices.Contains(up, fields["status"]) {
		ep.Status = registry.Down
	}
	return ep, nil
}

// pointAt follows a JSON pointer to a string, number or boolean.
func pointAt(v any, pointer string) (string, bool) {
	for step := range strings.SplitSeq(pointer[1:], "/") {
		step = strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
		switch at := v.(type) {
		case map[string]any:
			v = at[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(at) {
				return "", false
			}
			v = at[i]
		default:
			return "", false
		}
	}
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}
