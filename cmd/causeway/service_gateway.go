package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/causeway-gateway/causeway/registry/zookeeper"
)

// gatewayService is what a gateway says of a service. Fields that it does not send are empty; those that are not known here
// are passed over.
type gatewayService struct {
	Service   string            `json:"service"`
	Sources   []gatewaySource   `json:"sources"`
	Instances []gatewayInstance `json:"instances"`

	raw json.RawMessage
}

type gatewaySource struct {
	Name         string            `json:"name"`
	Key          string            `json:"key"` // the service's name there
	StaleSeconds optional[float64] `json:"stale_seconds"`
	Error        string            `json:"error"`
	Skipped      optional[float64] `json:"skipped"`
	Instances    optional[float64] `json:"instances"`
	Known        optional[bool]    `json:"known"`
	Snapshot     optional[float64] `json:"snapshot_age_seconds"` // the instances are those of a snapshot that old
	Suspects     optional[float64] `json:"suspects"`
}

type gatewayInstance struct {
	Address   string            `json:"address"`
	IDs       []string          `json:"ids"`
	Priority  optional[float64] `json:"priority"`
	Zone      string            `json:"zone"`
	Status    string            `json:"status"`
	Weight    optional[float64] `json:"weight"`
	Effective optional[float64] `json:"effective_weight"`
	Health    struct {
		Known optional[bool] `json:"known"`
		Up    optional[bool] `json:"up"`
		Since string         `json:"since"`
		Error string         `json:"error"`
	} `json:"health"`
	Ejected struct {
		Until  string `json:"until"`
		Reason string `json:"reason"`
		Detail string `json:"detail"`
	} `json:"ejected"`
	BeatAge  optional[float64] `json:"beat_age_seconds"`
	Load     optional[float64] `json:"load"`
	InFlight optional[float64] `json:"in_flight"`
	Latency  optional[float64] `json:"latency_seconds"`
	Used     optional[bool]    `json:"used"`
	Panic    optional[bool]    `json:"panic"`
	Why      string            `json:"why"`
}

// optional is a value that may not be sent, or be of another type.
type optional[T any] struct {
	value T
	has   bool
}

// UnmarshalJSON takes what is of another type for nothing.
func (o *optional[T]) UnmarshalJSON(raw []byte) error {
	var v *T
	if json.Unmarshal(raw, &v) == nil && v != nil {
		o.value, o.has = *v, true
	}
	return nil
}

// lenient decodes what another version may send: a field of another type stays empty, the others are taken.
func lenient(raw []byte, into any) error {
	err := json.Unmarshal(raw, into)
	if _, is := errors.AsType[*json.UnmarshalTypeError](err); is {
		return nil
	}
	return err
}

const servicesPath = "/api/v1/services"

// services asks the gateway for a service by the name that it has there, or by its name in a registry.
func (c *client) services(ctx context.Context, name string) ([]gatewayService, error) {
	var raw json.RawMessage
	err := c.get(ctx, servicesPath+"/"+url.PathEscape(name), &raw)
	if err == nil {
		s := gatewayService{raw: raw}
		err := lenientInto(&s)
		return []gatewayService{s}, err
	}
	var refused *exitError
	if !errors.As(err, &refused) || refused.code != exitFailure {
		return nil, err // nobody there, or denied
	}
	all, listed := c.allServices(ctx)
	if listed != nil {
		return nil, fmt.Errorf("the gateway at %s does not tell of its services: %w", c.address, listed)
	}
	var found []gatewayService
	for _, s := range all {
		if !slices.ContainsFunc(s.Sources, func(src gatewaySource) bool { return src.Key == name }) {
			continue
		}
		if c.get(ctx, servicesPath+"/"+url.PathEscape(s.Service), &raw) == nil {
			s = gatewayService{raw: raw}
			if err := lenientInto(&s); err != nil {
				return nil, err
			}
		}
		found = append(found, s)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("the gateway at %s has no service that is, or is resolved as, %q", c.address, name)
	}
	return found, nil
}

func lenientInto(s *gatewayService) error { return lenient(s.raw, s) }

