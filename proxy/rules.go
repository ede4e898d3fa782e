package proxy

import (
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
	"github.com/causeway-gateway/causeway/transcode/httprule"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// bindings are a method's HTTP rules, or the one it has without any.
func (b *builder) bindings(at string, m *schema.Method) []*httprule.Binding {
	rule := httprule.Rule(m)
	if rule == nil {
		return []*httprule.Binding{httprule.Default(m)}
	}
	bindings, err := httprule.Compile(m, rule)
	if err != nil {
		b.fault(at, "%s", err).WithFix("mend the rule in " + declared(m) + ", or give the method a route with an `http` rule of its own")
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
func (b *builder) ownRule(at string, sv *service, conf *configv1.HTTPRule) []*httprule.Binding {
	methods := sv.methods(conf.GetMethod())
	if len(methods) != 1 || strings.Contains(conf.GetMethod(), "*") {
		if len(sv.schema.schema.Services()) > 0 {
			b.fault(at+".http.method", "service %q serves no method %q%s", sv.name, conf.GetMethod(), schema.DidYouMean(conf.GetMethod(), methodNames(sv.methods("*"))))
		}
		return nil
	}
	if !b.streams(at+".http.method", methods[0]) {
		return nil
	}
	rule := httpRule(conf)
	for _, more := range conf.GetAdditionalBindings() {
		rule.AdditionalBindings = append(rule.AdditionalBindings, httpRule(more))
	}
	bindings, err := httprule.Compile(methods[0], rule)
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

// streams refuses a method that a route names and that cannot be served; one that a glob happens to select answers so
// itself.
func (b *builder) streams(at string, m *schema.Method) bool {
	if m.Kind == schema.Unary {
		return true
	}
	b.fault(at, "%s is a %s method, and those are not served so far", m.Name[1:], m.Kind).WithFix("leave it out")
	return false
}
