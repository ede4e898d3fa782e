package zookeeper

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-gateway/causeway/registry"
)

const soundInstance = `{
  "v": 1,
  "id": "10.0.3.7-9000",
  "endpoints": [{"protocol": "grpc", "host": "10.0.3.7", "port": 9000, "tls": false}, {"protocol": "http", "host": "10.0.3.7", "port": 9001, "tls": true}],
  "weight": 80,
  "status": "up",
  "region": "cn-north", "zone": "bj-a",
  "version": "1.8.2",
  "schema": "sha256:9f2c",
  "metadata": {"team": "orders"},
  "registered_at": "2026-11-22T04:00:00Z",
  "lease_ms": 0, "own": {"field": [1]}
}`

func TestParseInstance(t *testing.T) {
	in, err := ParseInstance([]byte(soundInstance))
	if err != nil {
		t.Fatal(err)
	}
	for protocols, want := range map[string]registry.Endpoint{
		"tri http": {Address: "10.0.3.7:9001", Protocol: "http", TLS: true},
		"":         {Address: "10.0.3.7:9000", Protocol: "grpc"}, "grpc": {Address: "10.0.3.7:9000", Protocol: "grpc"}, "http": {Address: "10.0.3.7:9001", Protocol: "http", TLS: true},
	} {
		want.ID, want.Zone, want.Weight = "10.0.3.7-9000", "bj-a", 80
		want.Meta = map[string]string{"team": "orders", "version": "1.8.2", "region": "cn-north", "schema": "sha256:9f2c"}
		got, err := in.Endpoint(strings.Fields(protocols)...)
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("%q: %v (-want +got):\n%s", protocols, err, d)
		}
	}
	if _, err := in.Endpoint("tars"); err == nil {
		t.Error("want an instance without the protocol refused")
	}
}

// faulty is what an instance must not be, and what is said of it.
var faulty = []struct{ data, want string }{
	{``, "as JSON"},
	{`null`, `"v": 1, found 0`},
	{`[]`, "as JSON"},
	{`{"v":1`, "as JSON"},
	{"{\"v\":1,\"id\":\"\xff\"}", "UTF-8"},
	{`{"id":"a","endpoints":[{"protocol":"grpc","host":"h","port":1}]}`, `"v": 1, found 0`},
	{`{"v":2,"id":"a","endpoints":[{"protocol":"grpc","host":"h","port":1}]}`, `"v": 1, found 2`},
	{`{"v":1,"endpoints":[{"protocol":"grpc","host":"h","port":1}]}`, `found ""`},
	{`{"v":1,"id":"a/b","endpoints":[{"protocol":"grpc","host":"h","port":1}]}`, `"a/b"`},
	{`{"v":1,"id":"a"}`, "want an endpoint"},
	{`{"v":1,"id":"a","endpoints":[]}`, "want an endpoint"},
	{`{"v":1,"id":"a","endpoints":[{"host":"h","port":1}]}`, "protocol of endpoint 0"},
	{`{"v":1,"id":"a","endpoints":[{"protocol":"grpc","port":1}]}`, "host of endpoint 0"},
	{`{"v":1,"id":"a","endpoints":[{"protocol":"grpc","host":"h h","port":1}]}`, `"h h"`},
	{`{"v":1,"id":"a","endpoints":[{"protocol":"grpc","host":"[::1]","port":1}]}`, `"[::1]"`},
	{`{"v":1,"id":"a","endpoints":[{"protocol":"grpc","host":"h"}]}`, "found 0"},
	{`{"v":1,"id":"a","endpoints":[{"protocol":"grpc","host":"h","port":70000}]}`, "found 70000"},
	{`{"v":1,"id":"a","endpoints":[{"protocol":"grpc","host":"h","port":-1}]}`, "found -1"},
	{`{"v":1,"id":"a","endpoints":[{"protocol":"grpc","host":"h","port":"1"}]}`, "as JSON"},
	{`{"v":1,"id":"a","endpoints":[{"protocol":"grpc","host":"h","port":1.5}]}`, "as JSON"},
	{`{"v":1,"id":"a","weight":-1,"endpoints":[{"protocol":"grpc","host":"h","port":1}]}`, "found -1"},
	{`{"v":1,"id":"a","weight":1048577,"endpoints":[{"protocol":"grpc","host":"h","port":1}]}`, "found 1048577"},
	{`{"v":1,"id":"a","status":"UP","endpoints":[{"protocol":"grpc","host":"h","port":1}]}`, `found "UP"`},
	{`{"v":1,"id":"a","endpoints":[{"protocol":"grpc","host":"h","port":1}],"metadata":{"a":"b"},"metadata":{"c":"d"}}`, `"metadata" once`},
	{`{"v":1,"id":"a","endpoints":[{"protocol":"grpc","host":"h","port":1}],"endpoints":[{"port":2}]}`, `"endpoints" once`},
	{`{"v":1,"id":"a","\u017fchema":"b","endpoints":[{"protocol":"grpc","host":"h","port":1}]}`, `want the field "schema"`},
	{`{"v":1,"id":"a","ID":"b","endpoints":[{"protocol":"grpc","host":"h","port":1}]}`, `want the field "id", found "ID"`},
	{`{"v":1,"id":"a","metadata":{"x":1},"endpoints":[{"protocol":"grpc","host":"h","port":1}]}`, "as JSON"},
}

