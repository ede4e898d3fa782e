package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/testdata/load"
	"github.com/causeway-gateway/causeway/testdata/realserver"
)

// What discovery, health and balancing do goes by the monotonic clock: a wall clock that is set an hour ahead or back expires
// nothing. In full, the gateway and its registrars run with a wall clock that jumps. The short form holds the code to where it reads
// a time in a way that depends on the wall clock.
func TestProofClock(t *testing.T) {
	t.Run("code", proofClockCode)
	if full() {
		t.Run("jumps", proofClockJumps)
	}
}

// ofWallClock are where code may look at the wall clock, by file and function, and why.
var ofWallClock = map[string]string{
	"registry/zookeeper/inspect.go entry":             "shows the server's times to people",
	"registry/zookeeper/instance.go newInstance":      "says when it was registered; nobody reads it but people",
	"registry/zookeeper/devserver/server.go New":      "numbers that are to be unlike those of the run before",
	"registry/zookeeper/devserver/server.go vanish":   "nodes with a time to live, of the development server",
	"registry/zookeeper/devserver/request.go execute": "times of nodes, shown to people",
	"proxy/upstream/shelf.go encodeSnapshot":          "the age of a snapshot, over a restart",
	"proxy/health/tcp.go guard":                       "a moment long gone ends a wait",
	"cmd/causeway/service_gateway.go health":          "shows times to people",
	"cmd/causeway/service_gateway.go reason":          "shows times to people",
	"cmd/causeway/service_list.go String":             "shows times to people",
	"cmd/causeway/service_inspect.go write":           "shows times to people",
}

