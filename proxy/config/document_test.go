package config_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
	"github.com/causeway-gateway/causeway/proxy/config"
)

const valid = `listen: [{address: ":8080"}]
schemas:
  - name: orders
    descriptor_set: ${SET}
services:
  - name: orders
    endpoints: [{address: "127.0.0.1:9090"}]
    schema: orders
plugins:
  - name: access_log
    config: {output: "${OUTPUT}"}
  - name: metrics
    config: {buckets: [1, 2]}
`

// TestLaterFault: faults that are found after loading stand at the value, or at the nearest one around it.
func TestLaterFault(t *testing.T) {
	t.Setenv("SET", "top-secret.binpb")
	t.Setenv("OUTPUT", "x")
	doc, err := config.Parse("dir/causeway.yaml", []byte(valid), plugins())
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		fault *config.Fault
		want  string
	}{
		{
			doc.Fault("services[0].schema", "no service %q in it", "a.B").WithFix("push it"),
			"dir/causeway.yaml:8:13: services[0].schema: no service \"a.B\" in it\n      7 |     endpoints: [{address: \"127.0.0.1:9090\"}]\n      8 |     schema: orders\n        |             ^^^^^^\nfix: push it",
		},
		{doc.Fault("services[0].adapter", "gone"), "dir/causeway.yaml:6:5: services[0].adapter: gone\n      5 | services:\n      6 |   - name: orders\n        |     ^"},
		{doc.Fault("services[7].adapter", "gone"), "dir/causeway.yaml:5:1: services[7].adapter: gone\n      4 |     descriptor_set: ${SET}\n      5 | services:\n        | ^^^^^^^^"},
		{doc.Fault("plugins[1].config.buckets[1]", "falls"), "dir/causeway.yaml:13:27: plugins[1].config.buckets[1]: falls\n     12 |   - name: metrics\n     13 |     config: {buckets: [1, 2]}\n        |                           ^"},
		{doc.Fault("plugins[1].config.other", "x"), "dir/causeway.yaml:13:5: plugins[1].config.other: x\n     12 |   - name: metrics\n     13 |     config: {buckets: [1, 2]}\n        |     ^^^^^^"},
		{
			doc.Fault("schemas[0].descriptor_set", "open %s: %v; %s", "dir/top-secret.binpb", errors.New("open top-secret.binpb: no"), "x"),
			"dir/causeway.yaml:4:21: schemas[0].descriptor_set: open dir/***: open ***: no; ***\n      3 |   - name: orders\n      4 |     descriptor_set: ${SET}\n        |                     ^^^^^^",
		},
		{doc.Fault("", "two bindings collide"), "dir/causeway.yaml:1:1: two bindings collide\n      1 | listen: [{address: \":8080\"}]\n        | ^"},
	}
	for _, test := range tests {
		if diff := cmp.Diff(test.want, test.fault.Error()); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
	if got, want := tests[0].fault.Summary(), `dir/causeway.yaml:8:13: services[0].schema: no service "a.B" in it`; got != want {
		t.Errorf("summary %q, want %q", got, want)
	}
	if diff := cmp.Diff([]string{"dir/top-secret.binpb"}, []string{doc.Config.GetSchemas()[0].GetDescriptorSet()}); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestNew(t *testing.T) {
	c := &configv1.Config{
		Listen:   []*configv1.Listener{{Address: "127.0.0.1:0"}},
		Schemas:  []*configv1.Schema{{Name: "main", Source: &configv1.Schema_DescriptorSet{DescriptorSet: "a.binpb"}}},
		Services: []*configv1.Service{{Name: "main", Schema: "main", Endpoints: []*configv1.Endpoint{{Address: "127.0.0.1:9"}}}},
	}
	before := proto.CloneOf(c)
	doc := config.New(c, "/srv")
	if err := doc.Validate(plugins()); err != nil {
		t.Errorf("a valid document: %v", err)
	}
	if !proto.Equal(c, before) {
		t.Error("New changed what it was given")
	}
	s := doc.Config.GetServices()[0]
	if s.GetAdapter() != "grpc" || s.GetDialTimeout().AsDuration() != 3*time.Second || s.GetMaxMessage() != 4194304 {
		t.Errorf("defaults of a service: %v", s)
	}
	if got := doc.Config.GetSchemas()[0].GetDescriptorSet(); got != "/srv/a.binpb" {
		t.Errorf("descriptor set %q", got)
	}
	if got, want := doc.Fault("services[0].schema", "empty").WithFix("push one").Error(), "services[0].schema: empty\nfix: push one"; got != want {
		t.Errorf("fault %q, want %q", got, want)
	}
	c.Services[0].Endpoints[0].Address = "http://127.0.0.1:9"
	c.Services[0].DialTimeout = durationpb.New(-1)
	c.Plugins = []*configv1.Plugin{{Name: "jwt"}}
	got := config.New(c, "").Validate(plugins())
	want := `services[0].endpoints[0].address: wanted host:port without a scheme, found "http://127.0.0.1:9"
fix: write the address alone: 127.0.0.1:9

services[0].dial_timeout: wanted more than 0s, found -0.000000001s
fix: write a time above 0s, or remove the key for the default

plugins[0].name: unknown plugin "jwt"
fix: name one of: access_log, metrics`
	if diff := cmp.Diff(want, fmt.Sprint(got)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestErrorsAreFound(t *testing.T) {
	doc, err := config.Load(filepath.Join(t.TempDir(), "none.yaml"), config.Types{})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v; want fs.ErrNotExist in it", err)
	}
	if f, ok := errors.AsType[*config.Fault](err); !ok || f.File != doc.Files[0] {
		t.Errorf("error %v; want a fault about %v", err, doc.Files)
	}
}

// TestFilesToWatch: all that was read, or should have been, also when the document is refused.
func TestFilesToWatch(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.yaml"), "admin: {token: \"${file:token}\"}\nlisten: [{address: \"\"}]\n")
	write(t, filepath.Join(dir, "b.yml"), "plugins:\n")
	write(t, filepath.Join(dir, "c.txt"), "")
	doc, err := config.Load(dir, plugins())
	if err == nil {
		t.Fatal("accepted")
	}
	want := []string{dir, filepath.Join(dir, "a.yaml"), filepath.Join(dir, "b.yml"), filepath.Join(dir, "token")}
	if diff := cmp.Diff(want, doc.Files); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestTooLarge(t *testing.T) {
	_, err := config.Parse("x.yaml", bytes.Repeat([]byte("#"), 16<<20+1), config.Types{})
	if err == nil || !strings.Contains(err.Error(), "larger than 16777216 bytes") {
		t.Errorf("error %v", err)
	}
}

// TestManyFaults: what is printed stays readable, what is returned is complete.
func TestManyFaults(t *testing.T) {
	var b strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&b, "key%d: 1\n", i)
	}
	_, err := config.Parse("x.yaml", []byte(b.String()), config.Types{})
	faults, ok := errors.AsType[config.Faults](err)
	if !ok || len(faults) != 1001 { // and no listener
		t.Fatalf("%d faults, want 1001", len(faults))
	}
	if text := err.Error(); !strings.HasSuffix(text, "... and 951 more faults") || len(text) > 20_000 {
		t.Errorf("%d bytes printed, ending in %q", len(text), text[len(text)-40:])
	}
}

// TestSecretsStaySecret breaks a document whose values are all secret in every way that one change of a character makes,
// and looks for the secret in what is said.
func TestSecretsStaySecret(t *testing.T) {
	const secret = "hunter2"
	for _, name := range []string{"A", "B"} {
		t.Setenv(name, secret+" \"!"+name)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "s"), secret+"\n")
	text := `listen: [{address: "${A}", tls: {cert_file: "${B}", key_file: "~${A}"}}]
admin: {address: "${A}", token: "${file:s} x", data_dir: "~${B}"}
schemas: [{name: "${A}", reflection: {address: "${file:s}", tls: {server_name: "${A}"}}}]
services: [{name: "${A}", adapter: "${B}", schema: "${file:s}", serves: ["${A}", "${A}"], endpoints: [{address: "${A}"}], dial_timeout: "${A}", max_message: "${B}"}]
routes:
  - name: ${A}
    hosts: ["${A}", "${A}"]
    methods: ["${A}", "${B}*"]
    http: {method: "${A}", custom: {kind: "${A}", path: "${A}"}}
    headers: [{name: "${A}", regex: "(${A}"}, {name: x, present: "${A}"}]
    service: ${A}
    priority: ${A}
    timeout: ${A}
    request_headers: ["${A}", "${A}"]
    plugins: [{name: "${file:s}"}, {name: metrics, config: {buckets: ["${A}"]}}]
`
	check := func(text string) int {
		_, err := config.Parse(filepath.Join(dir, "c.yaml"), []byte(text), plugins())
		if err == nil {
			t.Fatal("accepted")
		}
		faults, _ := errors.AsType[config.Faults](err)
		for _, f := range faults {
			if strings.Contains(f.Error(), secret) {
				t.Errorf("the secret is shown:\n%v", f)
			}
		}
		return len(faults)
	}
	if n := check(text); n < 25 {
		t.Errorf("%d faults only", n)
	}
	for i := 0; i < len(text); i += 7 { // whatever else is wrong
		check(text[:i] + "]" + text[i:])
	}
}

