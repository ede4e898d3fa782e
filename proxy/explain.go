package proxy

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/transcode/httprule"
	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Question is a request to explain; nothing is sent.
type Question struct {
	Method  string   // the HTTP verb, or another protocol: "tars"
	URL     string   // absolute, or a path with query; of another protocol, what the method is called by
	Headers []string // "Name: value"
}

// Explanation says which route takes a request, what it binds, and why the others do not.
type Explanation struct {
	Method string `json:"method"`
	Host   string `json:"host,omitempty"`
	Path   string `json:"path"`
	Fault  string `json:"fault,omitempty"` // why the request is refused before or while it is matched
	Taken  *Taken `json:"taken,omitempty"`
	// Others are the bindings that came nearest, best first.
	Others []Other `json:"others,omitempty"`
	// More is how many further bindings there are.
	More int `json:"more,omitempty"`
}

// Taken is the route and binding that match.
type Taken struct {
	Route      string   `json:"route"`
	Rule       string   `json:"rule"`
	RPC        string   `json:"rpc"`
	Kind       string   `json:"kind"`
	Bound      []Bound  `json:"bound,omitempty"`
	Body       string   `json:"body"`
	Response   string   `json:"response,omitempty"`
	Plugins    []string `json:"plugins,omitempty"`
	Timeout    string   `json:"timeout,omitempty"`
	Service    string   `json:"service"`
	Schema     string   `json:"schema"`
	Instances  []string `json:"instances,omitempty"`
	Conditions []string `json:"conditions,omitempty"`
	// Also are the listeners that do not speak HTTP, one for each way in which they name methods.
	Also []Also `json:"also,omitempty"`
	// Fault is what the call would be refused for before it is sent.
	Fault string `json:"fault,omitempty"`
}

// Also is how a method is called over a protocol that is not HTTP.
type Also struct {
	Protocol string   `json:"protocol"`
	Names    []string `json:"names,omitempty"`
	Why      string   `json:"why,omitempty"` // it is not served there
	// Refused is why a plugin refuses the calls that come so.
	Refused string `json:"refused,omitempty"`
}

// Bound is one field set from outside the body.
type Bound struct {
	Field string `json:"field"`
	Value string `json:"value"`
	From  string `json:"from"`
}

// Other is a binding that does not take the request.
type Other struct {
	Route string `json:"route"`
	Rule  string `json:"rule"`
	Why   string `json:"why"`

	rank int
}

// maxOthers is how many of the bindings that do not match are told.
const maxOthers = 8

// Explain tells what would become of a request.
func (s *Snapshot) Explain(q Question) Explanation {
	x, e := question(q)
	if e.Fault != "" {
		return e
	}
	for _, key := range slices.Sorted(maps.Keys(s.inlets)) {
		if strings.EqualFold(s.inlets[key].protocol, q.Method) {
			return s.explainCall(q, x.HTTP.Header)
		}
	}
	var err error
	if x.Segments, err = httprule.AppendSegments(nil, x.HTTP.Path); err != nil {
		e.Fault = err.Error()
		return e
	}
	t, vars, ok := s.find(x, x.HTTP.Method, nil)
	if ok {
		e.Taken = s.taken(x, t, vars)
	} else {
		e.Fault = s.unmatched(x, "").Message
	}
	for _, p := range s.targets {
		if t != nil && p.rule == t.rule && p.route == t.route {
			continue
		}
		e.Others = append(e.Others, other(p, x, t))
	}
	slices.SortStableFunc(e.Others, func(a, b Other) int { return cmp.Compare(b.rank, a.rank) })
	if len(e.Others) > maxOthers {
		e.More = len(e.Others) - maxOthers
		e.Others = e.Others[:maxOthers]
	}
	return e
}

// question makes an exchange of a question; faults of its own are in the explanation.
func question(q Question) (*wire.Exchange, Explanation) {
	x := &wire.Exchange{Proto: "HTTP/1.1"}
	raw := q.URL
	x.HTTP.Method = strings.ToUpper(q.Method)
	if scheme, rest, ok := strings.Cut(raw, "://"); ok {
		host, path, _ := strings.Cut(rest, "/")
		x.HTTP.Scheme, raw = scheme, "/"+path
		if u, err := url.Parse("//" + host); err == nil {
			x.HTTP.Host = rpc.Lower(u.Hostname())
		}
	}
	x.HTTP.Path, x.HTTP.Query, _ = strings.Cut(raw, "?")
	for _, h := range q.Headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok {
			return x, Explanation{Method: x.HTTP.Method, Path: x.HTTP.Path, Fault: fmt.Sprintf("header %q: want Name: value", h)}
		}
		name, value = rpc.Lower(strings.TrimSpace(name)), strings.TrimSpace(value)
		if name == "host" {
			x.HTTP.Host = rpc.Lower(value)
			continue
		}
		x.HTTP.Header.Add(name, value)
	}
	return x, Explanation{Method: x.HTTP.Method, Host: x.HTTP.Host, Path: x.HTTP.Path}
}

