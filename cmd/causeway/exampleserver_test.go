package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/causeway-gateway/causeway/transcode/source"
)

// exampleFolder is the module that pins grpc-gateway's example server.
const exampleFolder = "../../testdata/exampleserver"

const (
	gatewayModule  = "github.com/grpc-ecosystem/grpc-gateway/v2"
	examplePackage = "grpc.gateway.examples.internal.proto.examplepb"
)

// exampleCase is one case of grpc-gateway's integration tests.
type exampleCase struct {
	name string // as exampleCases has it
	// convention says that grpc-gateway's conventions are needed.
	convention bool
	// run is the case ported: its request and what the gateway answers. nil: not run.
	run func(x *exampleRun)
	// note says why it is not run, or, for one that is, in what the request or the answer is not theirs.
	note string
}

// exampleConfig is a gateway before the example server. The schema is all of their example protos, of which the server
// serves eight services, and the rules that their gateway has for the one without.
const exampleConfig = `listen:
  - address: 127.0.0.1:0
schemas:
  - name: examples
    proto:
      paths: [MODULE/examples/internal/proto]
      import_roots: [MODULE]
    http_rules: [MODULE/examples/internal/proto/examplepb/standalone_echo_service.yaml]
services:
  - name: examples
    schema: examples
    endpoints: [{address: "UPSTREAM"}]
    # The others' bindings collide with these.
    serves:
      - PKG.ABitOfEverythingService
      - PKG.EchoService
      - PKG.ExcessBodyService
      - PKG.FlowCombination
      - PKG.NonStandardService
      - PKG.ResponseBodyService
      - PKG.StreamService
      - PKG.UnannotatedEchoService
`

// conventions is what a gateway for grpc-gateway's clients needs besides: its conventions, and for one case, which has a
// mux of its own, names as declared.
const conventions = `defaults: {rest: {compatibility: grpc_gateway}}
routes:
  - {name: non-standard, service: examples, methods: [PKG.NonStandardService/*]}
  - name: proto-names
    hosts: [proto-names.test]
    service: examples
    json: {proto_names: true}
    methods: [PKG.NonStandardService/*]
`

// ownTerms serves the same by the options that anybody may choose. google.api.http lets no repeated field stand in a path.
const ownTerms = `defaults: {json: {emit_unpopulated: true, ignore_unknown: true}}
routes:
  - {name: repeated, service: examples, http: {method: PKG.ABitOfEverythingService/GetRepeatedQuery, get: /v1/example/a_bit_of_everything_repeated}}
`

// TestExampleServer runs the unary REST cases of grpc-gateway's integration tests against its own example server, and
// prints the table of all its cases. A case that is no convention of grpc-gateway's runs without its conventions, too.
func TestExampleServer(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds and runs another server: not with -short")
	}
	module := exampleModule(t)
	relay := startRelay(t, startExampleServer(t))
	fill := strings.NewReplacer("MODULE", module, "UPSTREAM", relay.address, "PKG", examplePackage)
	compatible, plain := startGateway(t, fill.Replace(exampleConfig+conventions)), startGateway(t, fill.Replace(exampleConfig+ownTerms))
	types := exampleTypes(t, module)
	table := exampleTable()
	for _, c := range table {
		if c.run == nil {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			c.run(&exampleRun{T: t, g: compatible, relay: relay, types: types, compatible: true})
		})
		if !c.convention {
			t.Run("plain/"+c.name, func(t *testing.T) { c.run(&exampleRun{T: t, g: plain, relay: relay, types: types}) })
		}
	}
	t.Log(exampleReport(table))
}

