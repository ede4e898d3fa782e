package config_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	accesslogv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/accesslog/v1"
	metricsv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/metrics/v1"
	"github.com/causeway-gateway/causeway/proxy/config"
)

func plugins() config.Types {
	return config.Types{Plugins: config.Messages{
		"access_log": (*accesslogv1.AccessLog)(nil).ProtoReflect().Descriptor(),
		"metrics":    (*metricsv1.Metrics)(nil).ProtoReflect().Descriptor(),
	}, Adapters: config.Messages{
		"grpc":   nil,
		"framed": (*metricsv1.Metrics)(nil).ProtoReflect().Descriptor(),
	}, Protocols: config.Messages{"http": nil}}
}

// unpack writes a case's files into a folder that becomes the current one, sets its environment, and returns what is to
// be loaded: conf.d if the case has it, else causeway.yaml.
func unpack(t *testing.T, ar *txtar.Archive) string {
	t.Helper()
	t.Chdir(t.TempDir())
	path := "causeway.yaml"
	for _, f := range ar.Files {
		switch f.Name {
		case "error", "want":
		case "env":
			for line := range strings.Lines(string(f.Data)) {
				if key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "="); ok {
					t.Setenv(key, value)
				}
			}
		default:
			if dir := filepath.Dir(f.Name); dir != "." {
				if err := os.MkdirAll(dir, 0o700); err != nil {
					t.Fatal(err)
				}
				if dir == "conf.d" {
					path = "conf.d"
				}
			}
			if err := os.WriteFile(f.Name, f.Data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return path
}

// golden runs f for each case and compares the result with the case's last file. CAUSEWAY_REFRESH=<glob of case names>
// writes the result into the cases instead.
func golden(t *testing.T, dir, result string, f func(t *testing.T, path string) string) int {
	t.Helper()
	cases, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range cases {
		file, err := filepath.Abs(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		t.Run(name, func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := f(t, unpack(t, ar))
			last := len(ar.Files) - 1
			if pattern := os.Getenv("CAUSEWAY_REFRESH"); pattern != "" {
				if ok, err := filepath.Match(pattern, name); err != nil {
					t.Fatal(err)
				} else if ok {
					if last < 0 || ar.Files[last].Name != result {
						ar.Files = append(ar.Files, txtar.File{Name: result})
						last++
					}
					ar.Files[last].Data = []byte(got)
					if err := os.WriteFile(file, txtar.Format(ar), 0o600); err != nil {
						t.Fatal(err)
					}
					return
				}
			}
			if last < 0 || ar.Files[last].Name != result {
				t.Fatalf("%s: the last file must be %q; CAUSEWAY_REFRESH=%s writes it", file, result, name)
			}
			if diff := cmp.Diff(string(ar.Files[last].Data), got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	return len(cases)
}

func TestFaults(t *testing.T) {
	n := golden(t, "testdata/faults", "error", func(t *testing.T, path string) string {
		doc, err := config.Load(path, plugins())
		if err == nil {
			t.Fatal("the document was accepted")
		}
		faults, ok := err.(config.Faults) //nolint:errorlint // Load promises this very type
		if !ok {
			t.Fatalf("error of type %T", err)
		}
		if doc == nil || doc.Config != nil || len(doc.Files) == 0 {
			t.Errorf("after an error: document %+v; want its files and no configuration", doc)
		}
		for _, f := range faults {
			checkStyle(t, f)
		}
		return err.Error() + "\n"
	})
	if n < 40 {
		t.Errorf("%d cases, want 40 or more", n)
	}
}

// checkStyle holds every fault to the rules that can be checked by a program.
func checkStyle(t *testing.T, f *config.Fault) {
	t.Helper()
	switch {
	case f.Message == "" || strings.HasSuffix(f.Message, ".") || strings.Contains(f.Message, "\n"):
		t.Errorf("message %q: want one line without a full stop", f.Message)
	case f.Fix == "":
		t.Errorf("%q: no fix", f.Message)
	case f.Line > 0 && f.Column < 1:
		t.Errorf("%q: line %d, column %d", f.Message, f.Line, f.Column)
	case f.File == "":
		t.Errorf("%q: no file", f.Message)
	}
}

func TestAccepted(t *testing.T) {
	golden(t, "testdata/accepted", "want", func(t *testing.T, path string) string {
		doc, err := config.Load(path, plugins())
		if err != nil {
			t.Fatal(err)
		}
		text := canonical(t, doc.Config)
		again, err := config.Parse("again.yaml", asYAML(t, doc.Config), plugins())
		if err != nil {
			t.Fatalf("the accepted document is refused when it is written out:\n%v", err)
		}
		if diff := cmp.Diff(text, canonical(t, again.Config)); diff != "" {
			t.Errorf("written out and read again (-first +second)\n%s", diff)
		}
		return text
	})
}

// canonical is a message as JSON with sorted keys and fixed spaces; protojson varies its own on purpose.
func canonical(t *testing.T, m proto.Message) string {
	t.Helper()
	b, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out) + "\n"
}

// asYAML writes a configuration as the document that it is read from: protojson without @type, ${ escaped.
func asYAML(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return appendYAML(nil, v)
}

func appendYAML(b []byte, v any) []byte {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "@type")
		b = append(b, '{')
		first := true
		for key, value := range v {
			if !first {
				b = append(b, ", "...)
			}
			first = false
			b = append(append(appendQuoted(b, key), ": "...), []byte(nil)...)
			b = appendYAML(b, value)
		}
		return append(b, '}')
	case []any:
		b = append(b, '[')
		for i, value := range v {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = appendYAML(b, value)
		}
		return append(b, ']')
	case string:
		return appendQuoted(b, strings.ReplaceAll(v, "${", "$${"))
	case json.Number:
		return append(b, v...)
	case bool:
		if v {
			return append(b, "true"...)
		}
		return append(b, "false"...)
	default:
		return append(b, "null"...)
	}
}

// appendQuoted writes a double-quoted YAML scalar in ASCII.
func appendQuoted(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range s {
		if r >= 0x20 && r < 0x7f && r != '"' && r != '\\' {
			b = append(b, byte(r))
			continue
		}
		b = append(b, `\U`...)
		for shift := 28; shift >= 0; shift -= 4 {
			b = append(b, hex[(r>>shift)&0xf])
		}
	}
	return append(b, '"')
}
