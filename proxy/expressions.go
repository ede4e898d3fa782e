package proxy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/proxy/expr"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// evaluated is an expression with what is known of it before there is a call.
type evaluated struct {
	path    string // in the document
	source  expr.Source
	methods map[*schema.Method]bool // whose calls the plugin sees
	reached int                     // how many of those come to it, without the gateway's own
	failing int                     // for how many of these it fails whatever the call is
	sure    string                  // not "": it does so for a method whose calls surely come to it
	doubt   string                  // not "": why it may fail
	// ownDoubt is why it fails over calls of the gateway's own methods.
	ownDoubt string
	// It asks for who calls, and on some route somebody has found out before; or nobody.
	found, early bool
}

// at is the place of what the member consists of.
func (m *member) at(i int) string {
	if strings.HasPrefix(m.name, anyOfPrefix) {
		return fmt.Sprintf("%s.any_of[%d]", m.path, i)
	}
	return m.path
}

// anyOfPrefix begins the names of members that are several ways of authentication.
const anyOfPrefix = "any of "

// suits holds what the plugins of a chain ask of calls against the methods that they see. own: they are the gateway's.
func (b *builder) suits(members []*member, methods []*schema.Method, own bool) {
	for _, m := range members {
		for _, method := range methods {
			holds, known := true, true
			if m.when != nil {
				b.evaluate(m, plugin.Expression{Path: m.path + ".when", Source: m.when}, method, own)
				holds, known = m.when.Holds(method, "")
			}
			if known && !holds {
				continue
			}
			for i, in := range m.origins {
				e, ok := in.Plugin.(plugin.Evaluator)
				if !ok {
					continue
				}
				for _, x := range e.Expressions(method) {
					x.Path, x.Sometimes = m.at(i)+".config."+x.Path, x.Sometimes || !known
					b.evaluate(m, x, method, own)
				}
			}
		}
	}
}

// evaluate notes what is known of an expression over the calls of a method.
func (b *builder) evaluate(m *member, x plugin.Expression, method *schema.Method, own bool) {
	source, ok := x.Source.(expr.Source)
	if !ok {
		return // of somebody else's language
	}
	i := slices.IndexFunc(m.evaluated, func(e *evaluated) bool { return e.path == x.Path })
	if i < 0 {
		i = len(m.evaluated)
		m.evaluated = append(m.evaluated, &evaluated{path: x.Path, source: source, methods: map[*schema.Method]bool{}})
		b.evaluated = append(b.evaluated, m.evaluated[i])
	}
	e := m.evaluated[i]
	if e.methods[method] {
		return // of another route
	}
	e.methods[method] = true
	if !own {
		e.reached++
	}
	f := source.Suits(method)
	switch {
	case f == nil:
		return
	case own: // for which nobody wrote it
		if f.Always {
			e.ownDoubt = cmp.Or(e.ownDoubt, f.Text)
		}
		return
	case f.Always:
		e.failing++
		if !x.Sometimes && e.sure == "" {
			e.sure = f.Text
		}
	}
	e.doubt = cmp.Or(e.doubt, f.Text)
}

// judge refuses expressions that fail whatever a call is, and warns of those that may, and of names in them that nothing has.
func (b *builder) judge() {
	const fix = "mend it, ask has(message...) or for rpc.method in front of it, or write the plugin at the routes whose requests have the field"
	for _, e := range b.evaluated {
		switch {
		case e.sure != "":
			b.fault(e.path, "it would fail for every call of a method: %s", e.sure).WithFix(fix)
		case e.failing > 0 && e.failing == e.reached:
			b.fault(e.path, "it would fail for every call that comes to it: %s", e.doubt).WithFix(fix)
		case e.doubt != "" || e.ownDoubt != "":
			b.warn(e.path, fix, "it may fail for calls of a method: %s", cmp.Or(e.doubt, e.ownDoubt))
		}
		if e.early && !e.found {
			b.warn(e.path, "add a plugin that finds out who calls in front of it: key_auth, jwt_auth, ...", "it asks for who calls, and nobody finds out here")
		}
		b.compared(e)
	}
}

// asksWho looks at the expressions of a plugin that ask for who calls. found: somebody in front of it finds out; finder is who does
// so behind it, nil: nobody.
func (b *builder) asksWho(m *member, found bool, finder *member) {
	for _, e := range m.evaluated {
		if !e.source.Identity() || e.path == m.path+".when" && !m.acts {
			continue
		}
		switch {
		case found:
			e.found = true
		case finder == nil:
			e.early = true
		case !b.misplaced[m]:
			b.misplaced[m] = true
			b.fault(e.path, "it asks for who calls, and here nobody knows that so far").WithFix("write it behind " + finder.name)
		}
	}
}

// vocabulary are the texts that a variable can have, as far as the configuration says.
type vocabulary struct {
	what  string   // "consumer", "method"
	texts []string // nil: anything
	fix   string
}

