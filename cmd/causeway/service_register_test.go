package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/causeway-gateway/causeway/proxy/health"
)

// sidecarProcess is `causeway service register` as a process of its own.
type sidecarProcess struct {
	t   testing.TB
	cmd *exec.Cmd
	out *syncBuffer
}

// startSidecar registers a.A with ZooKeeper at addr.
func startSidecar(t testing.TB, addr string, args ...string) *sidecarProcess {
	t.Helper()
	p := &sidecarProcess{t: t, out: &syncBuffer{}}
	p.cmd = exec.CommandContext(context.Background(), "causeway", append([]string{"service", "register", "--service", "a.A", "--zookeeper", addr, "--log-format", "text"}, args...)...) //nolint:gosec // this program, as TestMain has it
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.WaitDelay = 10 * time.Second // for grandchildren that a failed test leaves
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			p.kill()
		}
		if t.Failed() {
			t.Log(p.out.String())
		}
	})
	return p
}

func (p *sidecarProcess) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	_ = p.cmd.Wait()         // it was killed
}

func (p *sidecarProcess) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// ends waits for the end and wants an exit code.
func (p *sidecarProcess) ends(code int) {
	p.t.Helper()
	if err := p.cmd.Wait(); p.cmd.ProcessState == nil || p.cmd.ProcessState.ExitCode() != code {
		p.t.Fatalf("want exit code %d, found %v: %s", code, err, p.out)
	}
}

func (p *sidecarProcess) stop(code int) {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	p.ends(code)
}

func (p *sidecarProcess) says(text string) {
	p.t.Helper()
	soon(p.t, text, func() bool { return strings.Contains(p.out.String(), text) })
}

// fileOf makes a file of text.
func fileOf(t testing.TB, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// fickle is an HTTP server that is well or not.
func fickle(t testing.TB) (addr string, well *atomic.Bool) {
	t.Helper()
	well = &atomic.Bool{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" || !well.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), well
}

// TestRegisterFollowsCheck runs the sidecar beside a program that it does not start.
func TestRegisterFollowsCheck(t *testing.T) {
	t.Parallel()
	for name, hold := range map[string]bool{"shown": false, "held back": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, addr := startZK(t)
			c := zkAt(t, addr)
			program, well := fickle(t)
			args := []string{
				"--address", "10.0.0.1:1", "--check", "http", "--check-address", program, "--check-path", "/healthz", "--interval", "100ms",
				"--drain", "2s", "--session", "1s", "--beat", "1s",
			}
			before, after := "starting", "down"
			if hold {
				before, after = "none", "none"
				args = append(args, "--hold")
			}
			p := startSidecar(t, addr, args...)
			is := func(want string) {
				t.Helper()
				soon(t, "the status "+want, func() bool { return statusIn(t, c, "a.A", "10.0.0.1-1") == want })
			}
			p.says("registered")
			is(before)
			well.Store(true)
			is("up")
			well.Store(false)
			is(after)
			well.Store(true)
			is("up")
			p.signal(syscall.SIGTERM)
			p.ends(0)
			is("none")
			p.says("withdrawn")
			if strings.Contains(p.out.String(), "level=WARN") {
				t.Errorf("want nothing to warn of, found %s", p.out)
			}
		})
	}
}

// TestRegisterWaitsForZooKeeper starts before there is one.
func TestRegisterWaitsForZooKeeper(t *testing.T) {
	t.Parallel()
	addr := reserve(t)
	p := startSidecar(t, addr, "--address", "10.0.0.1:1", "--check", "none", "--session", "1s", "--", "sh", "-c", "echo runs; while :; do sleep 0.05; done")
	p.says("runs")
	p.says("not registered yet, going on")
	ln, err := net.Listen("tcp", addr) //nolint:noctx // binding does not wait
	if err != nil {
		t.Fatal(err)
	}
	serveZK(t, ln)
	p.says("msg=registered")
	// Two signals end the window of 5 s, and then the program, which takes SIGTERM as it comes.
	p.signal(syscall.SIGTERM)
	p.says("draining")
	p.signal(syscall.SIGTERM)
	p.ends(128 + int(syscall.SIGTERM))
}