// explainCall is Explain for a call over a protocol that is not HTTP.
func (s *Snapshot) explainCall(q Question, header rpc.Metadata) Explanation {
	e := Explanation{Method: q.Method, Path: q.URL, Fault: "no method " + printable(q.URL) + " is served there"}
	for _, key := range slices.Sorted(maps.Keys(s.inlets)) {
		table := s.inlets[key]
		if !strings.EqualFold(table.protocol, q.Method) {
			continue
		}
		to := table.find(q.URL, header)
		for i := range table.names[q.URL] {
			t := &table.names[q.URL][i]
			o := Other{Route: t.route.label(), Rule: table.protocol + " " + q.URL, Why: "one that is asked before takes it"}
			if why := failing(t.route, header); why != "" {
				o.Why = "its condition does not hold: " + why
			}
			if t != to {
				e.Others = append(e.Others, o)
			}
		}
		if to != nil && e.Taken == nil {
			e.Fault, e.Taken = "", s.takenBy(to.route, to.method)
			e.Taken.Rule, e.Taken.Body = table.protocol+" "+q.URL, "the whole "+to.method.Input.Name
			e.Taken.Fault = to.route.refused(to.method, table.protocol)
		}
		for _, u := range table.left {
			if e.Taken == nil && strings.HasSuffix(q.URL, string(u.method.Desc.Name())) {
				e.Others = append(e.Others, Other{Route: u.method.Name[1:], Rule: table.protocol, Why: u.why.Error()})
			}
		}
	}
	return e
}

// takenBy is what a route makes of the calls of a method, however they come.
func (s *Snapshot) takenBy(r *route, m *schema.Method) *Taken {
	out := &Taken{
		Route: r.label(), RPC: m.Name[1:], Kind: m.Kind.String(), Plugins: r.chain, Timeout: r.Timeout.String(), Service: r.Service,
	}
	for i := range r.conditions {
		out.Conditions = append(out.Conditions, r.conditions[i].String())
	}
	if r.service != nil { // else the gateway's own
		out.Schema = r.service.schema.name
		for _, n := range r.service.up.Nodes() {
			out.Instances = append(out.Instances, n.Address)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.inlets)) {
		a := Also{Protocol: s.inlets[key].protocol}
		a.Names, a.Why = s.inlets[key].of(m)
		if a.Why == "" {
			a.Refused = r.refused(m, a.Protocol)
		}
		out.Also = append(out.Also, a)
	}
	return out
}

func (s *Snapshot) taken(x *wire.Exchange, t *target, vars []string) *Taken {
	b := t.rule
	out := s.takenBy(t.route, b.Method)
	out.Rule = b.Verb + " " + b.Template.String()
	switch b.Body {
	case httprule.NoBody:
		out.Body = "not read"
	case httprule.WholeBody:
		out.Body = "the whole " + b.Method.Input.Name
	case httprule.FieldBody:
		out.Body = "field " + b.BodyField.String()
	}
	if b.RawBody {
		out.Body += ", of any type"
	}
	if b.Mask != nil {
		out.Body += "; " + b.Mask.String() + " lists what it gives"
	}
	if b.ResponseBody != nil {
		out.Response = "field " + b.ResponseBody.String()
	}
	out.bind(x, t, vars)
	return out
}

// bind lists what path and query give, and finds what the call would be refused for whatever its body is.
func (out *Taken) bind(x *wire.Exchange, t *target, vars []string) {
	b, m := t.rule, t.rule.Method.Input
	r := jsonwire.Request{Message: m, BodyField: b.BodyField}
	for i, p := range b.Vars {
		r.Params = jsonwire.AppendPath(r.Params, p, vars[i], &b.Query)
	}
	var err error
	if x.HTTP.Query != "" {
		r.Params, err = jsonwire.AppendQuery(r.Params, m, x.HTTP.Query, t.route.JSON, &b.Query)
	}
	for i := range r.Params {
		p := &r.Params[i]
		field := p.Field.String()
		if p.Key != "" {
			field += "[" + p.Key + "]"
		}
		out.Bound = append(out.Bound, Bound{field, p.Value, p.From.String()})
	}
	if err == nil && (b.Body == httprule.NoBody || !m.HasRequired) {
		_, err = jsonwire.AppendRequest(nil, &r, t.route.JSON)
	}
	if err != nil {
		out.Fault = err.Error()
	}
}

// other says why a target does not take the request; the rank is how near it came.
func other(p placed, x *wire.Exchange, taken *target) Other {
	o := Other{Route: p.route.label(), Rule: p.rule.String()}
	fits, why := p.rule.Template.Mismatch(x.Segments)
	o.rank = fits
	const near = 1 << 16 // a path that fits outranks one that does not
	switch {
	case why != "":
		o.Why = why
	case !p.rule.Takes(x.HTTP.Method):
		o.rank += near
		o.Why = fmt.Sprintf("it takes %s, not %s", p.rule.Verb, x.HTTP.Method)
	case !hostFits(p.host, x.HTTP.Host):
		o.rank += 2 * near
		o.Why = fmt.Sprintf("it answers for host %s, not %q", p.host, x.HTTP.Host)
	case !admit(p.target, x):
		o.rank += 3 * near
		o.Why = "its condition does not hold: " + failing(p.route, x.HTTP.Header)
	case taken != nil && p.route.priority < taken.route.priority:
		o.rank += 4 * near
		o.Why = "its priority is lower"
	default:
		o.rank += 5 * near
		o.Why = "it fits, but the one taken is more specific"
	}
	return o
}

func hostFits(pattern, host string) bool {
	if rest, ok := strings.CutPrefix(pattern, "*"); ok {
		return strings.HasSuffix(host, rest)
	}
	return pattern == "" || pattern == host
}

func failing(r *route, header rpc.Metadata) string {
	for i := range r.conditions {
		if !r.conditions[i].holds(header) {
			return r.conditions[i].String()
		}
	}
	return ""
}

// RoutesOf lists the bindings over a schema's methods, sorted.
func (s *Snapshot) RoutesOf(schemaName string) []string {
	var out []string
	for _, p := range s.targets {
		if p.route.service.schema.name == schemaName {
			out = append(out, p.host+p.rule.String())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