// exampleReport is the table as Markdown, with the counts.
func exampleReport(table []exampleCase) string {
	var b strings.Builder
	var same, other, left, plain int
	b.WriteString("cases of grpc-gateway's integration tests\n\n| test | run | in what it differs, or why it is not run |\n|---|---|---|\n")
	for _, c := range table {
		run := "yes"
		switch {
		case c.run == nil:
			run = "no"
			left++
		case c.note != "":
			other++
		default:
			same++
		}
		if c.run != nil && !c.convention {
			plain++
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", c.name, run, c.note)
	}
	fmt.Fprintf(&b, "\n%d cases: %d run (%d with their request and their answer, %d with a difference that is named), %d not run; %d need no conventions of grpc-gateway's\n", len(table), same+other, same, other, left, plain)
	return b.String()
}

// exampleModule is the folder of grpc-gateway's sources.
func exampleModule(t testing.TB) string {
	t.Helper()
	return strings.TrimSpace(goCommand(t, "list", "-m", "-f", "{{.Dir}}", gatewayModule))
}

// goCommand runs the go command in the module of the example server.
func goCommand(t testing.TB, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = exampleFolder
	cmd.Env = append(os.Environ(), "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

// startExampleServer builds the server and runs it until the test ends, on a Unix socket: there is no port to find.
func startExampleServer(t *testing.T) (socket string) {
	t.Helper()
	dir := t.TempDir()
	binary := filepath.Join(dir, "example-grpc-server")
	goCommand(t, "build", "-o", binary, gatewayModule+"/examples/internal/cmd/example-grpc-server")
	socket = filepath.Join(dir, "grpc")
	cmd := exec.Command(binary, "-network", "unix", "-addr", socket) //nolint:gosec,noctx // what was just built; ended below
	var out syncBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended by itself, which the cases have shown by then
		_ = cmd.Wait()         // killed
		if t.Failed() && out.String() != "" {
			t.Logf("the example server wrote:\n%s", out.String())
		}
	})
	waitFor(t, "the example server listens", func() bool {
		conn, err := net.Dial("unix", socket) //nolint:noctx // it does not wait
		if err != nil {
			return false
		}
		_ = conn.Close() // it was only tried
		return true
	})
	return socket
}

// exampleTypes are the messages of the example protos, to read answers with.
func exampleTypes(t *testing.T, module string) *protoregistry.Files {
	t.Helper()
	set, err := source.Proto(t.Context(), []string{filepath.Join(module, "examples/internal/proto")}, []string{module}, source.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	files, err := protodesc.NewFiles(set.Files)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// relay stands between the gateway and the server and counts what the gateway sends: the server cannot be asked whether
// a call was cancelled.
type relay struct {
	address   string
	calls     atomic.Int64 // HEADERS frames
	cancelled atomic.Int64 // RST_STREAM frames with CANCEL
}

func startRelay(t *testing.T, socket string) *relay {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{address: ln.Addr().String()}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", socket) //nolint:noctx // it does not wait
			if err != nil {
				_ = client.Close() // the gateway sees a broken connection
				continue
			}
			hangUp := func() { _ = client.Close(); _ = server.Close() }
			running.Go(func() { defer hangUp(); _, _ = io.Copy(client, server) })
			running.Go(func() { defer hangUp(); r.count(client, server) })
		}
	})
	t.Cleanup(func() { _ = ln.Close(); running.Wait() }) // the gateway, stopped before, has closed its connections
	return r
}

// count passes on what client sends, frame by frame, until it hangs up.
func (r *relay) count(client io.Reader, server io.Writer) {
	through := io.TeeReader(client, server)
	if _, err := io.CopyN(io.Discard, through, int64(len(http2.ClientPreface))); err != nil {
		return
	}
	frames := http2.NewFramer(io.Discard, through)
	for {
		frame, err := frames.ReadFrame()
		if err != nil {
			return
		}
		switch f := frame.(type) {
		case *http2.HeadersFrame:
			r.calls.Add(1)
		case *http2.RSTStreamFrame:
			if f.ErrCode == http2.ErrCodeCancel {
				r.cancelled.Add(1)
			}
		}
	}
}

// exampleRun is what a case runs with.
type exampleRun struct {
	*testing.T
	g     *gatewayTest
	relay *relay
	types *protoregistry.Files
	// compatible says that g has grpc-gateway's conventions.
	compatible bool
}

// message reads a JSON text as a message of the example protos, by protojson.
func (x *exampleRun) message(typ, text string) *dynamicpb.Message {
	x.Helper()
	if !strings.Contains(typ, ".") {
		typ = examplePackage + "." + typ
	}
	d, err := x.types.FindDescriptorByName(protoreflect.FullName(typ))
	if err != nil {
		x.Fatal(err)
	}
	md, ok := d.(protoreflect.MessageDescriptor)
	if !ok {
		x.Fatalf("%s is no message", typ)
	}
	m := dynamicpb.NewMessage(md)
	if err := protojson.Unmarshal([]byte(text), m); err != nil {
		x.Fatalf("%v: %s", err, text)
	}
	return m
}