// TestRegisterAroundProgram is the entry point of a container.
func TestRegisterAroundProgram(t *testing.T) {
	t.Parallel()
	_, addr := startZK(t)
	c := zkAt(t, addr)
	status := func(id string) string { return statusIn(t, c, "a.A", id) }
	for name, test := range map[string]func(t *testing.T, id string, start func(script string, more ...string) *sidecarProcess){
		"drained, then told to end": func(t *testing.T, id string, start func(string, ...string) *sidecarProcess) {
			// It says what it is told, and by then no gateway may send it calls.
			p := start(`trap 'echo told; exit 3' TERM; trap 'echo hung up' HUP; echo serves; while :; do sleep 0.05; done`, "--drain", "1s")
			p.says("serves")
			soon(t, "the instance", func() bool { return status(id) == "up" })
			p.signal(syscall.SIGHUP)
			p.says("hung up")
			p.signal(syscall.SIGTERM)
			soon(t, "draining before anything else", func() bool { return status(id) == "draining" })
			if strings.Contains(p.out.String(), "told") {
				t.Error("want the program told after the drain window")
			}
			p.ends(3)
			said := p.out.String()
			if out, told := strings.Index(said, "msg=withdrawn"), strings.Index(said, "told\n"); out < 0 || told < out {
				t.Errorf("want it withdrawn before the program is told, found %s", said)
			}
		},
		"ends by itself": func(t *testing.T, id string, start func(string, ...string) *sidecarProcess) {
			p := start("read line < " + fileOf(t, "") + "; exit 5")
			p.ends(5)
			if s := status(id); s != "none" {
				t.Errorf("want its instance gone with it, found %s", s)
			}
			p.says("sh ended with exit code 5")
		},
		"ends well": func(_ *testing.T, _ string, start func(string, ...string) *sidecarProcess) { start("exit 0").ends(0) },
		"is killed": func(_ *testing.T, _ string, start func(string, ...string) *sidecarProcess) {
			start("kill -9 $$").ends(137)
		},
		"its streams": func(_ *testing.T, _ string, start func(string, ...string) *sidecarProcess) {
			start("cat; echo out; echo err >&2").says("out\nerr\n")
		},
		"does not end": func(_ *testing.T, _ string, start func(string, ...string) *sidecarProcess) {
			p := start(`trap '' TERM; echo serves; while :; do sleep 0.05; done`, "--drain", "0", "--grace", "100ms")
			p.says("serves")
			p.stop(137)
			p.says("killed")
		},
		"takes signals as ever": func(t *testing.T, _ string, start func(string, ...string) *sidecarProcess) {
			if _, err := os.Stat("/proc/self/status"); err != nil {
				t.Skip("this system does not tell which signals a process ignores")
			}
			p := start("grep SigIgn /proc/self/status")
			p.ends(0)
			_, mask, _ := strings.Cut(p.out.String(), "SigIgn:")
			ignored, err := strconv.ParseUint(strings.Fields(mask)[0], 16, 64)
			if err != nil || ignored&(1<<(syscall.SIGPIPE-1)|1<<(syscall.SIGTERM-1)) != 0 {
				t.Errorf("want SIGPIPE and SIGTERM not ignored, found %x %v", ignored, err)
			}
		},
	} {
		id := strings.Map(func(r rune) rune {
			if r == ' ' || r == ',' {
				return '-'
			}
			return r
		}, name)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, id, func(script string, more ...string) *sidecarProcess {
				t.Helper()
				args := append([]string{"--address", "10.0.0.1:1", "--id", id, "--check", "none"}, more...)
				return startSidecar(t, addr, append(args, "--", "sh", "-c", script)...)
			})
		})
	}
}