// proofClockCode finds every place that takes a time apart, by which it loses its monotonic part.
func proofClockCode(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	apart := []string{"Unix", "UnixNano", "UnixMilli", "UnixMicro", "UTC", "Local", "In", "Truncate", "Format", "AppendFormat", "Parse", "Date", "ParseInLocation"}
	functions := []string{"Parse", "Date", "ParseInLocation"} // of package time
	var files []string
	for _, pattern := range []string{"registry/*.go", "registry/*/*.go", "registry/*/*/*.go", "proxy/upstream/*.go", "proxy/health/*.go", "proxy/outlier/*.go", "proxy/breaker/*.go", "proxy/balancer/*.go", "cmd/causeway/service*.go"} {
		some, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, some...)
	}
	found := map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		tree, err := parser.ParseFile(set, file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(tree.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"time"` }) {
			continue
		}
		name, _ := filepath.Rel(root, file)
		for _, d := range tree.Decls {
			in := "a variable"
			if f, is := d.(*ast.FuncDecl); is {
				in = f.Name.Name
			}
			ast.Inspect(d, func(n ast.Node) bool {
				call, is := n.(*ast.CallExpr)
				if !is {
					return true
				}
				sel, is := call.Fun.(*ast.SelectorExpr)
				if !is || !slices.Contains(apart, sel.Sel.Name) && !ofZero(sel, call) {
					return true
				}
				if x, is := sel.X.(*ast.Ident); (!is || x.Name != "time") && slices.Contains(functions, sel.Sel.Name) {
					return true // of another package, or somebody's method
				}
				at := filepath.ToSlash(name) + " " + in
				found[at] = true
				if ofWallClock[at] == "" {
					t.Errorf("%s: %s goes by the wall clock: take differences of times, or say here why it may", set.Position(call.Pos()), sel.Sel.Name)
				}
				return true
			})
		}
	}
	for at := range ofWallClock {
		if !found[at] {
			t.Errorf("%s does not look at the wall clock any more: remove it here", at)
		}
	}
}

// ofZero is Round(0), which takes the monotonic part away.
func ofZero(sel *ast.SelectorExpr, call *ast.CallExpr) bool {
	if sel.Sel.Name != "Round" || len(call.Args) != 1 {
		return false
	}
	n, is := call.Args[0].(*ast.BasicLit)
	return is && n.Value == "0"
}

// jumps is when the wall clock of a program built by jumping jumps, after its start, and by how much from the true time.
var jumps = []struct{ after, by time.Duration }{{15 * time.Second, time.Hour}, {30 * time.Second, -time.Hour}, {45 * time.Second, 0}}

// jumping builds the program with a wall clock that jumps; its monotonic clock does not.
func jumping(t *testing.T) string {
	t.Helper()
	source := filepath.Join(runtime.GOROOT(), "src", "time", "time.go") //nolint:staticcheck // the one that builds, too: both are of the same test
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	const line = "\tmono -= startNano\n\tsec += unixToInternal - minWall\n"
	if bytes.Count(text, []byte(line)) != 1 {
		t.Fatal("time.Now is not as this test knows it")
	}
	var jump strings.Builder
	for _, j := range jumps {
		fmt.Fprintf(&jump, "\tif mono-startNano > %d {\n\t\tby = %d\n\t}\n", j.after.Nanoseconds(), int64(j.by.Seconds()))
	}
	text = bytes.Replace(text, []byte(line), []byte("\tvar by int64\n"+jump.String()+"\tsec += by\n"+line), 1)
	dir := t.TempDir()
	changed, overlay, binary := filepath.Join(dir, "time.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "causeway")
	raw, err := json.Marshal(map[string]any{"Replace": map[string]string{source: changed}})
	if err != nil {
		t.Fatal(err)
	}
	for file, data := range map[string][]byte{changed: text, overlay: raw} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-overlay", overlay, "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return binary
}

// proofClockJumps runs a gateway and registrars whose wall clock jumps.
func proofClockJumps(t *testing.T) {
	binary := jumping(t)
	zk := realserver.StartZooKeeper(t)
	side := zkAt(t, zk.Address)
	const session = 4 * time.Second
	names := []string{"a", "b", "c"}
	for _, name := range names {
		p := startProbed(t, "127.0.0.1", name)
		cmd := exec.CommandContext(t.Context(), binary, "service", "register", "--zookeeper", zk.Address, "--service", echoName,
			"--address", p.address, "--id", name, "--check", "grpc", "--beat", "1s", "--session", session.String())
		out := &syncBuffer{}
		cmd.Stderr = out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill() // it runs until then
			_ = cmd.Wait()
			if t.Failed() {
				t.Log(out)
			}
		})
		await(t, name+" registered", func() bool { return statusIn(t, side, echoName, name) == registry.Up.String() })
	}
	nodes := func() (czxids []int64) {
		t.Helper()
		entries, err := side.Inspect(t.Context(), nil, echoName)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			czxids = append(czxids, e.Czxid)
		}
		return czxids
	}
	before := nodes()
	text := proofConfig(t, t.TempDir(), zk.Address, session, "    health_check: {grpc: {}}\n    retry: {per_try_timeout: 5s}\n    outliers: {}\n    breaker: {failure_rate: 0.5}\n")
	text = strings.Replace(text, "service: "+echoName+"}", "service: "+echoName+", beats: 1s}", 1)
	g := startGatewayProcessOf(t, binary, text)
	began := time.Now()
	c := startCallers(t, g.address)
	await(t, "all instances", func() bool { all, _ := g.used(); return len(all) == len(names) })
	l := load.Start(100, patient, c.all()...)
	defer l.Stop()
	seen := map[time.Duration]bool{}
	looks := 0
	for end := jumps[len(jumps)-1].after + 20*time.Second; time.Since(began) < end; time.Sleep(200 * time.Millisecond) {
		a := send(t, http.DefaultClient, http.MethodGet, "http://"+g.admin+"/healthz", "")
		if date, err := http.ParseTime(a.header.Get("Date")); err == nil {
			seen[time.Until(date).Round(time.Hour)] = true
		}
		v := g.view()
		looks++
		for _, i := range v.Instances {
			if !i.Used {
				t.Errorf("%s after the start: want all instances used, found %+v", time.Since(began).Round(time.Second), i)
			}
			if i.BeatAge != nil && (*i.BeatAge < 0 || *i.BeatAge > 30) {
				t.Errorf("want beats of the last seconds, found one of %v s ago", *i.BeatAge)
			}
		}
		if len(v.Instances) != len(names) || v.Sources[0].Stale != nil && *v.Sources[0].Stale > 2 {
			t.Errorf("%s after the start: want the instances known, found %+v", time.Since(began).Round(time.Second), v)
		}
		if t.Failed() {
			break
		}
	}
	none(t, "a wall clock that jumps", l)
	if !seen[time.Hour] || !seen[-time.Hour] || !seen[0] {
		t.Errorf("want the gateway's wall clock to have jumped, found its differences %v", seen)
	}
	if after := nodes(); !slices.Equal(before, after) {
		t.Errorf("want the nodes of the registrars kept, found those of %v after %v", after, before)
	}
	t.Logf("PROOF a wall clock that jumps: %d looks, all instances used in each; differences seen %v", looks, seen)
}
