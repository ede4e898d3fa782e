package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// root is the repository, seen from this package.
const root = "../.."

// A pattern names packages by their path in the module: "a/b" is that package, "a/*" each package directly below a, and
// "a/..." a and everything below it. "{x,y}" stands for either.

// row is what the packages that a pattern names may import of ours.
type row struct {
	pkg  string
	mays []string
}

// imports is who may import whom among our own packages. The first row that names a package holds for it.
var imports = []row{
	{"cmd/...", []string{"cmd/...", "protos/...", "proxy/...", "registry/...", "rpcadapters/...", "transcode/..."}},

	{"proxy/admin", []string{"proxy", "proxy/{config,telemetry,upstream}", "transcode/{schema,source}", "protos/..."}},
	{"proxy", []string{"proxy/{balancer,breaker,builtin,certs,config,expr,health,outlier,upstream,plugin,telemetry}", "rpcadapters", "rpcadapters/{rpc,wire}", "transcode/*", "registry", "protos/..."}},
	{"proxy/builtin", []string{"rpcadapters/rpc", "transcode/schema"}},
	{"proxy/config", []string{"protos/...", "transcode/*", "proxy/origin"}},
	{"proxy/origin", nil},
	{"proxy/expr", []string{"rpcadapters/rpc", "transcode/schema"}},
	{"proxy/limit", []string{"proxy/{plugin,telemetry,expr}", "rpcadapters/rpc", "transcode/schema", "protos/..."}},
	{"proxy/store", []string{"proxy/{plugin,telemetry}", "protos/..."}},
	{"proxy/fetch", []string{"proxy/plugin", "rpcadapters/rpc"}},
	{"proxy/upstream", []string{"proxy/{balancer,outlier,breaker,health}", "registry", "rpcadapters", "rpcadapters/rpc"}},
	{"proxy/outlier", nil},
	{"proxy/breaker", nil},
	{"proxy/balancer", []string{"proxy/outlier", "registry", "rpcadapters", "rpcadapters/rpc"}},
	{"proxy/certs", nil},
	{"proxy/health", nil},
	{"proxy/telemetry", []string{"rpcadapters/rpc"}},
	{"proxy/plugin", []string{"rpcadapters/rpc", "proxy/telemetry", "transcode/schema"}},
	{"proxy/plugin/plugintest", []string{"proxy/{plugin,telemetry,config,expr}", "rpcadapters/rpc", "transcode/schema", "protos/..."}},
	{"proxy/plugin/*", []string{"proxy/{plugin,telemetry,expr,limit,origin}", "rpcadapters/rpc", "transcode/schema", "protos/..."}},

	{"rpcadapters/rpc", []string{"transcode/schema"}},
	{"rpcadapters/wire", []string{"rpcadapters/rpc"}},
	{"rpcadapters/wire/socket", nil},
	{"rpcadapters/wire/batch", []string{"rpcadapters/wire/socket"}},
	{"rpcadapters/wire/{framed,http2}", []string{"rpcadapters/wire", "rpcadapters/wire/{batch,socket}", "rpcadapters/rpc"}},
	{"rpcadapters/wire/http1", []string{"rpcadapters/wire", "rpcadapters/wire/socket", "rpcadapters/rpc"}},
	{"rpcadapters/wire/*", []string{"rpcadapters/wire", "rpcadapters/rpc"}},
	{"rpcadapters", []string{"rpcadapters/{rpc,wire}", "transcode/{schema,httprule,jsonwire}"}},
	{"rpcadapters/envelope", []string{"rpcadapters/{rpc,wire}", "transcode/schema"}},
	{"rpcadapters/adaptertest", []string{"rpcadapters", "rpcadapters/{rpc,wire}", "rpcadapters/wire/*", "transcode/{schema,jsonwire}", "protos/..."}},
	{"rpcadapters/grpc", []string{"rpcadapters", "rpcadapters/{rpc,wire,envelope}", "rpcadapters/wire/http2", "transcode/{schema,httprule,jsonwire}"}},
	{"rpcadapters/rest", []string{"rpcadapters", "rpcadapters/{rpc,wire}", "rpcadapters/wire/websocket", "transcode/{schema,httprule,jsonwire}"}},
	{"rpcadapters/{tars,trpc}", []string{"rpcadapters", "rpcadapters/{rpc,wire,envelope}", "rpcadapters/wire/framed", "transcode/{schema,httprule,jsonwire,tarswire}", "protos/causeway/adapter/..."}},
	{"rpcadapters/*", []string{"rpcadapters", "rpcadapters/{rpc,wire,envelope}", "transcode/{schema,httprule,jsonwire}"}},

	{"registry", nil},
	{"registry/polling", []string{"registry"}},
	{"registry/dns", []string{"registry", "registry/polling"}},
	{"registry/tars", []string{"registry", "registry/polling", "rpcadapters/tars", "transcode/tarswire"}}, // its registry is a servant
	{"registry/*", []string{"registry"}},
	{"registry/zookeeper/devserver", nil},

	{"transcode/schema", nil},
	{"transcode/source", []string{"transcode/{schema,tarsidl}", "protos/causeway/tars/v1"}},
	{"transcode/{tarsidl,tarswire}", []string{"transcode/schema", "protos/causeway/tars/v1"}},
	{"transcode/source", []string{"transcode/{schema,tarsidl}", "protos/..."}},
	{"transcode/{tarsidl,tarswire}", []string{"transcode/schema", "protos/causeway/tars/..."}},
	{"transcode/*", []string{"transcode/schema"}},

	{"protos/...", []string{"protos/..."}},

	// What tests share: imported by tests and by each other only.
	{"testdata/...", []string{"testdata/...", "protos/..."}},
}

