package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
	"github.com/causeway-gateway/causeway/proxy/upstream"
	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/registry/zookeeper"
	"github.com/causeway-gateway/causeway/testdata/load"
	"github.com/causeway-gateway/causeway/testdata/realserver"
)

// instanceCommand makes the test binary an instance of the echo service that registers itself.
const instanceCommand = "causeway-proof-instance"

// echoName is the service that instances register as.
const echoName = "demo.echo.v1.Echo"

// serveInstance is the program of an instance, written as a service would: it serves, registers, drains on SIGTERM and ends.
func serveInstance() {
	servers := flag.String("zookeeper", "", "")
	session := flag.Duration("session", 0, "")
	address := flag.String("address", "127.0.0.1:0", "")
	name := flag.String("name", "", "")
	window := flag.Duration("window", 0, "")
	flag.Parse()
	if err := func() error {
		ln, err := net.Listen("tcp", *address)
		if err != nil {
			return err
		}
		s := grpc.NewServer()
		echov1.RegisterEchoServer(s, &instanceEcho{name: *name})
		healthpb.RegisterHealthServer(s, grpchealth.NewServer())
		served := make(chan error, 1)
		go func() { served <- s.Serve(ln) }()
		c, err := zookeeper.Connect(zookeeper.Config{Servers: strings.Split(*servers, ","), Session: *session})
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), patient)
		defer cancel()
		lease, err := (&zookeeper.Registrar{Conn: c, Window: *window}).Register(ctx, echoName, registry.Endpoint{Address: ln.Addr().String(), ID: *name})
		if err != nil {
			return err
		}
		fmt.Fprintln(os.Stdout, ln.Addr())
		err = zookeeper.DrainOnSignal(context.Background(), lease)
		s.GracefulStop()
		c.Close()
		return errors.Join(err, <-served)
	}(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// instanceEcho answers with what was asked and with what the proofs count by.
type instanceEcho struct {
	echov1.UnimplementedEchoServer

	name string
}

func (e *instanceEcho) Call(ctx context.Context, r *echov1.CallRequest) (*echov1.CallReply, error) {
	out := &echov1.CallReply{Text: r.GetText(), Instance: e.name, Metadata: map[string]string{}}
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		out.Metadata[attemptHeader] = strings.Join(md.Get(attemptHeader), ",")
	}
	return out, nil
}

// attemptHeader is what the gateway counts its tries in.
const attemptHeader = "x-retry-attempt"

// patient is how long proofs wait for what must come; what they hold to a time is measured.
const patient = 2 * time.Minute

// await waits for a condition and returns how long that took.
func await(t testing.TB, what string, holds func() bool) time.Duration {
	t.Helper()
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if holds() {
			return time.Since(began)
		}
		if time.Since(began) > patient {
			t.Fatalf("waited %s in vain: %s", patient, what)
		}
	}
}

// within holds a time to a limit, in full: in the short form the machine may have other work.
func within(t testing.TB, what string, took, limit time.Duration) {
	t.Helper()
	if full() && took > limit {
		t.Errorf("%s: want at most %s, found %s", what, limit, took)
	}
}

// instanceProcess is an instance as a process of its own.
type instanceProcess struct {
	t       testing.TB
	name    string
	address string
	cmd     *exec.Cmd
	out     *syncBuffer
}

// startInstance starts an instance and waits until it is registered. at is its address; empty: a free one.
func startInstance(t testing.TB, zk, name, at string, args ...string) *instanceProcess {
	t.Helper()
	if at == "" {
		at = "127.0.0.1:0"
	}
	p := &instanceProcess{t: t, name: name, out: &syncBuffer{}}
	return p.run(exec.CommandContext(context.Background(), instanceCommand, append([]string{"-zookeeper", zk, "-name", name, "-address", at}, args...)...))
}

