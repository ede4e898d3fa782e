// Package plugintest is what the tests of plugins share: it reads the examples of their READMEs as the gateway would.
package plugintest

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
	"github.com/causeway-gateway/causeway/proxy/config"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
)

// Examples are the blocks of a README that are fenced as yaml.
func Examples(t testing.TB, file string) (text string, examples []string) {
	t.Helper()
	b, err := os.ReadFile(file) //nolint:gosec // named by a test
	if err != nil {
		t.Fatal(err)
	}
	text = string(b)
	for i, part := range strings.Split(text, "```yaml\n") {
		if i == 0 {
			continue
		}
		example, _, closed := strings.Cut(part, "```")
		if !closed {
			t.Fatal("a fence is not closed")
		}
		examples = append(examples, example)
	}
	if len(examples) == 0 {
		t.Fatalf("%s has no example", file)
	}
	return text, examples
}

// Readme reads every example of README.md with the gateway's own parser, makes the plugins in it, and looks for every key of
// the plugin's messages in the tables. It returns the configurations found, in their order.
func Readme(t *testing.T, kind plugin.Kind, env plugin.Env) []proto.Message {
	t.Helper()
	text, examples := Examples(t, "README.md")
	var found []proto.Message
	for _, example := range examples {
		confs, err := Parse(kind, example)
		if err != nil {
			t.Errorf("%v in\n%s", err, example)
		}
		for _, conf := range confs {
			p, err := kind.New(conf, env)
			if err != nil {
				t.Errorf("%v in\n%s", err, example)
				continue
			}
			Close(t, p)
		}
		found = append(found, confs...)
	}
	if len(found) == 0 {
		t.Errorf("no example of %s", kind.Name)
	}
	for _, conf := range []func() proto.Message{kind.Config, kind.Credential} {
		if conf != nil {
			for _, key := range keys(nil, "", conf().ProtoReflect().Descriptor()) {
				if !strings.Contains(text, "| `"+key+"` |") {
					t.Errorf("the key `%s` is not in the README's table", key)
				}
			}
		}
	}
	return found
}

// Close closes a plugin when the test ends.
func Close(t testing.TB, p plugin.Plugin) {
	t.Helper()
	if c, ok := p.(io.Closer); ok {
		t.Cleanup(func() {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Parse reads a part of a document and returns the configurations of the kind's plugins in it, wherever they stand.
func Parse(kind plugin.Kind, text string) ([]proto.Message, error) {
	types := config.Types{Plugins: config.Messages{kind.Name: kind.Config().ProtoReflect().Descriptor()}, Credentials: config.Messages{}}
	if kind.Credential != nil {
		types.Credentials[kind.Name] = kind.Credential().ProtoReflect().Descriptor()
	}
	if !strings.Contains("\n"+text, "\nlisten:") {
		text = "listen: [{address: \"127.0.0.1:0\"}]\n" + text
	}
	if !strings.Contains("\n"+text, "\nservices:") {
		text += "\nschemas: [{name: orders, descriptor_set: orders.binpb}]\n" +
			"services: [{name: orders, schema: orders, endpoints: [{address: \"127.0.0.1:1\"}]}]\n"
	}
	doc, err := config.Parse("causeway.yaml", []byte(text), types)
	if err != nil {
		return nil, err
	}
	c := doc.Config
	all := [][]*configv1.Plugin{c.GetPlugins()}
	for _, s := range c.GetServices() {
		all = append(all, s.GetPlugins())
	}
	for _, r := range c.GetRoutes() {
		all = append(all, r.GetPlugins())
	}
	for _, u := range c.GetConsumers() {
		all = append(all, u.GetPlugins())
	}
	var out []proto.Message
	for _, list := range all {
		for _, p := range list {
			if p.GetName() != kind.Name {
				continue
			}
			conf := kind.Config()
			if err := proto.Unmarshal(p.GetConfig().GetValue(), conf); err != nil {
				return nil, err
			}
			out = append(out, conf)
		}
	}
	return out, nil
}

// keys are the paths of a message's fields as a README's table has them: "delay.duration", "rules[].when".
func keys(dst []string, prefix string, m protoreflect.MessageDescriptor) []string {
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		key := prefix + string(f.Name())
		if f.Message() == nil || f.IsMap() || strings.HasPrefix(string(f.Message().FullName()), "google.protobuf.") {
			dst = append(dst, key)
			continue
		}
		if f.IsList() {
			key += "[]"
		}
		dst = keys(dst, key+".", f.Message())
	}
	return dst
}

// Env is what a test lends to a plugin: a meter, the time, a log that nobody reads, and outputs that take everything.
func Env(t testing.TB) plugin.Env {
	t.Helper()
	meter, err := telemetry.NewMeter()
	if err != nil {
		t.Fatal(err)
	}
	exports, err := telemetry.NewExports(meter, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	return plugin.Env{
		Spans: exports.Spans(),
		Scope: "global", Meter: meter, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Open: func(string, telemetry.Rotation) (io.WriteCloser, error) { return nothing{io.Discard}, nil },
		Keep: func(_ string, create func() (any, error)) (any, error) { return create() },
		Store: func(name string) (plugin.Store, error) {
			return nil, fmt.Errorf("there is no store %q", name)
		},
	}
}

type nothing struct{ io.Writer }

// Close implements io.Closer.
func (nothing) Close() error { return nil }

// Fault is a configuration that is refused.
type Fault struct {
	Name   string
	Config string // YAML of the plugin's own keys, in flow style: `{origins: ["*"]}`
	Path   string // of the fault within them
	Want   string // part of what it says
	Fix    string // part of its fix
}

// Faults makes the plugin of each configuration and looks at what it is refused for.
func Faults(t *testing.T, kind plugin.Kind, env plugin.Env, cases []Fault) {
	t.Helper()
	for _, tc := range cases {
		t.Run(tc.Name, func(t *testing.T) {
			confs, err := Parse(kind, "plugins: [{name: "+kind.Name+", config: "+tc.Config+"}]")
			if err != nil || len(confs) != 1 {
				t.Fatal(err, len(confs))
			}
			p, err := kind.New(confs[0], env)
			if err == nil {
				Close(t, p)
			}
			f, ok := errors.AsType[*plugin.Fault](err)
			if !ok {
				t.Fatalf("want a fault with a place, found %v", err)
			}
			if f.Path != tc.Path || !strings.Contains(f.Message, tc.Want) || tc.Want == "" || !strings.Contains(f.Fix, tc.Fix) || f.Fix == "" {
				t.Errorf("found %q: %q, fix %q", f.Path, f.Message, f.Fix)
			}
		})
	}
}

// Scrape is what the meter of an env shows to a monitoring system.
func Scrape(t testing.TB, env plugin.Env) string {
	t.Helper()
	rec := httptest.NewRecorder()
	env.Meter.Handler().ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody))
	return rec.Body.String()
}
