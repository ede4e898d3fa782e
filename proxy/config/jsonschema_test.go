package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v3"

	"github.com/causeway-gateway/causeway/proxy/config"
)

// TestJSONSchema checks documents against the schema: all that Load accepts fit it, and those with a fault that a schema
// can know do not.
func TestJSONSchema(t *testing.T) {
	text, err := config.JSONSchema(plugins())
	if err != nil {
		t.Fatal(err)
	}
	again, err := config.JSONSchema(plugins())
	if err != nil || !bytes.Equal(text, again) {
		t.Error("the schema differs from one time to the next")
	}
	var root map[string]any
	if err := json.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	v := validator{root: root}
	for _, file := range corpus(t, "accepted") {
		for name, doc := range documents(t, file) {
			if got := v.check(root, doc, ""); len(got) > 0 {
				t.Errorf("%s: %s: accepted, but does not fit the schema:\n%s", file, name, strings.Join(got, "\n"))
			}
		}
	}
	for _, name := range []string{
		"unknown_key", "unknown_key_top", "unknown_key_in_plugin", "unknown_plugin", "wanted_list", "wanted_list_string", "wanted_mapping", "wanted_string",
		"wanted_scalar", "two_sources", "no_source", "booleans", "duration_forms", "null_value", "plugin_type_given", "plugin_without_name",
	} {
		for part, doc := range documents(t, filepath.Join("testdata", "faults", name+".txtar")) {
			if got := v.check(root, doc, ""); len(got) == 0 {
				t.Errorf("%s: %s fits the schema", name, part)
			}
		}
	}
}

// documents reads the YAML files of a case as an editor does.
func documents(t *testing.T, file string) map[string]any {
	t.Helper()
	ar, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]any{}
	for _, f := range ar.Files {
		if ext := filepath.Ext(f.Name); ext != ".yaml" && ext != ".yml" || strings.Contains(f.Name, "/.") || strings.Contains(f.Name, "/sub/") {
			continue
		}
		var doc any
		if err := yaml.Unmarshal(f.Data, &doc); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if doc != nil {
			out[f.Name] = doc
		}
	}
	return out
}

// validator knows the keywords that the schema uses, and no others.
type validator struct{ root map[string]any }

func (v validator) fits(schema, value any) bool { return len(v.check(schema, value, "")) == 0 }

func (v validator) check(schema, value any, path string) []string {
	s, ok := schema.(map[string]any)
	if !ok {
		return []string{fmt.Sprintf("%s: schema %v", path, schema)}
	}
	var bad []string
	fail := func(format string, args ...any) { bad = append(bad, path+": "+fmt.Sprintf(format, args...)) }
	object, isObject := value.(map[string]any)
	for _, key := range slices.Sorted(maps.Keys(s)) {
		switch arg := s[key]; key {
		case "$schema", "$defs", "title", "patternProperties", "additionalProperties", "then":
		case "$ref":
			name := strings.TrimPrefix(arg.(string), "#/$defs/")
			bad = append(bad, v.check(v.root["$defs"].(map[string]any)[name], value, path)...)
		case "type":
			if !hasType(arg, value) {
				fail("type %T, want %v", value, arg)
			}
		case "properties":
			bad = append(bad, v.properties(s, object, path)...)
		case "items":
			list, _ := value.([]any)
			for i, e := range list {
				bad = append(bad, v.check(arg, e, fmt.Sprintf("%s[%d]", path, i))...)
			}
		case "required":
			for _, name := range arg.([]any) {
				if _, ok := object[name.(string)]; isObject && !ok {
					fail("no %v", name)
				}
			}
		case "enum":
			if !slices.Contains(arg.([]any), value) {
				fail("%v is none of %v", value, arg)
			}
		case "const":
			if value != arg {
				fail("%v is not %v", value, arg)
			}
		case "pattern":
			if text, ok := value.(string); ok && !regexp.MustCompile(arg.(string)).MatchString(text) {
				fail("%q does not match %v", text, arg)
			}
		case "minimum", "maximum":
			if n, ok := value.(int); ok && (key == "minimum" && float64(n) < arg.(float64) || key == "maximum" && float64(n) > arg.(float64)) {
				fail("%d, %s %v", n, key, arg)
			}
		case "allOf":
			for _, sub := range arg.([]any) {
				bad = append(bad, v.check(sub, value, path)...)
			}
		case "anyOf", "oneOf":
			n := 0
			for _, sub := range arg.([]any) {
				if v.fits(sub, value) {
					n++
				}
			}
			if n == 0 || key == "oneOf" && n > 1 {
				fail("%s: %d fit", key, n)
			}
		case "not":
			if v.fits(arg, value) {
				fail("fits %v", arg)
			}
		case "if":
			if v.fits(arg, value) {
				bad = append(bad, v.check(s["then"], value, path)...)
			}
		default:
			fail("unknown keyword %s", key)
		}
	}
	return bad
}

func (v validator) properties(s, object map[string]any, path string) []string {
	var bad []string
	known, _ := s["properties"].(map[string]any)
	patterns, _ := s["patternProperties"].(map[string]any)
	for key, value := range object {
		at := path + "." + key
		sub, ok := known[key]
		for pattern, p := range patterns {
			if regexp.MustCompile(pattern).MatchString(key) {
				sub, ok = p, true
			}
		}
		if ok {
			bad = append(bad, v.check(sub, value, at)...)
		} else if s["additionalProperties"] == false {
			bad = append(bad, at+": unknown")
		}
	}
	return bad
}

func hasType(want, value any) bool {
	if list, ok := want.([]any); ok {
		return slices.ContainsFunc(list, func(w any) bool { return hasType(w, value) })
	}
	switch v := value.(type) {
	case nil:
		return want == "null"
	case bool:
		return want == "boolean"
	case int:
		return want == "integer" || want == "number"
	case float64:
		return want == "number" || want == "integer" && v == float64(int64(v))
	case map[string]any:
		return want == "object"
	case []any:
		return want == "array"
	default: // a date is a string to JSON
		return want == "string"
	}
}