// order is what the tests of a folder at the top may import besides testdata. It keeps the folders without a circle, also
// for somebody who reads the tests.
var order = map[string][]string{
	"cmd":         {"cmd", "proxy", "rpcadapters", "transcode", "registry", "protos"},
	"proxy":       {"proxy", "rpcadapters", "transcode", "registry", "protos"},
	"rpcadapters": {"rpcadapters", "transcode", "protos"},
	"transcode":   {"transcode", "protos"},
	"registry":    {"registry", "rpcadapters", "transcode", "protos"},
	"protos":      {"protos"},
	"testdata":    {"protos"},
}

// homes is where packages from outside may be imported, tests and testdata apart. The first row that names an import holds for it; an
// import without a row is free.
var homes = []struct {
	imported string
	homes    []string
}{
	{"go.opentelemetry.io/...", []string{"proxy/telemetry"}},
	{"github.com/prometheus/...", []string{"proxy/telemetry"}},
	{"github.com/jhump/protoreflect/...", []string{"transcode/source"}},
	{"github.com/bufbuild/protocompile/...", []string{"transcode/source", "protos/generate"}},
	{"github.com/go-zookeeper/...", []string{"registry/zookeeper"}},
	{"cel.dev/...", []string{"proxy/expr"}},
	{"github.com/redis/...", []string{"proxy/store"}},
	{"github.com/spf13/...", []string{"cmd/..."}},
	{"go.yaml.in/...", []string{"proxy/config"}},
	{"github.com/pierrec/lz4/...", []string{"rpcadapters/trpc"}},
	{"github.com/grpc-ecosystem/grpc-gateway/v2/runtime", []string{"rpcadapters"}},                           // the status table
	{"github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-openapiv2/options", []string{"transcode/source"}}, // bundled as an import of .proto files
	{"github.com/grpc-ecosystem/...", nil},
	{"google.golang.org/protobuf/encoding/protojson", []string{"transcode/source"}},
	{"google.golang.org/protobuf/types/dynamicpb", []string{"transcode/source"}},
	{"google.golang.org/grpc/codes", []string{"..."}},
	{"google.golang.org/grpc", []string{"cmd/...", "proxy/{admin,builtin,telemetry}", "rpcadapters/grpc", "transcode/source", "protos/..."}},
	{"google.golang.org/grpc/credentials", []string{"cmd/...", "proxy/{admin,builtin,telemetry}", "rpcadapters/grpc", "transcode/source", "protos/..."}},
	{"google.golang.org/grpc/...", []string{"cmd/...", "proxy/{admin,builtin}", "rpcadapters/grpc", "transcode/source", "protos/..."}},
	{"net/http", []string{"cmd/...", "proxy/{admin,telemetry,fetch,health}", "proxy/plugin/plugintest", "rpcadapters/wire/websocket", "rpcadapters/adaptertest", "rpcadapters", "transcode/httprule"}}, // the last two: names of methods and statuses
	{"net/http/...", []string{"cmd/...", "proxy/{admin,telemetry}", "proxy/plugin/plugintest"}},
	{"github.com/coder/websocket/...", []string{"cmd/...", "rpcadapters/wire/websocket"}},
	{"unsafe", []string{"transcode/jsonwire", "rpcadapters/wire/socket", "protos/..."}},
	{"log", nil}, // log/slog, handed in
	{"testing/...", []string{"registry/registrytest", "rpcadapters/adaptertest", "proxy/plugin/plugintest"}},
	{"github.com/google/go-cmp/...", []string{"registry/registrytest", "rpcadapters/adaptertest"}},
	{"go.uber.org/goleak", []string{"registry/registrytest", "rpcadapters/adaptertest"}},
}