func TestChecks(t *testing.T) {
	t.Parallel()
	own := grpchealth.NewServer()
	own.SetServingStatus("a.A", healthpb.HealthCheckResponse_NOT_SERVING)
	serve := func(s *grpc.Server) string {
		ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- s.Serve(ln) }()
		t.Cleanup(func() {
			s.Stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
		return ln.Addr().String()
	}
	with, without := grpc.NewServer(), grpc.NewServer()
	healthpb.RegisterHealthServer(with, own)
	grpcAddr, plainAddr := serve(with), serve(without)
	web, well := fickle(t)
	well.Store(true)
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	moved := httptest.NewServer(http.RedirectHandler("http://192.0.2.1/", http.StatusFound))
	t.Cleanup(moved.Close)
	nobody := reserve(t)
	for _, tc := range []struct {
		name  string
		check check
		want  string
	}{
		{"tcp", check{kind: "tcp", address: web}, ""},
		{"tcp, nobody", check{kind: "tcp", address: nobody}, "refused"},
		{"tcp over TLS", check{kind: "tcp", address: secure.Listener.Addr().String(), secure: true}, ""},
		{"tcp over TLS where is none", check{kind: "tcp", address: web, secure: true}, "TLS"},
		{"http", check{kind: "http", address: web, path: "/healthz"}, ""},
		{"http, a bare path", check{kind: "http", address: web, path: "healthz"}, ""},
		{"http, not well", check{kind: "http", address: web, path: "/nope"}, "http check of " + web + ": "},
		{"http, moved", check{kind: "http", address: moved.Listener.Addr().String(), path: "/"}, ""},
		{"http over TLS", check{kind: "http", address: secure.Listener.Addr().String(), path: "/", secure: true}, "404"},
		{"http, nobody", check{kind: "http", address: nobody, path: "/"}, "refused"},
		{"grpc", check{kind: "grpc", address: grpcAddr}, ""},
		{"grpc, not serving", check{kind: "grpc", address: grpcAddr, service: "a.A"}, "NOT_SERVING"},
		{"grpc, unknown", check{kind: "grpc", address: grpcAddr, service: "b.B"}, "b.B"},
		{"grpc, not offered", check{kind: "grpc", address: plainAddr}, "health"},
		{"grpc, nobody", check{kind: "grpc", address: nobody}, "refused"},
	} {
		c := tc.check
		if err := c.open(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		err := c.ask(ctx)
		cancel()
		c.close()
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: want %q, found %v", tc.name, tc.want, err)
		}
	}
}

// TestCheckForgives holds how many failures make an instance unwell.
func TestCheckForgives(t *testing.T) {
	t.Parallel()
	fails := errors.New("fails")
	var now error
	c := check{failures: 3, prober: health.Func(func(context.Context) error { return now }, nil)}
	for i, step := range []struct{ probe, want error }{
		{fails, fails}, {nil, nil}, // nothing is forgiven to who has never been well
		{fails, nil}, {fails, nil}, {fails, fails}, {fails, fails}, {nil, nil}, {fails, nil}, {nil, nil}, {fails, nil}, {fails, nil}, {fails, fails},
	} {
		if now = step.probe; !errors.Is(c.ask(t.Context()), step.want) {
			t.Errorf("step %d: want %v", i, step.want)
		}
	}
}

// An instance whose check never passes is registered, takes no calls, and says why.
func TestServiceRegisterUnwell(t *testing.T) {
	t.Parallel()
	_, addr := startZK(t)
	p := startSidecar(t, addr, "--address", reserve(t), "--check", "tcp")
	waitFor(t, "the reason told", func() bool {
		return strings.Contains(p.out.String(), "gateways send no calls: the check does not pass") && strings.Contains(p.out.String(), "nothing listens there")
	})
}