// run runs an instance until it is registered.
func (p *instanceProcess) run(cmd *exec.Cmd) *instanceProcess {
	t := p.t
	t.Helper()
	p.cmd = cmd
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.cmd.Stderr = p.out
	said, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	line, err := bufio.NewReader(said).ReadString('\n')
	if err != nil {
		t.Fatalf("instance %s did not register: %v %s", p.name, err, p.out)
	}
	p.address = strings.TrimSpace(line)
	return p
}

// startInstances starts n of them, named a, b, c and so on.
func startInstances(t testing.TB, n int, zk string, args ...string) []*instanceProcess {
	t.Helper()
	all := make([]*instanceProcess, n)
	for i := range all {
		all[i] = startInstance(t, zk, string(rune('a'+i)), "", args...)
	}
	return all
}

func (p *instanceProcess) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// kill ends it at once.
func (p *instanceProcess) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill() // it may have ended
		_ = p.cmd.Wait()         // it was killed
	}
}

// stop has it drain and waits for its clean end.
func (p *instanceProcess) stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	if err := p.cmd.Wait(); err != nil {
		p.t.Fatalf("instance %s: want a clean end, found %v: %s", p.name, err, p.out)
	}
}

// proofConfig is a gateway that finds the echo service in ZooKeeper at zk, addresses with commas between. Calls with the
// header x-twice are idempotent. more are further keys of the service.
func proofConfig(t testing.TB, dir, zk string, session time.Duration, more string) string {
	t.Helper()
	if !full() {
		session *= 2 // in which a slow machine may stand still
	}
	text := echoConfig(t, dir)
	text = text[:strings.Index(text, "    endpoints:\n")]
	quoted := `"` + strings.ReplaceAll(zk, ",", `", "`) + `"`
	return text + `    discovery: [{registry: zk, service: ` + echoName + `}]
` + more + `routes:
  - {name: twice, service: echo, methods: ["*"], headers: [{name: x-twice, present: true}], retry: {idempotent: true}}
  - {name: once, service: echo, methods: ["*"]}
plugins:
  - name: metrics
registries:
  - name: zk
    zookeeper: {servers: [` + quoted + `], session: ` + strconv.FormatFloat(session.Seconds(), 'f', -1, 64) + `s}
` + unhurried()
}

// unhurried gives calls more time in the short form.
func unhurried() string {
	if full() {
		return ""
	}
	return "defaults: {timeout: 60s}\n"
}

// checked are the keys of a service whose instances are asked, and whose tries end. In the short form both have more time, for the
// machine may have much other work: so calls hang for longer on an instance that does, and more than a fifth of them are tried
// again. What a budget holds retries to is TestProofRetryStorm's.
func checked() string {
	if full() {
		return "    health_check: {grpc: {}}\n    retry: {per_try_timeout: 2s}\n"
	}
	return "    health_check: {grpc: {}, timeout: 3s}\n" + tried()
}

// tried is its part for instances that are not asked.
func tried() string {
	if full() {
		return "    retry: {per_try_timeout: 5s}\n"
	}
	return "    retry: {per_try_timeout: 15s, budget: 1}\n"
}

// callers make calls of the echo service through a gateway and note who answered.
type callers struct {
	url  string
	http *http.Client
	grpc *grpc.ClientConn

	mu   sync.Mutex
	seen map[string]int // answers by instance
}

// startCallers connects to a gateway, host:port.
func startCallers(t testing.TB, address string) *callers {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
	if err != nil {
		t.Fatal(err)
	}
	c := &callers{url: "http://" + address, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1000}}, grpc: conn, seen: map[string]int{}}
	t.Cleanup(func() {
		c.http.CloseIdleConnections()
		_ = conn.Close() // it is done with
	})
	return c
}

// answered is how many calls an instance has answered.
func (c *callers) answered(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[name]
}