func TestFaultyInstances(t *testing.T) {
	for _, tc := range faulty {
		if _, err := ParseInstance([]byte(tc.data)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: want an error with %q, found %v", tc.data, tc.want, err)
		}
	}
	if _, err := ParseInstance([]byte(strings.Replace(soundInstance, "orders", strings.Repeat("x", 8<<10), 1))); err == nil || !strings.Contains(err.Error(), "at most 8192 bytes") {
		t.Errorf("want one that is too long refused, found %v", err)
	}
}

func TestWithStatus(t *testing.T) {
	changed, err := WithStatus([]byte(soundInstance), registry.Draining)
	if err != nil {
		t.Fatal(err)
	}
	var before, after map[string]any
	if err := json.Unmarshal([]byte(soundInstance), &before); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(changed, &after); err != nil {
		t.Fatal(err)
	}
	before["status"] = "draining"
	if d := cmp.Diff(before, after); d != "" {
		t.Errorf("want the status changed and the rest kept (-want +got):\n%s", d)
	}
	if _, err := WithStatus([]byte("{}"), registry.Up); err == nil {
		t.Error("want what is no instance refused")
	}
}

func FuzzInstance(f *testing.F) {
	f.Add([]byte(soundInstance))
	for _, tc := range faulty {
		f.Add([]byte(tc.data))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in, err := ParseInstance(data)
		if err != nil {
			return
		}
		ep, err := in.Endpoint()
		if err != nil || ep.ID != in.ID || ep.Weight > maxWeight {
			t.Errorf("want an endpoint of what was accepted, found %+v %v", ep, err)
		}
		for _, s := range []registry.Status{registry.Draining, registry.Up} {
			changed, err := WithStatus(data, s)
			if err != nil {
				t.Fatal(err)
			}
			if len(changed) > maxInstance {
				return // escapes take more room in Go's spelling
			}
			again, err := ParseInstance(changed)
			if err != nil {
				t.Fatalf("want it sound with another status, found %v\n%s", err, changed)
			}
			got, err := again.Endpoint()
			if err != nil || got.Status != s || got.Address != ep.Address || !cmp.Equal(got.Meta, ep.Meta) {
				t.Errorf("want only the status changed, found %+v for %+v, %v", got, ep, err)
			}
		}
	})
}

