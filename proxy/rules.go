package proxy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
	"github.com/causeway-gateway/causeway/proxy/config"
	"github.com/causeway-gateway/causeway/transcode/httprule"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// outside are the HTTP rules of one file kept outside the protos.
type outside struct {
	file  *config.Rules
	rules *httprule.Rules
}

// outsideRules reads the files of a schema's rules, which serve with it.
func (b *builder) outsideRules(at string, files []string, l *loaded) []outside {
	var out []outside
	for i, name := range files {
		file, err := config.LoadRules(name)
		if faults, ok := errors.AsType[config.Faults](err); ok {
			if len(faults) == 1 && faults[0].Line == 0 { // the file as a whole: the place that names it is the better one
				b.fault(fmt.Sprintf("%s.http_rules[%d]", at, i), "%s", faults[0].Summary()).WithFix(faults[0].Fix)
			} else {
				b.faults = append(b.faults, faults...)
			}
			continue
		}
		rules, err := httprule.NewRules(file.HTTP)
		if err != nil {
			for _, f := range ruleFaults(err) {
				b.faults = append(b.faults, file.Fault(f.Index, "%s", f.Message).WithFix("write the full name of a method: acme.v1.Orders.Get"))
			}
			continue
		}
		if len(l.schema.Services()) > 0 {
			for _, f := range rules.Unused(l.schema) {
				b.faults = append(b.faults, file.Fault(f.Index, "selector %q: %s", f.Selector, f.Message).WithFix("name a method of schema "+l.name+", or remove the rule"))
			}
		}
		out = append(out, outside{file, rules})
	}
	return out
}

// ruleFaults takes the joined faults of rules apart.
func ruleFaults(err error) []*httprule.RuleFault {
	var faults []*httprule.RuleFault
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil
	}
	for _, e := range joined.Unwrap() {
		if f, ok := errors.AsType[*httprule.RuleFault](e); ok {
			faults = append(faults, f)
		}
	}
	return faults
}

// bindings are the HTTP rules of a method on a route: those from outside the protos, else its own, or the one it has
// without any.
func (b *builder) bindings(rt *route, m *schema.Method) []*httprule.Binding {
	o := httprule.Options{RepeatedInPath: rt.REST.GRPCGateway}
	for _, out := range slices.Backward(rt.service.schema.outside) {
		i := out.rules.Index(m)
		if i < 0 {
			continue
		}
		if !rt.REST.GRPCGateway { // whose clients know one decoding, wherever a rule stands
			o.Decoding = out.rules.Decoding()
		}
		bindings, err := o.Compile(m, out.rules.For(m))
		if err != nil {
			b.faults = append(b.faults, out.file.Fault(i, "%s", err).WithFix("mend the rule"))
		}
		return bindings
	}
	rule := httprule.Rule(m)
	if rule == nil {
		return []*httprule.Binding{httprule.Default(m)}
	}
	bindings, err := o.Compile(m, rule)
	if err != nil {
		b.fault(rt.path, "%s", err).WithFix("mend the rule in " + declared(m) + ", or give the method a rule outside the proto (`http_rules`)")
	}
	return bindings
}

// declared is where a method stands, as far as the descriptors say.
func declared(m *schema.Method) string {
	file := m.Desc.ParentFile()
	if at := file.SourceLocations().ByDescriptor(m.Desc); at.EndLine > 0 {
		return fmt.Sprintf("%s:%d", file.Path(), at.StartLine+1)
	}
	return file.Path()
}

// ownRule compiles a route's own HTTP rule.
func (b *builder) ownRule(rt *route, conf *configv1.HTTPRule) []*httprule.Binding {
	at, sv := rt.path, rt.service
	methods := sv.methods(conf.GetMethod())
	if len(methods) != 1 || strings.Contains(conf.GetMethod(), "*") {
		if len(sv.schema.schema.Services()) > 0 {
			b.fault(at+".http.method", "service %q serves no method %q%s", sv.name, conf.GetMethod(), schema.DidYouMean(conf.GetMethod(), methodNames(sv.methods("*"))))
		}
		return nil
	}
	rule := httpRule(conf)
	for _, more := range conf.GetAdditionalBindings() {
		rule.AdditionalBindings = append(rule.AdditionalBindings, httpRule(more))
	}
	bindings, err := httprule.Options{RepeatedInPath: rt.REST.GRPCGateway}.Compile(methods[0], rule)
	if err != nil {
		b.fault(at+".http", "%s", err)
	}
	return bindings
}

// httpRule is a rule of the configuration as google.api.http has it, without its additional bindings.
func httpRule(conf *configv1.HTTPRule) *annotations.HttpRule {
	rule := &annotations.HttpRule{Body: conf.GetBody(), ResponseBody: conf.GetResponseBody()}
	switch p := conf.GetPattern().(type) {
	case *configv1.HTTPRule_Get:
		rule.Pattern = &annotations.HttpRule_Get{Get: p.Get}
	case *configv1.HTTPRule_Put:
		rule.Pattern = &annotations.HttpRule_Put{Put: p.Put}
	case *configv1.HTTPRule_Post:
		rule.Pattern = &annotations.HttpRule_Post{Post: p.Post}
	case *configv1.HTTPRule_Delete:
		rule.Pattern = &annotations.HttpRule_Delete{Delete: p.Delete}
	case *configv1.HTTPRule_Patch:
		rule.Pattern = &annotations.HttpRule_Patch{Patch: p.Patch}
	case *configv1.HTTPRule_Custom:
		rule.Pattern = &annotations.HttpRule_Custom{Custom: &annotations.CustomHttpPattern{Kind: p.Custom.GetKind(), Path: p.Custom.GetPath()}}
	}
	return rule
}
