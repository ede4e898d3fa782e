package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/registry/zookeeper"
	"github.com/causeway-gateway/causeway/registry/zookeeper/devserver"
	"github.com/causeway-gateway/causeway/testdata/realserver"
)

// startZK starts a development server with ticks of 100 ms.
func startZK(t testing.TB) (*devserver.Server, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
	if err != nil {
		t.Fatal(err)
	}
	return serveZK(t, ln), ln.Addr().String()
}

func serveZK(t testing.TB, ln net.Listener) *devserver.Server {
	t.Helper()
	s := devserver.New(devserver.Config{Tick: 100 * time.Millisecond})
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), <-done); err != nil {
			t.Error(err)
		}
	})
	return s
}

// zkAt connects to ZooKeeper beside what is tested.
func zkAt(t testing.TB, addr string) *zookeeper.Conn {
	t.Helper()
	c, err := zookeeper.Connect(zookeeper.Config{Servers: []string{addr}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// statusIn is the status of an instance in ZooKeeper, "none" when it is not there.
func statusIn(t testing.TB, c *zookeeper.Conn, service, id string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	e, err := c.InspectInstance(ctx, service, id)
	if err != nil {
		t.Fatal(err)
	}
	if e.Path == "" {
		return "none"
	}
	return statusOf(e)
}

// soon waits longer than waitFor, for what real programs do.
func soon(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 20 s in vain: %s", what)
		}
	}
}

// settled waits until an instance has a status: settled SERVICE ID STATUS.
func settled(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: settled SERVICE ID STATUS")
	}
	c, err := zookeeper.Connect(zookeeper.Config{Servers: []string{ts.Getenv("CAUSEWAY_ZOOKEEPER")}})
	ts.Check(err)
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		e, err := c.InspectInstance(ctx, args[0], args[1])
		if err != nil {
			ts.Fatalf("%s is not %s: %v", args[1], args[2], err)
		}
		if e.Path != "" && statusOf(e) == args[2] {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// causeway runs a command in this process and returns what it wrote.
func causeway(t testing.TB, args ...string) (out, errOut string, err error) {
	t.Helper()
	var o, e bytes.Buffer
	root := rootCommand()
	root.SetArgs(args)
	root.SetOut(&o)
	root.SetErr(&e)
	err = root.ExecuteContext(t.Context())
	return o.String(), e.String(), err
}

// registerAt announces an instance until the test ends.
func registerAt(t testing.TB, c *zookeeper.Conn, service string, ep registry.Endpoint) registry.Lease {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	l, err := (&zookeeper.Registrar{Conn: c, Window: time.Millisecond}).Register(ctx, service, ep)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestServiceListAndInspect(t *testing.T) {
	t.Parallel()
	_, addr := startZK(t)
	c := zkAt(t, addr)
	registerAt(t, c, "a.A", registry.Endpoint{Address: "10.0.0.1:1", Meta: map[string]string{"team": "x"}})
	registerAt(t, c, "a.A", registry.Endpoint{Address: "10.0.0.2:1", Weight: 7, TLS: true})
	registerAt(t, c, "b.B", registry.Endpoint{Address: "10.0.0.3:1"})
	out, _, err := causeway(t, "service", "drain", "a.A", "10.0.0.1-1", "10.0.0.2:1", "--zookeeper", addr)
	if want := "a.A 10.0.0.1-1: draining (was up)\na.A 10.0.0.2-1: draining (was up)\n"; err != nil || out != want {
		t.Fatalf("want %q, found %q %v", want, out, err)
	}
	if out, _, err = causeway(t, "service", "undrain", "a.A", "10.0.0.2-1", "--zookeeper", addr); err != nil || out != "a.A 10.0.0.2-1: up (was draining)\n" {
		t.Fatalf("found %q %v", out, err)
	}

	out, _, err = causeway(t, "service", "list", "--json", "--zookeeper", addr)
	var lines []serviceLine
	if err := errors.Join(err, json.Unmarshal([]byte(out), &lines)); err != nil {
		t.Fatal(err, out)
	}
	if fmt.Sprint(lines) != "[{a.A 2 1 0 1 0 0} {b.B 1 1 0 0 0 0}]" {
		t.Errorf("found %v", lines)
	}

	out, _, err = causeway(t, "service", "inspect", "a.A", "--json", "--zookeeper", addr)
	var view serviceView
	if err := errors.Join(err, json.Unmarshal([]byte(out), &view)); err != nil {
		t.Fatal(err, out)
	}
	if len(view.Nodes) != 2 || view.Layout != "native" || view.Gateway != nil {
		t.Fatalf("found %s", out)
	}
	drained, up := view.Nodes[0], view.Nodes[1]
	if drained.ID != "10.0.0.1-1" || drained.Node != "/causeway/v1/services/a.A/instances/10.0.0.1-1" || !strings.HasPrefix(drained.Session, "0x") ||
		drained.Instances[0].TakesCalls || drained.Instances[0].Status != "draining" || drained.Instances[0].Weight != 100 || drained.Instances[0].Metadata["team"] != "x" {
		t.Errorf("found %+v", drained)
	}
	if i := up.Instances[0]; !i.TakesCalls || i.Weight != 7 || !i.TLS || i.Why != "" {
		t.Errorf("found %+v", i)
	}
	if data, is := up.Data.(map[string]any); !is || data["id"] != "10.0.0.2-1" {
		t.Errorf("want the data as the JSON that it is, found %v", up.Data)
	}
	if out, _, err = causeway(t, "service", "inspect", "a.A", "10.0.0.2:1", "--zookeeper", addr); err != nil || !strings.Contains(out, "address    10.0.0.2:1, grpc over TLS\n") || strings.Contains(out, "10.0.0.1") {
		t.Errorf("want the one instance, found %q %v", out, err)
	}

	// Its own word comes before an operator's.
	l := registerAt(t, c, "c.C", registry.Endpoint{Address: "10.0.0.4:1"})
	_ = l.Drain(t.Context()) // the window is too short to be told how it went
	soon(t, "it draining", func() bool { return statusIn(t, c, "c.C", "10.0.0.4-1") == "draining" })
	if out, _, err = causeway(t, "service", "undrain", "c.C", "10.0.0.4-1", "--zookeeper", addr); err != nil || out != "c.C 10.0.0.4-1: draining, which it says of itself (was draining)\n" {
		t.Errorf("found %q %v", out, err)
	}
}

// TestServiceInspectSaysWhy holds what is told of entries in every state.
func TestServiceInspectSaysWhy(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		ep   registry.Endpoint
		want string
	}{
		{registry.Endpoint{Weight: 1}, ""},
		{registry.Endpoint{}, "no new calls: its weight is 0"},
		{registry.Endpoint{Status: registry.Starting}, "no new calls: its own check has not passed yet"},
		{registry.Endpoint{Status: registry.Draining}, "no new calls: draining, calls in flight end as they would"},
		{registry.Endpoint{Status: registry.Down}, "no new calls: down by its own check, or by an operator"},
		{registry.Endpoint{Weight: 1, Unverified: true}, "used once an active check has passed: its node outlives it"},
	} {
		v := viewOf(zookeeper.Entry{Endpoints: []registry.Endpoint{tc.ep}, Load: -1}, time.Now())
		if got := v.note(&v.Instances[0]); got != tc.want {
			t.Errorf("%+v: want %q, found %q", tc.ep, tc.want, got)
		}
	}
	now := time.Unix(1_800_000_000, 0)
	v := viewOf(zookeeper.Entry{
		Path: "/x/bad", Name: "bad", Data: []byte("\x00garbage"), Created: now.Add(-3 * time.Minute), Modified: now.Add(time.Hour), Beat: now.Add(-2 * time.Second), Load: 0.25,
		Czxid: 10, Mzxid: 11, Version: 3, Fault: errors.New("zookeeper: want an instance as JSON"),
	}, now)
	var one, line bytes.Buffer
	if err := errors.Join(v.write(&one, now), writeNodes(&line, []nodeView{v}, now)); err != nil {
		t.Fatal(err)
	}
	const want = `node       /x/bad
session    none: the node stays when its program dies
created    2027-01-15T07:57:00Z, 3m ago, czxid 0xa
written    2027-01-15T09:00:00Z, 0.0s ago, mzxid 0xb, version 3
beat       2.0s ago, load 0.25
left out   want an instance as JSON
data       "\x00garbage"
`
	if one.String() != want {
		t.Errorf("want\n%s, found\n%s", want, one.String())
	}
	if got := strings.Fields(line.String())[10:]; strings.Join(got, " ") != "bad - - - - 3m 2.0s 0.25 - left out: want an instance as JSON" {
		t.Errorf("found %q", got)
	}
	for d, want := range map[time.Duration]string{
		0: "0.0s", 9400 * time.Millisecond: "9.4s", 59 * time.Second: "59s", 61 * time.Second: "1m1s", 2 * time.Minute: "2m", 90 * time.Minute: "1h30m", 50 * time.Hour: "2d",
	} {
		if got := ago(d); got != want {
			t.Errorf("%v: want %s, found %s", d, want, got)
		}
	}
}

func TestServiceWatch(t *testing.T) {
	t.Parallel()
	server, addr := startZK(t)
	c := zkAt(t, addr)
	registerAt(t, c, "a.A", registry.Endpoint{Address: "10.0.0.1:1", Zone: "z"})
	run := func(names ...string) (*syncBuffer, func() error) {
		ctx, cancel := context.WithCancel(t.Context())
		out, done := &syncBuffer{}, make(chan error, 1)
		z := &centre{servers: addr, timeout: 20 * time.Second}
		go func() { done <- z.watch(ctx, zookeeper.Native{}, names, &printing{w: out, asJSON: names == nil}) }()
		return out, func() error { cancel(); return <-done }
	}
	text, endText := run("a.A", "none.N")
	lines, endLines := run()
	seen := func(out *syncBuffer, want string) {
		t.Helper()
		soon(t, want, func() bool { return strings.Contains(out.String(), want) })
	}
	seen(text, "  a.A  there    10.0.0.1-1  10.0.0.1:1  up  weight 100  zone z\n")
	seen(text, "  none.N  empty\n")
	second := registerAt(t, c, "a.A", registry.Endpoint{Address: "10.0.0.2:1"})
	seen(text, "  a.A  new      10.0.0.2-1  10.0.0.2:1  up  weight 100\n")
	if err := c.Order(t.Context(), "a.A", "10.0.0.1-1", registry.Draining); err != nil {
		t.Fatal(err)
	}
	seen(text, "  a.A  changed  10.0.0.1-1  status up -> draining\n")
	if err := second.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen(text, "  a.A  gone     10.0.0.2-1  10.0.0.2:1\n")
	// One that comes later is found, where all are watched.
	registerAt(t, c, "later.L", registry.Endpoint{Address: "10.0.0.3:1"})
	seen(lines, `"service":"later.L","event":"there","id":"10.0.0.3-1","address":"10.0.0.3:1","status":"up","weight":100,"protocol":"grpc"}`)
	seen(lines, `"changes":[{"field":"status","from":"up","to":"draining"}]`)
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	seen(text, "  a.A  stale    ")
	seen(text, "; what was known last stays\n")
	if err := errors.Join(endText(), endLines()); err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(lines.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("want JSON, found %s", line)
		}
	}
}

func TestServiceWatchDifferences(t *testing.T) {
	t.Parallel()
	out := &syncBuffer{}
	s := &sight{service: "s", out: &printing{w: out}}
	a := registry.Endpoint{ID: "a", Address: "h:1", Weight: 100, Meta: map[string]string{"version": "1", "gone": "x"}}
	b := registry.Endpoint{ID: "a", Address: "h:2", Weight: 50, TLS: true, Protocol: "grpc", Zone: "z", Meta: map[string]string{"version": "2"}}
	s.Update(registry.Set{Endpoints: []registry.Endpoint{a}})
	s.Update(registry.Set{Endpoints: []registry.Endpoint{b}, Skipped: 2})
	s.Fail(errors.New("zookeeper: lost"))
	s.Update(registry.Set{Endpoints: []registry.Endpoint{b}, Skipped: 2})
	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, line[len("15:04:05"):])
	}
	want := []string{
		"  s  there    a  h:1  up  weight 100\n",
		"  s  changed  a  address h:1 -> h:2, weight 100 -> 50, zone none -> z, protocol none -> grpc, tls false -> true, gone x -> none, version 1 -> 2\n",
		"  s  skipped  2 entries are left out; `causeway service inspect s` says why\n",
		"  s  stale    lost; what was known last stays\n",
		"  s  fresh\n",
	}
	if strings.Join(got, "") != strings.Join(want, "") {
		t.Errorf("want\n%s, found\n%s", strings.Join(want, ""), strings.Join(got, ""))
	}
}