// TestSchema holds instance.schema.json and the code to each other: what one refuses, the other does.
func TestSchema(t *testing.T) {
	text, err := os.ReadFile("instance.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	_, written := instanceAt(t, "a:1")
	for _, data := range []string{soundInstance, written} {
		if err := validate(schema, decode(t, data)); err != nil {
			t.Errorf("%s: %v", data, err)
		}
	}
	for _, tc := range faulty {
		var v any
		if json.Unmarshal([]byte(tc.data), &v) != nil || strings.Contains(tc.want, "UTF-8") {
			continue // no JSON
		}
		beyond := strings.Contains(tc.data, "[::1]") || strings.Contains(tc.want, "want the field") || strings.Contains(tc.want, " once") // the schema
		if err := validate(schema, v); err == nil && !beyond {
			t.Errorf("%s: want the schema to refuse it", tc.data)
		}
	}
	// Every field that is written is described.
	properties, _ := schema["properties"].(map[string]any)
	items := properties["endpoints"].(map[string]any)["items"].(map[string]any)["properties"].(map[string]any)
	for _, c := range []struct {
		properties map[string]any
		value      any
	}{{properties, Instance{Weight: new(int64), Status: "x", Region: "x", Zone: "x", Version: "x", Schema: "x", Metadata: map[string]string{"x": "x"}, RegisteredAt: "x"}}, {items, Offer{TLS: true}}} {
		b, err := json.Marshal(c.value)
		if err != nil {
			t.Fatal(err)
		}
		var fields map[string]any
		if err := json.Unmarshal(b, &fields); err != nil {
			t.Fatal(err)
		}
		for name := range fields {
			if c.properties[name] == nil {
				t.Errorf("want %q in the schema", name)
			}
		}
		for name := range c.properties {
			if _, is := fields[name]; !is {
				t.Errorf("want a field for the schema's %q", name)
			}
		}
	}
}

func decode(t *testing.T, data string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(data), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// validate knows the keywords that the schema uses, and no others.
func validate(schema map[string]any, v any) error {
	number := func(key string, or float64) float64 {
		if n, is := schema[key].(float64); is {
			return n
		}
		return or
	}
	for key, rule := range schema {
		fits := true
		switch key {
		case "$schema", "title", "description", "minLength", "maxLength", "minimum", "maximum", "minItems":
		case "enum":
			fits = slices.ContainsFunc(rule.([]any), func(e any) bool { return e == v })
		case "type":
			_, isMap := v.(map[string]any)
			_, isList := v.([]any)
			_, isText := v.(string)
			_, isBool := v.(bool)
			n, isNumber := v.(float64)
			fits = map[string]bool{"object": isMap, "array": isList, "string": isText, "boolean": isBool, "integer": isNumber && n == math.Trunc(n)}[rule.(string)]
		case "pattern":
			if s, is := v.(string); is {
				fits = regexp.MustCompile(rule.(string)).MatchString(s)
			}
		case "required":
			if m, is := v.(map[string]any); is {
				for _, name := range rule.([]any) {
					_, has := m[name.(string)]
					fits = fits && has
				}
			}
		case "properties":
			m, _ := v.(map[string]any)
			for name, sub := range rule.(map[string]any) {
				if value, has := m[name]; has {
					if err := validate(sub.(map[string]any), value); err != nil {
						return fmt.Errorf("%s: %w", name, err)
					}
				}
			}
		case "additionalProperties":
			m, _ := v.(map[string]any)
			for name, value := range m {
				if err := validate(rule.(map[string]any), value); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
		case "items":
			list, _ := v.([]any)
			for _, value := range list {
				if err := validate(rule.(map[string]any), value); err != nil {
					return err
				}
			}
		default:
			return fmt.Errorf("the test does not know the keyword %q", key)
		}
		if !fits {
			return fmt.Errorf("%v does not fit %s: %v", v, key, rule)
		}
	}
	switch v := v.(type) {
	case string:
		if float64(len(v)) < number("minLength", 0) || float64(len(v)) > number("maxLength", math.Inf(1)) {
			return fmt.Errorf("%q has the wrong length", v)
		}
	case float64:
		if v < number("minimum", math.Inf(-1)) || v > number("maximum", math.Inf(1)) {
			return fmt.Errorf("%v is out of range", v)
		}
	case []any:
		if float64(len(v)) < number("minItems", 0) {
			return fmt.Errorf("%v has too few items", v)
		}
	}
	return nil
}

// TestWhatAServiceImports counts what comes with the package: the library and the contract, no other module.
func TestWhatAServiceImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}} {{.Module.Path}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	const ours, library = "github.com/causeway-gateway/causeway", "github.com/go-zookeeper/zk"
	var packages []string
	modules := map[string]bool{}
	for line := range strings.Lines(string(bytes.TrimSpace(out))) {
		name, module, _ := strings.Cut(strings.TrimSpace(line), " ")
		packages = append(packages, name)
		modules[module] = true
	}
	slices.Sort(packages)
	want := []string{ours + "/registry", ours + "/registry/zookeeper", library}
	if d := cmp.Diff(want, packages); d != "" || len(modules) != 2 {
		t.Errorf("want 3 packages of 2 modules, found modules %v (-want +got):\n%s", modules, d)
	}
}