// note holds an answer to what was asked.
func (c *callers) note(want, text, instance, tries string) (retries int, err error) {
	if text != want {
		return 0, fmt.Errorf("want the answer to %q, found that to %q", want, text)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[instance]++
	if tries != "" {
		return strconv.Atoi(tries)
	}
	return 0, nil
}

// rest is a call by JSON over HTTP.
func (c *callers) rest(ctx context.Context, idempotent bool) (int, error) {
	text := strconv.FormatInt(time.Now().UnixNano(), 36)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+"/v1/echo", strings.NewReader(`{"text":"`+text+`"}`))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	if idempotent {
		req.Header.Set("X-Twice", "1")
		if !full() {
			// The client may ask again, which it is not told to otherwise, when a connection that has rested ends in the moment in which it is
			// used: on a slow machine that moment is long.
			req.Header["X-Idempotency-Key"] = nil
		}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, errors.Unwrap(err) // without the address, which differs
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%d %s", resp.StatusCode, bytes.TrimSpace(raw))
	}
	var out struct {
		Text, Instance string
		Metadata       map[string]string
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		return 0, err
	}
	return c.note(text, out.Text, out.Instance, out.Metadata[attemptHeader])
}

// call is a call by gRPC.
func (c *callers) call(ctx context.Context, idempotent bool) (int, error) {
	text := strconv.FormatInt(time.Now().UnixNano(), 36)
	if idempotent {
		ctx = metadata.AppendToOutgoingContext(ctx, "x-twice", "1")
	}
	out, err := echov1.NewEchoClient(c.grpc).Call(ctx, &echov1.CallRequest{Text: text})
	if err != nil {
		s := status.Convert(err)
		return 0, fmt.Errorf("%s %s", s.Code(), s.Message())
	}
	return c.note(text, out.GetText(), out.GetInstance(), out.GetMetadata()[attemptHeader])
}

// idempotent are the kinds of calls that may be executed twice, all those and others.
func (c *callers) idempotent() []load.Call {
	return []load.Call{
		{Name: "REST, idempotent", Do: func(ctx context.Context) (int, error) { return c.rest(ctx, true) }},
		{Name: "gRPC, idempotent", Do: func(ctx context.Context) (int, error) { return c.call(ctx, true) }},
	}
}

func (c *callers) all() []load.Call {
	return append(c.idempotent(),
		load.Call{Name: "REST", Do: func(ctx context.Context) (int, error) { return c.rest(ctx, false) }},
		load.Call{Name: "gRPC", Do: func(ctx context.Context) (int, error) { return c.call(ctx, false) }})
}

// passes waits until n more calls have ended.
func passes(t testing.TB, l *load.Load, n int) {
	t.Helper()
	before, _ := l.Ended()
	await(t, "calls to go on", func() bool { now, _ := l.Ended(); return now >= before+n })
}

// none ends a load and fails the test when a call has failed.
func none(t testing.TB, what string, l *load.Load) load.Report {
	t.Helper()
	r := l.Stop()
	t.Logf("PROOF %s: %s", what, r.String())
	if err := r.Err(); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	return r
}

// view is what the gateway knows of the echo service.
func (g *gatewayTest) view() upstream.View {
	g.t.Helper()
	views := g.gateway.Services()
	at := slices.IndexFunc(views, func(v upstream.View) bool { return v.Service == "echo" })
	if at < 0 {
		g.t.Fatal("there is no service echo")
	}
	return views[at]
}

// at is what it knows of the instance at an address; nil: nothing.
func (g *gatewayTest) at(address string) *upstream.InstanceView {
	g.t.Helper()
	v := g.view()
	i := slices.IndexFunc(v.Instances, func(i upstream.InstanceView) bool { return i.Address == address })
	if i < 0 {
		return nil
	}
	return &v.Instances[i]
}

// used is how many instances take calls as a matter of course.
func (g *gatewayTest) used() int {
	g.t.Helper()
	n := 0
	for _, i := range g.view().Instances {
		if i.Used {
			n++
		}
	}
	return n
}

// shortSession is one of instances in short forms.
const shortSession = 4 * time.Second

// tick is that of the ZooKeeper of these proofs.
const tick = 500 * time.Millisecond

