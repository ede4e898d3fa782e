package zookeeper

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/causeway-gateway/causeway/registry"
)

const (
	maxInstance  = 8 << 10 // bytes of an instance's JSON
	maxWeight    = 1 << 20
	instanceForm = 1 // the "v" of what is read and written
)

// Instance is the data of an instance's node. instance.schema.json describes it.
type Instance struct {
	V            int               `json:"v"`
	ID           string            `json:"id"`
	Endpoints    []Offer           `json:"endpoints"`
	Weight       *int64            `json:"weight,omitempty"` // nil: 100
	Status       string            `json:"status,omitempty"` // empty: up
	Region       string            `json:"region,omitempty"`
	Zone         string            `json:"zone,omitempty"`
	Version      string            `json:"version,omitempty"`
	Schema       string            `json:"schema,omitempty"` // digest of the descriptors it was built from: "sha256:..."
	Metadata     map[string]string `json:"metadata,omitempty"`
	RegisteredAt string            `json:"registered_at,omitempty"` // RFC 3339; for people
}

// Offer is one address at which an instance speaks a protocol.
type Offer struct {
	Protocol string `json:"protocol"`
	Host     string `json:"host"`
	Port     int64  `json:"port"`
	TLS      bool   `json:"tls,omitempty"`
}

// ParseInstance reads the data of an instance's node. Fields that it does not know are passed over.
func ParseInstance(data []byte) (Instance, error) {
	var in Instance
	if len(data) > maxInstance {
		return in, fmt.Errorf("zookeeper: want an instance of at most %d bytes, found %d", maxInstance, len(data))
	}
	if !utf8.Valid(data) {
		return in, errors.New("zookeeper: want an instance in UTF-8")
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return in, fmt.Errorf("zookeeper: want an instance as JSON: %w", err)
	}
	if err := exactNames(data); err != nil {
		return in, err
	}
	return in, in.check()
}

// exactNames refuses fields that encoding/json takes for known ones in another case, and fields that stand twice: other readers do
// not, or take one of them where it takes something of both, and which holds would change when the document is written again.
func exactNames(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if _, err := d.Token(); err != nil { // the brace, or null
		return fmt.Errorf("zookeeper: want an instance as JSON: %w", err)
	}
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return fmt.Errorf("zookeeper: want an instance as JSON: %w", err)
		}
		name, _ := t.(string) // an object has no others
		if seen[name] {
			return fmt.Errorf("zookeeper: want the field %q once, found it twice", name)
		}
		seen[name] = true
		for _, known := range []string{
			"v", "id", "endpoints", "weight", "status", "region", "zone", "version", "schema", "metadata", "registered_at",
		} {
			if name != known && strings.EqualFold(name, known) {
				return fmt.Errorf("zookeeper: want the field %q, found %q", known, name)
			}
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return fmt.Errorf("zookeeper: want an instance as JSON: %w", err)
		}
	}
	return nil
}

func (in *Instance) check() error {
	if in.V != instanceForm {
		return fmt.Errorf(`zookeeper: want an instance with "v": %d, found %d`, instanceForm, in.V)
	}
	if err := instanceID(in.ID); err != nil {
		return err
	}
	if len(in.Endpoints) == 0 {
		return errors.New("zookeeper: want an endpoint, found none")
	}
	for i, o := range in.Endpoints {
		switch {
		case o.Protocol == "":
			return fmt.Errorf("zookeeper: want the protocol of endpoint %d, found none", i)
		case !validHost(o.Host):
			return fmt.Errorf("zookeeper: want the host of endpoint %d as a name or an address, found %q", i, o.Host)
		case o.Port < 1 || o.Port > 65535:
			return fmt.Errorf("zookeeper: want the port of endpoint %d within 1 to 65535, found %d", i, o.Port)
		}
	}
	if w := in.Weight; w != nil && (*w < 0 || *w > maxWeight) {
		return fmt.Errorf("zookeeper: want a weight of 0 to %d, found %d", maxWeight, *w)
	}
	_, err := parseStatus(in.Status)
	return err
}

func parseStatus(s string) (registry.Status, error) {
	switch s {
	case "", "up":
		return registry.Up, nil
	case "starting":
		return registry.Starting, nil
	case "draining":
		return registry.Draining, nil
	case "down":
		return registry.Down, nil
	}
	return registry.Down, fmt.Errorf("zookeeper: want the status up, starting, draining or down, found %q", s)
}

