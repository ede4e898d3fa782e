package config

import (
	"cmp"
	"slices"

	"go.yaml.in/yaml/v3"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
)

// fragment is one file of a document.
type fragment struct {
	name string
	src  []byte
}

// minimal is what a document needs at least.
const minimal = `a minimal document is
  listen: [{address: ":8080"}]
  schemas: [{name: orders, descriptor_set: orders.binpb}]
  services: [{name: orders, endpoints: [{address: "127.0.0.1:9090"}], schema: orders}]`

// read fills the document from its fragments.
func (d *Document) read(fragments []fragment, types Types) error {
	r := &reader{doc: d, types: types, newMessage: linkedMessage}
	c := &configv1.Config{}
	syntax, empty := false, true
	for _, f := range fragments {
		src := newSource(f.name, string(f.src))
		node, fault := parseYAML(src)
		if fault != nil {
			r.faults = append(r.faults, fault)
			syntax = true
			continue
		}
		if node == nil || node.Kind == yaml.MappingNode && len(node.Content) == 0 {
			continue
		}
		if empty {
			d.root.span = span{file: src, line: node.Line, column: node.Column, width: 1}
			if len(fragments) > 1 { // what is missing is missing in the folder
				d.root.span = span{file: newSource(d.Dir, "")}
			}
		}
		empty = false
		r.file = src
		r.message(node, c.ProtoReflect(), d.root)
	}
	if empty && !syntax {
		return Faults{{File: fragments[0].name, Message: "the document is empty", Fix: minimal}}
	}
	if !syntax && !d.root.failed { // what is missing may stand in what could not be read
		r.faults = append(r.faults, check(d, c, types)...)
	}
	slices.SortFunc(d.secrets, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	d.secrets = slices.Compact(d.secrets)
	for _, f := range r.faults {
		d.maskLines(f)
	}
	if err := r.faults.sorted(); err != nil {
		return err
	}
	d.Config = c
	d.finish()
	return nil
}
