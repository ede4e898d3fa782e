package httprule

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Rules are HTTP rules kept outside the proto: the `http` part of a service configuration (google.api.Service). A rule
// is for the methods that its selector names, and replaces what the proto has for them; of several rules for one method
// the last one counts (google/api/http.proto: "All service configuration rules follow "last one wins" order"). Read-only
// and safe for concurrent use.
//
// A selector is a list of patterns, divided by commas: a method's full name ("acme.v1.Library.GetBook"), the beginning
// of names followed by ".*" ("acme.v1.Library.*", "acme.*"), or "*" for every method (google/api/documentation.proto,
// DocumentationRule.selector).
type Rules struct {
	rules    []*annotations.HttpRule
	patterns []pattern      // in the order of the rules
	exact    map[string]int // the last rule for each full name
	prefixes []pattern      // with a wildcard, the last rule first
	decoding Decoding
}

// pattern is one part of a selector.
type pattern struct {
	rule int
	text string // as written
}

// RuleFault is a fault in one of the rules kept outside the proto.
type RuleFault struct {
	Index    int    // of the rule in google.api.Http.rules
	Selector string // the part of its selector at fault, or the whole of it
	Message  string // what was wanted and what was found
}

// Error returns the fault with the place of its rule.
func (f *RuleFault) Error() string {
	return fmt.Sprintf("http.rules[%d]: selector %q: %s", f.Index, abridge(f.Selector), f.Message)
}

// NewRules takes the rules of h, which is kept and must not change. The error joins a *RuleFault for every selector that
// is none. That a rule fits its methods is found by Compile, and that there are such methods by Unused.
func NewRules(h *annotations.Http) (*Rules, error) {
	r := &Rules{rules: h.GetRules(), exact: map[string]int{}, decoding: ExceptReserved}
	if h.GetFullyDecodeReservedExpansion() {
		r.decoding = ExceptSlash
	}
	var faults []error
	for i, rule := range r.rules {
		for part := range strings.SplitSeq(rule.GetSelector(), ",") {
			p := pattern{i, strings.TrimSpace(part)}
			if want, found := p.check(); want != "" {
				faults = append(faults, &RuleFault{i, rule.GetSelector(), fmt.Sprintf("wanted %s, found %s", want, found)})
				continue
			}
			r.patterns = append(r.patterns, p)
			if strings.HasSuffix(p.text, "*") {
				r.prefixes = append(r.prefixes, p)
			} else {
				r.exact[p.text] = i
			}
		}
	}
	slices.SortStableFunc(r.prefixes, func(a, b pattern) int { return cmp.Compare(b.rule, a.rule) })
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return r, nil
}

// check returns what was wanted instead of p, and what it has; or "".
func (p pattern) check() (want, found string) {
	if p.text == "" {
		return `the full name of a method, "package.Service.Method"`, "nothing"
	}
	if p.text == "*" {
		return "", ""
	}
	for part := range strings.SplitSeq(strings.TrimSuffix(p.text, ".*"), ".") {
		switch {
		case strings.Contains(part, "*"):
			return `"*" only as the last part of a name, "package.Service.*"`, fmt.Sprintf("%q", abridge(p.text))
		case !identifier(part):
			return `the full name of a method, "package.Service.Method"`, fmt.Sprintf("%q", abridge(p.text))
		}
	}
	return "", ""
}

func identifier(s string) bool {
	p := parser{s: s}
	return p.ident() == nil && p.pos == len(s)
}

// fits says that p names the method of that full name.
func (p pattern) fits(name string) bool {
	if prefix, ok := strings.CutSuffix(p.text, "*"); ok {
		return strings.HasPrefix(name, prefix)
	}
	return p.text == name
}

// For is the rule that counts for m, or nil if there is none: then that of the proto does.
func (r *Rules) For(m *schema.Method) *annotations.HttpRule {
	if i := r.index(selectorOf(m)); i >= 0 {
		return r.rules[i]
	}
	return nil
}

// Index is the place in google.api.Http.rules of the rule that counts for m, or -1.
func (r *Rules) Index(m *schema.Method) int { return r.index(selectorOf(m)) }

func (r *Rules) index(name string) int {
	last := -1
	if i, ok := r.exact[name]; ok {
		last = i
	}
	for _, p := range r.prefixes {
		if p.rule <= last {
			break
		}
		if p.fits(name) {
			return p.rule
		}
	}
	return last
}

// Decoding is how google.api.Http asks for variables of several segments to be decoded: the reserved characters stay
// encoded unless fully_decode_reserved_expansion is set.
func (r *Rules) Decoding() Decoding { return r.decoding }

// Unused are the parts of selectors that name no method of any of the schemas, in the order of the rules, each with the
// nearest name there is.
func (r *Rules) Unused(schemas ...*schema.Schema) []*RuleFault {
	var names []string
	for _, s := range schemas {
		for _, sv := range s.Services() {
			for _, m := range sv.Methods {
				names = append(names, selectorOf(m))
			}
		}
	}
	slices.Sort(names)
	var faults []*RuleFault
	for _, p := range r.patterns {
		var used bool
		if prefix, ok := strings.CutSuffix(p.text, "*"); ok {
			i, _ := slices.BinarySearch(names, prefix)
			used = i < len(names) && strings.HasPrefix(names[i], prefix)
		} else {
			_, used = slices.BinarySearch(names, p.text)
		}
		if !used {
			faults = append(faults, &RuleFault{p.rule, p.text, "it names no method of the schema" + p.suggest(names)})
		}
	}
	return faults
}

// suggest is the near miss among the names of methods. Names are long and begin alike, so the service is looked for
// first and then, in it, the method.
func (p pattern) suggest(names []string) string {
	service, method := cutLast(p.text)
	var services []string
	for _, n := range names {
		s, _ := cutLast(n)
		services = append(services, s)
	}
	services = slices.Compact(services)
	switch {
	case slices.Contains(services, p.text): // a service: all its methods
		return fmt.Sprintf("; did you mean %q?", p.text+".*")
	case method == "*" && slices.Contains(names, service): // a method has nothing below it
		return fmt.Sprintf("; did you mean %q?", service)
	case method == "*":
		for _, s := range services { // of packages, too
			for ; s != ""; s, _ = cutLast(s) {
				services = append(services, s)
			}
		}
	}
	if !slices.Contains(services, service) {
		found := schema.Nearest(service, services)
		if found == "" {
			// The same service in another package.
			_, want := cutLast(service)
			for _, s := range services {
				if _, last := cutLast(s); last == want {
					found = s
					break
				}
			}
		}
		if found == "" {
			return ""
		}
		service = found
	}
	if method == "*" {
		return fmt.Sprintf("; did you mean %q?", service+".*")
	}
	var methods []string
	for _, n := range names {
		if s, m := cutLast(n); s == service {
			methods = append(methods, m)
		}
	}
	if !slices.Contains(methods, method) {
		if method = schema.Nearest(method, methods); method == "" {
			return ""
		}
	}
	return fmt.Sprintf("; did you mean %q?", service+"."+method)
}

// cutLast divides a name at its last dot.
func cutLast(name string) (before, last string) {
	i := strings.LastIndexByte(name, '.')
	return name[:max(i, 0)], name[i+1:]
}

// selectorOf is the method's full name as selectors have it, "package.Service.Method".
func selectorOf(m *schema.Method) string { return strings.ReplaceAll(fullName(m), "/", ".") }
