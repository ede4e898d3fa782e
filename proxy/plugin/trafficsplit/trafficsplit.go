// Package trafficsplit is the plugin traffic_split: it sends calls of a route to one of several services.
package trafficsplit

import (
	"context"
	"fmt"
	"maps"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	trafficsplitv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/trafficsplit/v1"
	"github.com/causeway-gateway/causeway/proxy/expr"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Kind is the plugin as the list of plugins has it.
var Kind = plugin.Kind{
	Name:   "traffic_split",
	Config: func() proto.Message { return new(trafficsplitv1.TrafficSplit) },
	New:    newPlugin,
}

// split never changes once made.
type split struct {
	rules    []rule
	services []string
}

var _ plugin.Director = (*split)(nil)

// ReadsCaller implements plugin.CallerReader.
func (s *split) ReadsCaller() (reads, needs bool) {
	return slices.ContainsFunc(s.rules, func(r rule) bool { return len(r.consumers) > 0 }), true
}

// Callers implements plugin.CallerNamer.
func (s *split) Callers() []plugin.CallerName {
	var out []plugin.CallerName
	for i := range s.rules {
		for j, name := range s.rules[i].consumers {
			out = append(out, plugin.CallerName{Path: fmt.Sprintf("rules[%d].consumers[%d]", i, j), Name: name})
		}
	}
	return out
}

// Expressions implements plugin.Evaluator: the conditions of rules up to one that surely takes the call.
func (s *split) Expressions(m *schema.Method) []plugin.Expression {
	var out []plugin.Expression
	for i := range s.rules {
		r := &s.rules[i]
		if r.when == nil {
			continue
		}
		sometimes := len(r.consumers)+len(r.headers) > 0
		out = append(out, plugin.Expression{Path: fmt.Sprintf("rules[%d].when", i), Source: r.when, Sometimes: sometimes})
		if takes, _ := r.when.Holds(m, ""); takes && !sometimes {
			break
		}
	}
	return out
}

// rule takes calls for which all its conditions hold.
type rule struct {
	when      *expr.Program // nil: none
	consumers []string
	headers   []header
	targets   []target
	total     uint64 // of the weights
	sticky    key
	header    string // of the key
}

type header struct{ name, value string }

// target is a service with the sum of the weights up to its own.
type target struct {
	service string
	upTo    uint64
}

// key is what keeps a caller with one service.
type key uint8

const (
	random key = iota
	byAddress
	byConsumer
	byHeader
)

// maxWeight bounds one weight: so that no sum overflows, and because nobody means more.
const maxWeight = 1_000_000

func newPlugin(config proto.Message, _ plugin.Env) (plugin.Plugin, error) {
	conf, ok := config.(*trafficsplitv1.TrafficSplit)
	if !ok {
		return nil, fmt.Errorf("want a configuration of type %T, found %T", conf, config)
	}
	if len(conf.GetRules()) == 0 {
		return nil, plugin.Faultf("", "write rules: [{services: [{service: orders-v2, weight: 10}, {service: orders, weight: 90}]}]", "no rules")
	}
	s := &split{}
	for i, rc := range conf.GetRules() {
		at := fmt.Sprintf("rules[%d]", i)
		r, err := read(at, rc)
		if err != nil {
			return nil, err
		}
		if i+1 < len(conf.GetRules()) && r.when == nil && len(r.consumers) == 0 && len(r.headers) == 0 {
			return nil, plugin.Faultf(at, "give it a condition, or make it the last", "a rule without conditions takes every call, and others come after it")
		}
		s.rules = append(s.rules, r)
		for _, t := range r.targets {
			if !slices.Contains(s.services, t.service) {
				s.services = append(s.services, t.service)
			}
		}
	}
	return s, nil
}

func read(at string, conf *trafficsplitv1.Rule) (rule, error) {
	r := rule{consumers: conf.GetConsumers()}
	if conf.GetWhen() != "" {
		when, err := expr.Bool(conf.GetWhen())
		switch {
		case err != nil:
			return r, plugin.Faultf(at+".when", "write an expression that is true or false (https://cel.dev)", "%s", err)
		case when.AfterAnswer():
			return r, plugin.Faultf(at+".when", "ask for what is known of the request", "`answer` is not known yet")
		}
		r.when = when
	}
	for _, name := range slices.Sorted(maps.Keys(conf.GetHeaders())) {
		low := strings.ToLower(name)
		if !plugin.HeaderName(low) {
			return r, plugin.Faultf(fmt.Sprintf("%s.headers[%q]", at, name), "write letters, digits, - _ and .", "%q is not the name of a header", name)
		}
		r.headers = append(r.headers, header{low, conf.GetHeaders()[name]})
	}
	switch kind, name, _ := strings.Cut(conf.GetSticky(), " "); {
	case conf.GetSticky() == "":
	case conf.GetSticky() == "address":
		r.sticky = byAddress
	case conf.GetSticky() == "consumer":
		r.sticky = byConsumer
	case kind == "header" && plugin.HeaderName(strings.ToLower(name)):
		r.sticky, r.header = byHeader, strings.ToLower(name)
	default:
		return r, plugin.Faultf(at+".sticky", "write address, consumer, or header NAME", "%q keeps nobody", conf.GetSticky())
	}
	for i, t := range conf.GetServices() {
		at := fmt.Sprintf("%s.services[%d]", at, i)
		weight := uint64(1)
		if t.Weight != nil {
			weight = uint64(t.GetWeight())
		}
		switch {
		case t.GetService() == "":
			return r, plugin.Faultf(at, "name one of the services", "no service")
		case slices.ContainsFunc(r.targets, func(have target) bool { return have.service == t.GetService() }):
			return r, plugin.Faultf(at+".service", "add its weights up", "service %q is listed twice", t.GetService())
		case weight > maxWeight:
			return r, plugin.Faultf(at+".weight", "only what weights are to each other counts: write smaller ones", "wanted at most %d, found %d", maxWeight, weight)
		}
		r.total += weight
		r.targets = append(r.targets, target{t.GetService(), r.total})
	}
	if r.total == 0 {
		return r, plugin.Faultf(at+".services", "list services, of which one has a weight above 0", "nowhere to send calls to")
	}
	return r, nil
}

// Services implements plugin.Director.
func (s *split) Services() (chosen, called []string) { return s.services, nil }

// Wrap implements plugin.Plugin.
func (s *split) Wrap(next rpc.Handler) rpc.Handler { return &handler{s, next} }

type handler struct {
	*split
	next rpc.Handler
}

// Handle implements rpc.Handler. A condition that cannot be told refuses the call.
func (h *handler) Handle(ctx context.Context, c *rpc.Call) error {
	for i := range h.rules {
		r := &h.rules[i]
		takes, err := r.takes(ctx, c)
		if err != nil {
			return rpc.Refuse(codes.Internal, "CONDITION_FAILED", "internal error").WithCause(err)
		}
		if takes {
			c.Service = r.choose(c)
			break
		}
	}
	return h.next.Handle(ctx, c)
}

func (r *rule) takes(ctx context.Context, c *rpc.Call) (bool, error) {
	if len(r.consumers) > 0 && (c.Consumer == nil || !slices.Contains(r.consumers, c.Consumer.Name)) {
		return false, nil
	}
	for i := range r.headers {
		if !has(c, r.headers[i].name, r.headers[i].value) {
			return false, nil
		}
	}
	if r.when == nil {
		return true, nil
	}
	return r.when.Bool(ctx, c, nil)
}

// has tells whether the request has a header, or metadata, of this value.
func has(c *rpc.Call, name, value string) bool {
	want := rpc.Pair{Key: name, Value: value}
	return slices.Contains(c.Header, want) || c.HTTP != nil && slices.Contains(c.HTTP.Header, want)
}

// choose is the service of a call. The share of a service is a range of positions, in the order of the configuration: where the
// weight of the first rises, whoever was with it stays.
func (r *rule) choose(c *rpc.Call) string {
	var at uint64
	if r.sticky == random {
		at = rand.Uint64N(r.total) //nolint:gosec // load is spread; nothing here is a secret
	} else {
		at, _ = bits.Mul64(r.position(c), r.total)
	}
	i := 0
	for at >= r.targets[i].upTo {
		i++
	}
	return r.targets[i].service
}

// position is where a caller stands among all that there can be: the same on every gateway, after every start.
func (r *rule) position(c *rpc.Call) uint64 {
	switch r.sticky {
	case byConsumer:
		if c.Consumer != nil {
			return hash("c", c.Consumer.Name)
		}
	case byHeader:
		v := c.Header.Get(r.header)
		if v == "" && c.HTTP != nil {
			v = c.HTTP.Header.Get(r.header)
		}
		if v != "" {
			return hash("h", v)
		}
	case random, byAddress:
	}
	raw := c.Address().As16()
	return hash("a", string(raw[:]))
}

// hash is FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv/) with its bits mixed at the end (splitmix64), for the upper ones
// decide.
func hash(kind, s string) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for i := range len(kind) {
		h = (h ^ uint64(kind[i])) * prime
	}
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * prime
	}
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