// validHost takes an IP address, or a name of letters, digits, "-", "_" and ".".
func validHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	if host == "" || len(host) > 253 || host[0] == '.' || host[0] == '-' {
		return false
	}
	for i := range len(host) {
		c := host[i]
		if c != '-' && c != '_' && c != '.' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return true
}

// Endpoint is the instance as a resolver sends it: with the first of its addresses that speaks one of the protocols, or with
// the first of all when none is named.
func (in *Instance) Endpoint(protocols ...string) (registry.Endpoint, error) {
	at := 0
	if len(protocols) > 0 {
		at = slices.IndexFunc(in.Endpoints, func(o Offer) bool { return slices.Contains(protocols, o.Protocol) })
		if at < 0 {
			var speaks []string
			for _, o := range in.Endpoints {
				speaks = append(speaks, o.Protocol)
			}
			return registry.Endpoint{}, fmt.Errorf("zookeeper: want an endpoint that speaks %s, found %s", strings.Join(protocols, " or "), strings.Join(speaks, ", "))
		}
	}
	o := in.Endpoints[at]
	status, err := parseStatus(in.Status)
	if err != nil {
		return registry.Endpoint{}, err
	}
	ep := registry.Endpoint{
		ID: in.ID, Address: net.JoinHostPort(o.Host, strconv.FormatInt(o.Port, 10)),
		Zone: in.Zone, Status: status, Protocol: o.Protocol, TLS: o.TLS, Weight: 100,
	}
	if in.Weight != nil {
		ep.Weight = uint32(*in.Weight) //nolint:gosec // check holds it within maxWeight
	}
	meta := maps.Clone(in.Metadata)
	for key, value := range map[string]string{"version": in.Version, "region": in.Region, "schema": in.Schema} {
		if value != "" {
			if meta == nil {
				meta = map[string]string{}
			}
			meta[key] = value
		}
	}
	ep.Meta = meta
	return ep, nil
}

// newInstance is what is written for an endpoint.
func newInstance(ep registry.Endpoint, now time.Time) (Instance, error) {
	host, number, err := net.SplitHostPort(ep.Address)
	if err != nil {
		return Instance{}, fmt.Errorf("zookeeper: want an address as host:port, found %q: %w", ep.Address, err)
	}
	port, err := strconv.ParseInt(number, 10, 32)
	if err != nil {
		return Instance{}, fmt.Errorf("zookeeper: want a port, found %q", number)
	}
	in := Instance{
		V: instanceForm, ID: ep.ID, Zone: ep.Zone,
		Endpoints:    []Offer{{Protocol: ep.Protocol, Host: host, Port: port, TLS: ep.TLS}},
		Status:       registry.Up.String(),
		RegisteredAt: now.UTC().Format(time.RFC3339),
	}
	if in.Endpoints[0].Protocol == "" {
		in.Endpoints[0].Protocol = "grpc"
	}
	if in.ID == "" {
		in.ID = strings.NewReplacer(":", "-", "%", "-").Replace(host) + "-" + number
	}
	if ep.Weight != 0 {
		w := int64(ep.Weight)
		in.Weight = &w
	}
	for key, value := range ep.Meta {
		switch key {
		case "version":
			in.Version = value
		case "region":
			in.Region = value
		case "schema":
			in.Schema = value
		default:
			if in.Metadata == nil {
				in.Metadata = map[string]string{}
			}
			in.Metadata[key] = value
		}
	}
	if err := in.check(); err != nil {
		return Instance{}, err
	}
	if data, err := json.Marshal(in); err != nil || len(data) > maxInstance-64 { // room for another status
		return Instance{}, fmt.Errorf("zookeeper: want an instance of less than %d bytes of JSON, found %d", maxInstance-64, len(data))
	}
	return in, nil
}

// WithStatus returns the data of an instance's node with another status; everything else stays, fields that are not known
// here too.
func WithStatus(data []byte, status registry.Status) ([]byte, error) {
	if _, err := ParseInstance(data); err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, fmt.Errorf("zookeeper: want an instance as JSON: %w", err)
	}
	fields["status"] = json.RawMessage(strconv.Quote(status.String()))
	return json.Marshal(fields)
}