// pkg is one package as go list shows it.
type pkg struct {
	ImportPath                         string
	Module                             struct{ Path string }
	Imports, TestImports, XTestImports []string
}

// within reports whether a pattern names a path.
func within(pattern, path string) bool {
	if before, rest, ok := strings.Cut(pattern, "{"); ok {
		names, after, _ := strings.Cut(rest, "}")
		return slices.ContainsFunc(strings.Split(names, ","), func(name string) bool { return within(before+name+after, path) })
	}
	if pattern == "..." {
		return true
	}
	if below, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == below || strings.HasPrefix(path, below+"/")
	}
	if above, ok := strings.CutSuffix(pattern, "/*"); ok {
		name, ok := strings.CutPrefix(path, above+"/")
		return ok && !strings.Contains(name, "/")
	}
	return pattern == path
}

func anyWithin(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return within(p, path) })
}

// faults returns what the three tables have against a package.
func faults(p pkg) []string {
	own := func(imported string) (string, bool) {
		return strings.CutPrefix(imported, p.Module.Path+"/")
	}
	name, _ := own(p.ImportPath)
	at := slices.IndexFunc(imports, func(r row) bool { return within(r.pkg, name) })
	if at < 0 {
		return []string{name + " is in no row of the import table: add it to the table in cmd/causeway/arch_test.go"}
	}
	var found []string
	for _, i := range p.Imports {
		if to, ours := own(i); ours {
			if !anyWithin(imports[at].mays, to) {
				found = append(found, fmt.Sprintf("%s may not import %s", name, to))
			}
			continue
		}
		for _, h := range homes {
			if strings.HasPrefix(name, "testdata/") {
				break
			}
			if within(h.imported, i) {
				if !anyWithin(h.homes, name) {
					found = append(found, fmt.Sprintf("%s may not import %s: its place is %s", name, i, place(h.homes)))
				}
				break
			}
		}
	}
	top, _, _ := strings.Cut(name, "/")
	for _, i := range slices.Concat(p.TestImports, p.XTestImports) {
		if to, ours := own(i); ours {
			if toTop, _, _ := strings.Cut(to, "/"); toTop != "testdata" && !slices.Contains(order[top], toTop) {
				found = append(found, fmt.Sprintf("the tests of %s may not import %s", name, to))
			}
		}
	}
	return found
}

func place(homes []string) string {
	if len(homes) == 0 {
		return "in tests only"
	}
	return strings.Join(homes, ", ")
}