// TestServiceDenied is for nodes that have an owner.
func TestServiceDenied(t *testing.T) {
	t.Parallel()
	_, addr := startZK(t)
	owner, err := zookeeper.Connect(zookeeper.Config{Servers: []string{addr}, Auth: "writer:secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(owner.Close)
	registerAt(t, owner, "a.A", registry.Endpoint{Address: "10.0.0.1:1"})
	_, _, err = causeway(t, "service", "drain", "a.A", "10.0.0.1-1", "--zookeeper", addr)
	if err == nil || exitCode(err) != exitDenied || !strings.Contains(err.Error(), "; give --auth-file with the user:password that it was written with") {
		t.Errorf("want it denied, found %v", err)
	}
	file := fileOf(t, "writer:secret\n")
	if out, _, err := causeway(t, "service", "drain", "a.A", "10.0.0.1-1", "--zookeeper", addr, "--auth-file", file); err != nil || !strings.Contains(out, "draining") {
		t.Errorf("want it done with the file, found %q %v", out, err)
	}
}

// TestServiceReal runs the commands against Debian's ZooKeeper.
func TestServiceReal(t *testing.T) {
	t.Parallel()
	addr := realserver.StartZooKeeper(t).Address
	c := zkAt(t, addr)
	p := startSidecar(t, addr, "--address", "10.0.0.1:1", "--check", "none", "--session", "1s", "--drain", "2s")
	soon(t, "the instance", func() bool { return statusIn(t, c, "a.A", "10.0.0.1-1") == "up" })
	out, _, err := causeway(t, "service", "list", "--zookeeper", addr)
	if err != nil || !strings.Contains(out, "a.A") {
		t.Errorf("found %q %v", out, err)
	}
	if out, _, err = causeway(t, "service", "drain", "a.A", "10.0.0.1-1", "--zookeeper", addr); err != nil || out != "a.A 10.0.0.1-1: draining (was up)\n" {
		t.Errorf("found %q %v", out, err)
	}
	if out, _, err = causeway(t, "service", "inspect", "a.A", "--zookeeper", addr); err != nil || !strings.Contains(out, "no new calls: draining") {
		t.Errorf("found %q %v", out, err)
	}
	// Killed, it leaves a node that expires; started again, it takes the place of its ghost and keeps nothing of the order.
	p.kill()
	again := startSidecar(t, addr, "--address", "10.0.0.1:1", "--check", "none", "--session", "1s", "--drain", "2s")
	soon(t, "the instance of the new process", func() bool { return statusIn(t, c, "a.A", "10.0.0.1-1") == "up" })
	again.stop(0)
	if s := statusIn(t, c, "a.A", "10.0.0.1-1"); s != "none" {
		t.Errorf("want it withdrawn, found %s", s)
	}
}

// TestServiceTLS speaks TLS with ZooKeeper.
func TestServiceTLS(t *testing.T) {
	t.Parallel()
	ours, others := newAuthority(t, "ours"), newAuthority(t, "others")
	cert, key := ours.issue("127.0.0.1", 1)
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.pool(), MinVersion: tls.VersionTLS12,
	})
	if err != nil {
		t.Fatal(err)
	}
	serveZK(t, ln)
	list := func(args ...string) error {
		_, _, err := causeway(t, append([]string{"service", "list", "--timeout", "2s", "--zookeeper", ln.Addr().String()}, args...)...)
		return err
	}
	own, ownKey := ours.issue("client", 2)
	if err := list("--zookeeper-ca", ours.file, "--zookeeper-cert", own, "--zookeeper-key", ownKey, "--timeout", "20s"); err != nil {
		t.Error(err)
	}
	if err := list("--zookeeper-ca", others.file, "--zookeeper-cert", own, "--zookeeper-key", ownKey); err == nil || exitCode(err) != exitUnreachable || !strings.Contains(err.Error(), "certificate signed by unknown authority") {
		t.Errorf("want it held to its authorities, found %v", err)
	}
	if err := list("--zookeeper-ca", "none"); err == nil || exitCode(err) != exitUsage {
		t.Errorf("want a file that is not there refused, found %v", err)
	}
}

// TestServiceEnvironment says where ZooKeeper is, and who asks, by the environment.
func TestServiceEnvironment(t *testing.T) {
	_, addr := startZK(t)
	owner, err := zookeeper.Connect(zookeeper.Config{Servers: []string{addr}, Auth: "writer:secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(owner.Close)
	registerAt(t, owner, "a.A", registry.Endpoint{Address: "10.0.0.1:1"})
	t.Setenv("CAUSEWAY_ZOOKEEPER", " "+addr+",")
	if _, _, err := causeway(t, "service", "drain", "a.A", "10.0.0.1-1"); err == nil || exitCode(err) != exitDenied {
		t.Errorf("want it denied, found %v", err)
	}
	t.Setenv("CAUSEWAY_ZOOKEEPER_AUTH", "writer:secret")
	if out, _, err := causeway(t, "service", "drain", "a.A", "10.0.0.1-1"); err != nil || out != "a.A 10.0.0.1-1: draining (was up)\n" {
		t.Errorf("found %q %v", out, err)
	}
}