// allServices lists what the gateway has, which may come bare or as a member "services".
func (c *client) allServices(ctx context.Context) ([]gatewayService, error) {
	var raw json.RawMessage
	if err := c.get(ctx, servicesPath, &raw); err != nil {
		return nil, err
	}
	var wrapped struct {
		Services []json.RawMessage `json:"services"`
	}
	items := []json.RawMessage{}
	if json.Unmarshal(raw, &items) != nil {
		if err := lenient(raw, &wrapped); err != nil {
			return nil, err
		}
		items = wrapped.Services
	}
	all := make([]gatewayService, len(items))
	for i, item := range items {
		all[i].raw = item
		if err := lenientInto(&all[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// write prints what the gateway says: all of it, or, with an id, of the instance that entries hold.
func (g *gatewayService) write(w io.Writer, address, id string, entries []zookeeper.Entry) error {
	p := printer{w: w}
	p.printf("\ngateway %s, service %s\n", address, g.Service)
	for _, s := range g.Sources {
		p.printf("  source %s\n", s)
	}
	if p.err != nil {
		return p.err
	}
	return table(w, "  ADDRESS\tUSED\tSTATUS\tPRIORITY\tZONE\tWEIGHT\tEFFECTIVE\tHEALTH\tLATENCY\tBEAT\tLOAD\tIN FLIGHT\tWHY", func(row func(...any)) {
		for _, i := range g.Instances {
			if id != "" && !i.is(id, entries) {
				continue
			}
			row("  "+i.Address, i.takes(), dash(i.Status), figure(i.Priority), dash(i.Zone), figure(i.Weight), figure(i.Effective), i.health(), latency(i.Latency), seconds(i.BeatAge), figure(i.Load), figure(i.InFlight), dash(i.reason()))
		}
	})
}

// takes says whether it takes calls: by rights, or only because hardly anybody is well.
func (i *gatewayInstance) takes() string {
	if i.Panic.value && !i.Used.value {
		return "in panic"
	}
	return yesNo(i.Used)
}

// String is a source in one line.
func (s gatewaySource) String() string {
	text := s.Name
	if s.Key != "" && s.Key != s.Name {
		text += ", as " + s.Key
	}
	if s.Instances.has {
		text += ", " + figure(s.Instances) + " instances"
	}
	if s.Skipped.value > 0 {
		text += ", " + figure(s.Skipped) + " left out"
	}
	if s.Suspects.value > 0 {
		text += ", " + figure(s.Suspects) + " suspects, which the registry has lost"
	}
	switch {
	case s.Snapshot.has:
		text += ", from a snapshot of " + seconds(s.Snapshot) + " ago"
	case s.Known.has && !s.Known.value:
		text += ", not known yet"
	}
	if s.StaleSeconds.value > 0 {
		text += ", stale for " + seconds(s.StaleSeconds)
	}
	if s.Error != "" {
		text += ": " + s.Error
	}
	return text
}

// is reports whether this is the instance asked for by its id or address.
func (i *gatewayInstance) is(id string, entries []zookeeper.Entry) bool {
	if i.Address == id || slices.Contains(i.IDs, id) {
		return true
	}
	for _, e := range entries {
		for _, ep := range e.Endpoints {
			if ep.Address == i.Address {
				return true
			}
		}
	}
	return false
}

func (i *gatewayInstance) health() string {
	switch {
	case i.Health.Known.has && !i.Health.Known.value:
		return "not known"
	case !i.Health.Up.has:
		return "-"
	}
	text := "failing"
	if i.Health.Up.value {
		text = "ok"
	}
	if since, err := time.Parse(time.RFC3339, i.Health.Since); err == nil && !since.IsZero() {
		text += " for " + ago(age(time.Now(), since))
	}
	return text
}

// reason is why it is used or not, with what the gateway's own fields say beside.
func (i *gatewayInstance) reason() string {
	var parts []string
	add := func(s string) {
		if s = oneLine(s); s != "" && !strings.Contains(strings.Join(parts, "; "), s) {
			parts = append(parts, s)
		}
	}
	add(i.Why)
	if !i.Health.Up.value {
		add(i.Health.Error)
	}
	add(i.Ejected.Reason)
	add(i.Ejected.Detail)
	if until, err := time.Parse(time.RFC3339, i.Ejected.Until); err == nil && until.After(time.Now()) {
		add("ejected for another " + ago(time.Until(until)))
	}
	return strings.Join(parts, "; ")
}

func yesNo(b optional[bool]) string {
	switch {
	case !b.has:
		return "-"
	case b.value:
		return "yes"
	}
	return "no"
}

func figure(n optional[float64]) string {
	if !n.has {
		return "-"
	}
	return strconv.FormatFloat(n.value, 'g', 4, 64)
}

// latency is of calls, whose seconds are few.
func latency(n optional[float64]) string {
	if !n.has {
		return "-"
	}
	switch {
	case n.value >= 100:
		return seconds(n)
	case n.value >= 1:
		return strconv.FormatFloat(n.value, 'f', 2, 64) + "s"
	case n.value >= 0.01:
		return strconv.FormatFloat(n.value*1000, 'f', 0, 64) + "ms"
	}
	return strconv.FormatFloat(n.value*1000, 'g', 3, 64) + "ms"
}

func seconds(n optional[float64]) string {
	if !n.has {
		return "-"
	}
	return ago(time.Duration(n.value * float64(time.Second)))
}