// compared warns of texts that no call has what they are compared with.
func (b *builder) compared(e *evaluated) {
	told := map[expr.Comparison]bool{}
	for _, c := range e.source.Comparisons() {
		if told[c] {
			continue
		}
		told[c] = true
		k := b.known(c, e)
		text := cmp.Or(c.Text, c.Key)
		if k.what == "" || slices.Contains(k.texts, text) {
			continue
		}
		b.warn(e.path, k.fix, "%s%s", fmt.Sprintf(k.what, text), meant(text, k.texts))
	}
}

// meant is the text of a list that somebody who wrote another most likely meant; also the full name where it is a part, and the
// part where it is the full one.
func meant(text string, texts []string) string {
	for _, t := range texts {
		if strings.HasSuffix(t, "."+text) || strings.HasSuffix(text, "/"+t) || strings.HasSuffix(text, "."+t) {
			return fmt.Sprintf("; did you mean %q?", t)
		}
	}
	return schema.DidYouMean(text, texts)
}

// known finds what a text is to be one of.
func (b *builder) known(c expr.Comparison, e *evaluated) vocabulary {
	switch c.Variable {
	case "consumer.name":
		return vocabulary{"there is no consumer %q", slices.Sorted(maps.Keys(b.snap.consumers)), "name one of `consumers`, or add it there"}
	case "consumer.groups":
		return vocabulary{"no consumer is in the group %q", b.consumerTexts(func(u *consumer) []string { return u.Groups }), "add it to the groups of a consumer, or mend the expression"}
	case "consumer.labels":
		if c.Text == "" {
			return vocabulary{"no consumer has the label %q", b.consumerTexts(func(u *consumer) []string { return slices.Collect(maps.Keys(u.Labels)) }), "add it to the labels of a consumer, or mend the expression"}
		}
		return vocabulary{"no consumer's label " + c.Key + " is %q", b.consumerTexts(func(u *consumer) []string { return []string{u.Labels[c.Key]} }), "add it to the labels of a consumer, or mend the expression"}
	case "rpc.service", "rpc.method":
		return b.knownRPC(c.Variable, e)
	case "request.protocol":
		return vocabulary{"no call has the protocol %q", b.protocols(), "write one of " + strings.Join(b.protocols(), ", ")}
	case "request.scheme":
		return vocabulary{"no call has the scheme %q", []string{"http", "https"}, "write http or https"}
	case "request.headers", "metadata":
		return knownLower(c, "headers have their names in lower case here, so there is never a %q")
	case "request.host":
		return knownLower(c, "hosts are in lower case here, so there is never a %q")
	case "route":
		return vocabulary{"there is no route %q", b.routeTexts(func(r *route) string { return r.Route }), "write the name of a route, or of a service for those of its methods that no route selects"}
	case "service":
		return vocabulary{"there is no service %q", append(b.serviceNames(), ownName), "write the name of a service"}
	case "answer.code":
		var names []string
		for i := codes.OK; i <= codes.Unauthenticated; i++ {
			names = append(names, rpc.CodeName(i))
		}
		return vocabulary{"there is no code %q", names, "write it as in NOT_FOUND"}
	}
	return vocabulary{}
}

// knownLower knows of a text that it has to be in lower case, which the names of headers and hosts are.
func knownLower(c expr.Comparison, what string) vocabulary {
	text := c.Key
	if c.Variable == "request.host" {
		text = c.Text
	}
	low := []byte(text)
	for i, ch := range low {
		if 'A' <= ch && ch <= 'Z' {
			low[i] = ch | 0x20
		}
	}
	if c.Key != "" && c.Text != "" || string(low) == text {
		return vocabulary{}
	}
	return vocabulary{what, []string{string(low)}, "write it in lower case"}
}

func (b *builder) consumerTexts(of func(u *consumer) []string) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(b.snap.consumers)) {
		out = append(out, of(b.snap.consumers[name])...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (b *builder) routeTexts(of func(r *route) string) []string {
	var out []string
	for _, r := range b.snap.routes {
		out = append(out, of(r))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// knownRPC knows the names of the methods whose calls come to an expression, or of their services.
func (b *builder) knownRPC(variable string, e *evaluated) vocabulary {
	if b.awaitsPush() || len(e.methods) == 0 {
		return vocabulary{}
	}
	var names []string
	for m := range e.methods {
		service, method, _ := strings.Cut(m.Name[1:], "/")
		if variable == "rpc.service" {
			names = append(names, service)
		} else {
			names = append(names, method)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if variable == "rpc.service" {
		return vocabulary{"no call that comes here is one of the service %q", names, "write the full name of a service: package.Service"}
	}
	return vocabulary{"no call that comes here is one of a method %q", names, "write the name of a method without its service"}
}

// protocols are those that the build knows.
func (b *builder) protocols() []string {
	var out []string
	for _, f := range b.std.Faces {
		out = append(out, f.Name())
	}
	for _, i := range b.std.Inlets {
		out = append(out, i.Name())
	}
	slices.Sort(out)
	return slices.Compact(out)
}
