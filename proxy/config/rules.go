package config

import (
	"go.yaml.in/yaml/v3"
	"google.golang.org/genproto/googleapis/api/annotations"
)

// Rules are HTTP rules kept outside the protos, and where they stand in their file.
type Rules struct {
	// HTTP is the `http` section. It is the caller's to read, not to change.
	HTTP *annotations.Http

	doc *Document
}

// serviceType is what a service configuration says it is.
const serviceType = "google.api.Service"

// LoadRules reads the `http` section of a service configuration: YAML of google.api.Service, as grpc-gateway
// (grpc_api_configuration) and Google's API tools have it. The section is read strictly, all others are passed over. The
// error is a Faults with everything that is wrong.
func LoadRules(path string) (*Rules, error) {
	text, err := readFile(path, maxDocument)
	if err != nil {
		return nil, Faults{unreadable(path, err)}
	}
	return parseRules(path, text)
}

func parseRules(path string, text []byte) (*Rules, error) {
	doc := &Document{root: &place{index: -1}}
	r := &reader{doc: doc, newMessage: linkedMessage, file: newSource(path, string(text))}
	node, fault := parseYAML(r.file)
	if fault != nil {
		return nil, Faults{fault}
	}
	if node == nil || node.Kind != yaml.MappingNode {
		return nil, Faults{{File: path, Message: "wanted a service configuration, found no mapping", Fix: rulesExample}}
	}
	doc.root.span = spanOf(r.file, node)
	rules := &Rules{HTTP: &annotations.Http{}, doc: doc}
	found := false
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		switch {
		case key.Value == "type" && value.Value != serviceType:
			r.fault(spanOf(r.file, value), "type", "wanted %s, found %s", serviceType, shape(value, false)).WithFix("write type: " + serviceType)
		case key.Value == "http" && found:
			r.fault(spanOf(r.file, key), "http", "the section stands here twice").WithFix("keep one")
		case key.Value == "http":
			found = true
			r.message(value, rules.HTTP.ProtoReflect(), doc.root.child("http", -1, spanOf(r.file, value)))
		}
	}
	if !found && len(r.faults) == 0 {
		r.fault(doc.root.where(), "", "no `http` section").WithFix(rulesExample)
	}
	for i, rule := range rules.HTTP.GetRules() {
		if at := item("http.rules", i); rule.GetSelector() == "" && len(r.faults) == 0 {
			place, _ := doc.root.find(at)
			r.fault(place.where(), at, "no selector").WithFix("name the method: selector: acme.v1.Orders.Get")
		}
	}
	if err := r.faults.sorted(); err != nil {
		return nil, err
	}
	return rules, nil
}

const rulesExample = `write
  type: google.api.Service
  http:
    rules:
      - selector: acme.v1.Orders.Get
        get: /v1/{name=orders/*}`

// Fault makes a fault at rule i.
func (r *Rules) Fault(i int, format string, args ...any) *Fault {
	return r.doc.Fault(item("http.rules", i), format, args...)
}