// TestMutations: no document that is broken by a stroke of the keyboard is accepted with another meaning than its own, or
// panics; what is accepted reads the same when written out.
func TestMutations(t *testing.T) {
	for _, file := range corpus(t, "accepted") {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		src := string(ar.Files[0].Data)
		for i := 0; i < len(src); i += 29 {
			for _, text := range []string{src[:i], src[:i] + src[i+1:], src[:i] + "\t" + src[i:], src[:i] + ":" + src[i:], src[:i] + "\n" + src[i:]} {
				accept(t, text)
			}
		}
	}
}

// accept parses a document; if it is accepted, it must be the same after being written out and read again.
func accept(t *testing.T, text string) {
	t.Helper()
	doc, err := config.Parse("x.yaml", []byte(text), plugins())
	if err != nil {
		if faults, ok := errors.AsType[config.Faults](err); !ok || len(faults) == 0 || err.Error() == "" {
			t.Errorf("refused without a fault: %#v", err)
		}
		return
	}
	out := asYAML(t, doc.Config)
	again, err := config.Parse("x.yaml", out, plugins())
	if err != nil {
		t.Errorf("accepted, but refused when written out: %v\n%s", err, out)
		return
	}
	if diff := cmp.Diff(canonical(t, doc.Config), canonical(t, again.Config)); diff != "" {
		t.Errorf("%s\n(-first +again)\n%s", text, diff)
	}
}

