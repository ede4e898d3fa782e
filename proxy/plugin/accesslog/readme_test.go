package accesslog

import (
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"

	accesslogv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/accesslog/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
)

// readme returns the README and its examples: the blocks fenced as yaml.
func readme(t *testing.T) (text string, examples []string) {
	t.Helper()
	b, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	text = string(b)
	for i, part := range strings.Split(text, "```yaml\n") {
		if i > 0 {
			example, _, closed := strings.Cut(part, "```")
			if !closed {
				t.Fatal("a fence is not closed")
			}
			examples = append(examples, example)
		}
	}
	if len(examples) == 0 {
		t.Fatal("no example")
	}
	return text, examples
}

// TestReadme reads every example as the gateway would, makes the plugin of it, and looks for every key in the tables.
func TestReadme(t *testing.T) {
	text, examples := readme(t)
	for _, example := range examples {
		var doc struct {
			Plugins []struct {
				Name   string
				Config map[string]any
			}
		}
		dec := yaml.NewDecoder(strings.NewReader(example))
		dec.KnownFields(true)
		if err := dec.Decode(&doc); err != nil {
			t.Fatalf("%v in\n%s", err, example)
		}
		for _, p := range doc.Plugins {
			if p.Name != Kind.Name {
				t.Errorf("the example is of %q, want %q", p.Name, Kind.Name)
			}
			js, err := json.Marshal(p.Config)
			if err != nil {
				t.Fatal(err)
			}
			conf := Kind.Config()
			if err := protojson.Unmarshal(js, conf); err != nil { // strict: unknown keys are errors
				t.Fatalf("%v in\n%s", err, example)
			}
			env := plugin.Env{Open: func(string, telemetry.Rotation) (io.WriteCloser, error) { return nothing{io.Discard}, nil }}
			if _, err := Kind.New(conf, env); err != nil {
				t.Error(err)
			}
		}
	}
	fields := Kind.Config().ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		if key := "| `" + fields.Get(i).JSONName() + "` |"; !strings.Contains(text, key) {
			t.Errorf("the key %s is not in the README's table", fields.Get(i).JSONName())
		}
	}
}

// TestReadmeNamesEveryField holds the table of the line against a line with every field.
func TestReadmeNamesEveryField(t *testing.T) {
	text, _ := readme(t)
	c, sent := okCall(t)
	sent.Reason, sent.Err = "REASON", io.EOF
	line := map[string]any{}
	if err := json.Unmarshal(layoutOf(t, &accesslogv1.AccessLog{}).appendLine(nil, c, &sent, nil), &line); err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(text, "## The line")
	table, _, _ = strings.Cut(table, "## Errors")
	for field := range line {
		if !strings.Contains(table, "`"+field+"`") {
			t.Errorf("the field %s is not in the README's table", field)
		}
	}
	if len(line) != 24 {
		t.Errorf("a full line has %d fields, want 24", len(line))
	}
}
