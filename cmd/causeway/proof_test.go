package main

import (
	"bufio"
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
	"syscall"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/testdata/echo"
	"github.com/causeway-gateway/causeway/testdata/realserver"
)

// full tells whether proofs run at their full length (make proof) or in their short form.
func full() bool { return os.Getenv("CAUSEWAY_PROOF") == "1" }

// replicas are the addresses that a client knows; one that asked it to leave is not used until it is back.
type replicas struct {
	mu    sync.Mutex
	live  map[string]bool
	turns int
	order []string
}

func newReplicas(addresses ...string) *replicas {
	r := &replicas{live: map[string]bool{}, order: addresses}
	for _, a := range addresses {
		r.live[a] = true
	}
	return r
}

func (r *replicas) pick() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for range r.order {
		r.turns++
		if a := r.order[r.turns%len(r.order)]; r.live[a] {
			return a
		}
	}
	return r.order[0]
}

func (r *replicas) set(address string, live bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.live[address] = live
}

// keepAlive is a client of several keep-alive connections that honours closing. It never tries a call again: every call that
// does not come back whole is lost.
type keepAlive struct {
	replicas *replicas
	calls    atomic.Int64
	lost     atomic.Int64
	mu       sync.Mutex
	first    string // what happened to the first lost call
	wg       sync.WaitGroup
}

func (l *keepAlive) start(ctx context.Context, connections int) {
	for i := range connections {
		l.wg.Go(func() { l.worker(ctx, i) })
	}
}

func (l *keepAlive) worker(ctx context.Context, id int) {
	var conn net.Conn
	var r *bufio.Reader
	address := ""
	leave := func() {
		if conn != nil {
			_ = conn.Close() // it is done with
			conn = nil
		}
	}
	defer leave()
	for n := 0; ctx.Err() == nil; n++ {
		if conn == nil {
			address = l.replicas.pick()
			c, err := net.DialTimeout("tcp", address, 5*time.Second)
			if err != nil {
				l.lose("connect to %s: %v", address, err)
				continue
			}
			conn, r = c, bufio.NewReader(c)
		}
		closing, err := exchange(conn, r, fmt.Sprintf("%d-%d", id, n))
		l.calls.Add(1)
		if err != nil {
			l.lose("call to %s: %v", address, err)
			leave()
			continue
		}
		if closing {
			if len(l.replicas.order) > 1 {
				l.replicas.set(address, false)
			}
			leave()
		}
	}
}

func (l *keepAlive) lose(format string, args ...any) {
	l.lost.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == "" {
		l.first = fmt.Sprintf(format, args...)
	}
}

// exchange sends one call and checks that its own answer comes back whole.
func exchange(conn net.Conn, r *bufio.Reader, text string) (closing bool, err error) {
	body := `{"text":"` + text + `"}`
	if err := conn.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
		return false, err
	}
	if _, err := fmt.Fprintf(conn, "POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
		return false, err
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return false, err
	}
	if resp.StatusCode != http.StatusOK || !strings.Contains(string(raw), `"text":"`+text+`"`) {
		return false, fmt.Errorf("answered %d %s", resp.StatusCode, raw)
	}
	return resp.Close, nil
}

// report prints the figure and fails the test if a call was lost.
func (l *keepAlive) report(t *testing.T, what string, events int) {
	t.Helper()
	t.Logf("PROOF %s: %d lost of %d calls over %d", what, l.lost.Load(), l.calls.Load(), events)
	if l.lost.Load() > 0 {
		t.Errorf("want no call lost; the first: %s", l.first)
	}
}