func FuzzParse(f *testing.F) {
	for _, dir := range []string{"accepted", "faults"} {
		for _, file := range corpus(f, dir) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				f.Fatal(err)
			}
			for _, part := range ar.Files {
				if strings.HasSuffix(part.Name, ".yaml") {
					f.Add(string(part.Data))
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "${file:") || len(text) > 1<<16 {
			return // no files of this machine
		}
		accept(t, text)
	})
}

func corpus(t testing.TB, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", dir, "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in %s: %v", dir, err)
	}
	return files
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestLarge: documents that are large, in one line, nested, or wrong everywhere take no more than their share.
func TestLarge(t *testing.T) {
	const n = 10_000
	var s strings.Builder
	s.WriteString(`{"listen": [{"address": ":8080"}], "schemas": [{"name": "orders", "pushed": {}}], "services": [{"name": "orders", "endpoints": [{"address": "a:1"}], "schema": "orders"}], "routes": [`)
	for i := range n {
		if i > 0 {
			s.WriteString(", ")
		}
		fmt.Fprintf(&s, `{"name": "r%d", "hosts": ["h%d.example.com"], "methods": ["acme.v1.S%d/Get"], "service": "orders"}`, i, i, i)
	}
	s.WriteString("]}")
	one := s.String()
	lines := strings.ReplaceAll(one, ", {", ",\n {")
	var block strings.Builder
	block.WriteString("routes:\n")
	for i := range n {
		fmt.Fprintf(&block, "  - name: r%d\n    token: x\n    methods: [a.B/C]\n    servce: x\n", i)
	}
	tests := []struct {
		name, text string
		faults     int
	}{
		{"one line", one, 0},
		{"many lines", lines, 0},
		{"syntax error at the end", strings.TrimSuffix(lines, "}"), 1},
		{"faults in one line", strings.ReplaceAll(one, `"service"`, `"servce"`), n},
		{"faults in many lines", strings.ReplaceAll(lines, `"service"`, `"servce"`), n},
		{"faults in blocks", block.String(), 2*n + 1},
		{"flow nesting", "listen: " + strings.Repeat("[", 200_000), 1},
		{"block nesting", "listen:\n" + strings.Repeat("- ", 200_000), 1},
	}
	for _, test := range tests {
		before := spent(t)
		_, err := config.Parse("x.yaml", []byte(test.text), config.Types{})
		faults, _ := errors.AsType[config.Faults](err)
		if len(faults) != test.faults {
			t.Errorf("%s: %d faults, want %d", test.name, len(faults), test.faults)
		}
		if err != nil && len(err.Error()) > 1<<16 {
			t.Errorf("%s: %d bytes printed", test.name, len(err.Error()))
		}
		if took := spent(t) - before; took > 20*time.Second { // each takes about 0.2 s; one that costs its square, minutes
			t.Errorf("%s: %s", test.name, took)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("%d_routes", n), func(b *testing.B) {
			var s strings.Builder
			s.WriteString("listen: [{address: \":8080\"}]\nschemas: [{name: orders, pushed: {}}]\nservices: [{name: orders, endpoints: [{address: \"a:1\"}], schema: orders}]\nroutes:\n")
			for i := range n {
				fmt.Fprintf(&s, "  - name: r%d\n    hosts: [h%d.example.com]\n    methods: [acme.v1.S%d/Get]\n    service: orders\n    timeout: 3s\n", i, i, i)
			}
			src := []byte(s.String())
			b.ReportAllocs()
			for b.Loop() {
				if _, err := config.Parse("x.yaml", src, config.Types{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