// An instance that is killed is delisted within its session and a tick, one that is frozen is out within 3 s, a new one takes
// calls within 1 s, and no idempotent call fails meanwhile.
func TestProofInstances(t *testing.T) {
	session, rounds, rate := shortSession, 1, 30
	if full() {
		session, rounds, rate = 6*time.Second, 5, 500
		t.Run("partition", proofPartition)
	} else {
		t.Parallel()
	}
	zk := realserver.StartZooKeeper(t)
	args := []string{"-session", session.String()}
	instances := startInstances(t, 4, zk.Address, args...)
	dir := t.TempDir()
	g, err := tryGateway(t, dir, proofConfig(t, dir, zk.Address, session, checked()))
	if err != nil {
		t.Fatal(err)
	}
	c, side := startCallers(t, strings.TrimPrefix(g.url, "http://")), zkAt(t, zk.Address)
	await(t, "all instances", func() bool { return g.used() == len(instances) })
	l := load.Start(rate, patient, c.idempotent()...)
	defer l.Stop()
	once := load.Start(rate/5, patient, c.all()[2:]...) // those that may not be executed twice
	defer once.Stop()
	passes(t, l, 5*rate/2) // retries are a share of the calls
	for round := range rounds {
		victim := instances[round%4]
		victim.signal(syscall.SIGSTOP) // so that it has calls when it dies, most of them such as may be tried again
		await(t, "calls on the instance", func() bool { i := g.at(victim.address); return i == nil || !i.Used || i.Inflight >= 8 })
		began := time.Now()
		victim.kill()
		passed := await(t, "the killed instance to be passed over", func() bool { i := g.at(victim.address); return i == nil || !i.Used })
		await(t, "the killed instance to be delisted", func() bool { return statusIn(t, side, echoName, victim.name) == "none" })
		delisted := time.Since(began)
		await(t, "the gateway to hear of it", func() bool { return g.at(victim.address) == nil })
		heard := time.Since(began)
		t.Logf("PROOF killed: passed over after %s, delisted after %s, gone from the gateway after %s", ms(passed), ms(delisted), ms(heard))
		within(t, "delisted", delisted, session+tick)

		name := fmt.Sprintf("n%d", round)
		instances[round%4] = startInstance(t, zk.Address, name, "", args...)
		first := await(t, "calls on the new instance", func() bool { return c.answered(name) > 0 })
		t.Logf("PROOF a new instance takes its first call %s after it was registered", ms(first))
		within(t, "the first call", first, time.Second)
		passes(t, l, rate)

		frozen := instances[(round+1)%4]
		frozen.signal(syscall.SIGSTOP)
		out := await(t, "the frozen instance to be out by its checks", func() bool {
			i := g.at(frozen.address)
			return i == nil || !i.Used && i.Health != nil && !i.Health.Up
		})
		frozen.signal(syscall.SIGCONT)
		back := await(t, "the thawed instance to be back", func() bool { i := g.at(frozen.address); return i != nil && i.Used })
		t.Logf("PROOF frozen: out after %s, back after %s", ms(out), ms(back))
		within(t, "out", out, 3*time.Second)
		passes(t, l, rate)
	}
	o := once.Stop()
	t.Logf("PROOF the same, of calls that may not be executed twice: %s %v", o.String(), o.Reasons)
	for reason := range o.Reasons {
		if !slices.ContainsFunc([]string{"UPSTREAM_", "DEADLINE_EXCEEDED", "Unavailable ", "DeadlineExceeded "}, func(said string) bool { return strings.Contains(reason, said) }) {
			t.Errorf("want it said clearly why a call failed, found %s", reason)
		}
	}
	share := 2 // of the calls that may be on an instance when it hangs or dies
	if full() {
		share = 5
	}
	if o.Ended != o.Started || o.Failed > o.Ended/share {
		t.Errorf("want few calls failed, found %s", o.String())
	}
	r := none(t, "instances killed, frozen and new", l)
	if r.Retried == 0 {
		t.Error("want some calls tried again, or nothing was proved")
	}
}

func ms(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