// Calls go on unharmed while the configuration is swapped: routes, plugins and endpoints change each time.
func TestProofSwapsLoseNothing(t *testing.T) {
	swaps, calls := 5, int64(4_000)
	if full() {
		swaps, calls = 100, 100_000
	}
	a, b := echo.Start(t, "127.0.0.1:0", "a"), echo.Start(t, "127.0.0.1:0", "b")
	dir := t.TempDir()
	texts := []string{
		echoConfig(t, dir, a.Address),
		echoConfig(t, dir, a.Address, b.Address) + "routes:\n  - {name: all, methods: ['demo.echo.v1.Echo/*'], service: echo, timeout: 10s}\n",
		strings.Replace(echoConfig(t, dir, b.Address), "  - name: metrics\n", "", 1),
	}
	g := startGateway(t, texts[0])
	g.stopWatch() // the test itself says when to reload
	l := &keepAlive{replicas: newReplicas(strings.TrimPrefix(g.url, "http://"))}
	ctx, cancel := context.WithCancel(context.Background())
	l.start(ctx, 8)
	for i := range swaps {
		g.write(texts[(i+1)%len(texts)])
		if err := g.gateway.Reload(ctx); err != nil {
			t.Error(err)
			break
		}
		next := calls * int64(i+1) / int64(swaps)
		waitFor(t, "calls to go on", func() bool { return l.calls.Load() >= next || l.lost.Load() > 0 })
	}
	cancel()
	l.wg.Wait()
	l.report(t, "swaps of the configuration", swaps)
	if a.Calls.Load() == 0 || b.Calls.Load() == 0 {
		t.Error("want both services to have been reached")
	}
}

// Two gateways behind a client that honours closing are stopped in turn, by SIGTERM, and started again.
func TestProofRestartsLoseNothing(t *testing.T) {
	restarts, calls := 2, int64(2_000)
	if full() {
		restarts, calls = 20, 100_000
	}
	binary := buildBinary(t)
	backend := echo.Start(t, "127.0.0.1:0", "a")
	var gateways [2]*process
	var addresses []string
	for i := range gateways {
		dir := t.TempDir()
		address := reserve(t)
		addresses = append(addresses, address)
		text := strings.ReplaceAll(echoConfig(t, dir, backend.Address), "DIR", dir)
		text = strings.Replace(text, "  - address: 127.0.0.1:0\n", "  - address: "+address+"\n", 1)
		file := filepath.Join(dir, "causeway.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		gateways[i] = &process{t: t, args: []string{binary, "run", "-c", file, "--drain-delay", "100ms", "--grace", "10s"}, address: address}
		gateways[i].start()
	}
	l := &keepAlive{replicas: newReplicas(addresses...)}
	ctx, cancel := context.WithCancel(context.Background())
	l.start(ctx, 8)
	for i := range restarts {
		p := gateways[i%2]
		p.stop()
		p.start()
		l.replicas.set(p.address, true)
		next := calls * int64(i+1) / int64(restarts)
		waitFor(t, "calls to go on", func() bool { return l.calls.Load() >= next || l.lost.Load() > 0 })
	}
	cancel()
	l.wg.Wait()
	for _, p := range gateways {
		p.stop()
	}
	l.report(t, "graceful restarts", restarts)
}

// built is the program as buildBinary has built it.
var built struct {
	once   sync.Once
	folder string // removed when all tests have been run
	out    []byte
	err    error
}

// buildBinary builds the program, once for all tests that need it.
func buildBinary(t testing.TB) string {
	t.Helper()
	built.once.Do(func() {
		if built.folder, built.err = os.MkdirTemp("", "causeway"); built.err == nil { //nolint:usetesting // it outlives the test
			built.out, built.err = exec.CommandContext(context.Background(), "go", "build", "-o", built.folder, ".").CombinedOutput() //nolint:gosec // the package under test
		}
	})
	if built.err != nil {
		t.Fatalf("%v: %s", built.err, built.out)
	}
	return filepath.Join(built.folder, "causeway")
}

// reserve finds a free address.
func reserve(t testing.TB) string {
	t.Helper()
	address, err := realserver.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// process is a gateway of its own.
type process struct {
	t       testing.TB
	args    []string
	address string
	cmd     *exec.Cmd
	out     *syncBuffer
}

func (p *process) start() {
	p.t.Helper()
	p.out = &syncBuffer{}
	p.cmd = exec.CommandContext(context.Background(), p.args[0], p.args[1:]...) //nolint:gosec // built above
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	cmd := p.cmd
	p.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill() // the test failed before it stopped it
			_ = cmd.Wait()
		}
	})
	waitFor(p.t, "the gateway to serve", func() bool {
		c, err := net.DialTimeout("tcp", p.address, time.Second)
		if err == nil {
			_ = c.Close() // it was only tried
		}
		return err == nil
	})
}

// stop ends it by SIGTERM and waits for a clean exit.
func (p *process) stop() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		p.t.Fatalf("want exit code 0, found %v: %s", err, p.out)
	}
}