// ok checks that an answer is 200 with JSON of a message equal to want; a uuid, which the server makes, is left out.
func (x *exampleRun) ok(a answer, typ, want string) {
	x.Helper()
	if a.status != http.StatusOK {
		x.Fatalf("status: want 200, found %d: %s", a.status, a.body)
	}
	if ct := a.header.Get("Content-Type"); ct != "application/json" {
		x.Errorf("content-type: want application/json, found %q", ct)
	}
	got := x.message(typ, a.body)
	if f := got.Descriptor().Fields().ByName("uuid"); f != nil {
		got.Clear(f)
	}
	if d := cmp.Diff(x.message(typ, want), got, protocmp.Transform()); d != "" {
		x.Errorf("answer (-want +got):\n%s", d)
	}
}

// exactly checks that an answer is 200 with this text.
func (x *exampleRun) exactly(a answer, want string) {
	x.Helper()
	if a.status != http.StatusOK || a.body != want {
		x.Errorf("want 200 %s, found %d %s", want, a.status, a.body)
	}
}

// failed checks an error and its body, which is a google.rpc.Status. reason "" is an error of the service, anything else
// one of the gateway.
func (x *exampleRun) failed(a answer, status int, code codes.Code, reason string) *statuspb.Status {
	x.Helper()
	if a.status != status {
		x.Fatalf("status: want %d, found %d: %s", status, a.status, a.body)
	}
	var s statuspb.Status
	if err := protojson.Unmarshal([]byte(a.body), &s); err != nil {
		x.Fatalf("%v: %s", err, a.body)
	}
	if codes.Code(s.GetCode()) != code { //nolint:gosec // a code is small
		x.Errorf("code: want %d, found %d: %s", code, s.GetCode(), a.body)
	}
	found := ""
	for _, d := range s.GetDetails() {
		var info errdetails.ErrorInfo
		if d.MessageIs(&info) {
			if err := d.UnmarshalTo(&info); err != nil {
				x.Fatal(err)
			}
			found = info.GetReason()
		}
	}
	if x.compatible {
		reason = "" // its errors have no details but the service's
	}
	if found != reason {
		x.Errorf("reason: want %q, found %q: %s", reason, found, a.body)
	}
	return &s
}

// header checks a header of an answer.
func (x *exampleRun) header(a answer, name, want string) {
	x.Helper()
	if got := a.header.Get(name); got != want {
		x.Errorf("header %s: want %q, found %q", name, want, got)
	}
}

// trailers checks what the service sent behind its answer: HTTP trailers when the caller asks for them, headers else.
func (x *exampleRun) trailers(a answer, name, want string, asked bool) {
	x.Helper()
	here, there := a.header, a.trailer
	if asked && x.compatible {
		here, there = there, here
	}
	if got := here.Get(name); got != want {
		x.Errorf("trailer %s: want %q, found %q in header %v, trailer %v", name, want, got, a.header, a.trailer)
	}
	if got := there.Get(name); got != "" {
		x.Errorf("trailer %s: want it once, found %q", name, got)
	}
}

// create stores a message on the server and returns its uuid.
func (x *exampleRun) create(body string) string {
	x.Helper()
	a := x.g.call("POST", "/v1/example/a_bit_of_everything", body, "Content-Type", "application/json")
	uuid := a.text(x, "uuid")
	if a.status != http.StatusOK || uuid == "" {
		x.Fatalf("want 200 with a uuid, found %d %s", a.status, a.body)
	}
	return uuid
}

// leave sends a request, hangs up once it has reached the server, and waits until the gateway has cancelled the call.
func (x *exampleRun) leave(path, body string) {
	x.Helper()
	calls, cancelled := x.relay.calls.Load(), x.relay.cancelled.Load()
	ctx, hangUp := context.WithCancel(x.Context())
	defer hangUp()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, x.g.url+path, strings.NewReader(body))
	if err != nil {
		x.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() {
		resp, err := x.g.client.Do(req)
		if err == nil {
			_ = resp.Body.Close() // not wanted
		}
		gone <- err
	}()
	waitFor(x, "the call reaches the server", func() bool { return x.relay.calls.Load() > calls })
	hangUp()
	if err := <-gone; err == nil {
		x.Error("want no answer")
	}
	waitFor(x, "the call is cancelled", func() bool { return x.relay.cancelled.Load() > cancelled })
}