// list asks the go command for every package of the module, those below testdata included.
func list(t *testing.T) []pkg {
	t.Helper()
	args := []string{"list", "-e", "-json=ImportPath,Module,Imports,TestImports,XTestImports", "./..."}
	err := filepath.WalkDir(filepath.Join(root, "testdata"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil {
			return fs.SkipDir // a module of its own
		}
		if files, _ := filepath.Glob(filepath.Join(path, "*.go")); len(files) > 0 {
			rel, err := filepath.Rel(root, path)
			args = append(args, "./"+filepath.ToSlash(rel))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	var all []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestArchImports(t *testing.T) {
	all := list(t)
	for _, p := range all {
		for _, f := range faults(p) {
			t.Error(f)
		}
	}
	for _, must := range []string{"rpcadapters/rpc", "proxy/balancer", "testdata/testsum"} {
		if !slices.ContainsFunc(all, func(p pkg) bool { return strings.HasSuffix(p.ImportPath, "/"+must) }) {
			t.Errorf("go list did not show %s among %d packages", must, len(all))
		}
	}
}

func TestArchTableRefuses(t *testing.T) {
	const module = "example.org/m"
	for _, tc := range []struct {
		name                  string
		pkg                   string
		imports, test, extern []string
		want                  []string
	}{
		{"allowed", "proxy", []string{"fmt", module + "/proxy/config", module + "/transcode/httprule", "google.golang.org/grpc/codes"}, nil, nil, nil},
		{"upwards", "proxy", []string{module + "/proxy/admin", module + "/cmd/causeway"}, nil, nil, []string{"proxy may not import proxy/admin", "proxy may not import cmd/causeway"}},
		{"beside", "proxy/plugin/jwt", []string{module + "/proxy/plugin/cors", module + "/proxy"}, nil, nil, []string{"proxy/plugin/jwt may not import proxy/plugin/cors", "proxy/plugin/jwt may not import proxy"}},
		{"no star below a star", "proxy", []string{module + "/transcode/source/inner"}, nil, nil, []string{"proxy may not import transcode/source/inner"}},
		{"leaf", "transcode/schema", []string{module + "/transcode/source"}, nil, nil, []string{"transcode/schema may not import transcode/source"}},
		{"helpers of tests", "cmd/causeway", []string{module + "/testdata/realserver"}, nil, nil, []string{"cmd/causeway may not import testdata/realserver"}},
		{"unknown", "proxy/util/strings", nil, nil, nil, []string{"proxy/util/strings is in no row of the import table: add it to the table in cmd/causeway/arch_test.go"}},
		{
			"away from home", "proxy/upstream",
			[]string{"net/http", "google.golang.org/grpc/status", "go.opentelemetry.io/otel", "log/slog", "log"},
			nil, nil,
			[]string{
				"proxy/upstream may not import net/http: its place is cmd/..., proxy/{admin,telemetry,fetch,health}, proxy/plugin/plugintest, rpcadapters/wire/websocket, rpcadapters/adaptertest, rpcadapters, transcode/httprule",
				"proxy/upstream may not import google.golang.org/grpc/status: its place is cmd/..., proxy/{admin,builtin}, rpcadapters/grpc, transcode/source, protos/...",
				"proxy/upstream may not import go.opentelemetry.io/otel: its place is proxy/telemetry",
				"proxy/upstream may not import log: its place is in tests only",
			},
		},
		{"oracles in tests", "transcode/jsonwire", nil, []string{"google.golang.org/protobuf/encoding/protojson", module + "/protos/demo/orders/v1", module + "/testdata/realserver"}, nil, nil},
		{
			"tests upwards", "rpcadapters/rest", nil,
			[]string{module + "/proxy"},
			[]string{module + "/cmd/causeway/orders", module + "/rpcadapters/grpc"},
			[]string{"the tests of rpcadapters/rest may not import proxy", "the tests of rpcadapters/rest may not import cmd/causeway/orders"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := pkg{ImportPath: module + "/" + tc.pkg, Imports: tc.imports, TestImports: tc.test, XTestImports: tc.extern}
			p.Module.Path = module
			if d := cmp.Diff(tc.want, faults(p)); d != "" {
				t.Errorf("faults (-want +got):\n%s", d)
			}
		})
	}
}

// TestArchTableHasNoCircle holds the table itself to the order of the folders.
func TestArchTableHasNoCircle(t *testing.T) {
	for _, r := range imports {
		from, _, _ := strings.Cut(r.pkg, "/")
		for _, may := range r.mays {
			if to, _, _ := strings.Cut(may, "/"); to != from && !slices.Contains(order[from], to) {
				t.Errorf("the row of %s allows %s, which is not below it", r.pkg, may)
			}
		}
	}
	for from, below := range order {
		for _, to := range below {
			if to != from && slices.Contains(order[to], from) {
				t.Errorf("%s and %s are each below the other", from, to)
			}
		}
	}
}
