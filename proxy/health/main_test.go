package health

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// childRole is set where the test binary is to be another process.
const childRole = "CAUSEWAY_HEALTH_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childRole) {
	case "":
		goleak.VerifyTestMain(m)
	case "server":
		if err := serveAll(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "gateway":
		probeMany()
	}
}

// patience is how long tests wait for what must come.
const patience = 20 * time.Second

// full tells whether proofs run at their full length.
func full() bool { return os.Getenv("CAUSEWAY_PROOF") == "1" }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("want %s within %v", what, patience)
		}
	}
}

// listen is a port of this host until the test ends.
func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// serveGRPC serves a health service; nil: a server without.
func serveGRPC(t testing.TB, s healthpb.HealthServer, secure *tls.Config) (address string, server *grpc.Server) {
	t.Helper()
	var options []grpc.ServerOption
	if secure != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(secure)))
	}
	server = grpc.NewServer(options...)
	if s != nil {
		healthpb.RegisterHealthServer(server, s)
	}
	l := listen(t)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() { server.Stop(); <-ended })
	return l.Addr().String(), server
}

// child is the test binary as another process, which ends with the test.
type child struct {
	cmd *exec.Cmd
	out *bufio.Reader
	in  io.WriteCloser
}

func startChild(t testing.TB, role string) *child {
	t.Helper()
	c := &child{cmd: exec.CommandContext(t.Context(), os.Args[0])}
	c.cmd.Env = append(os.Environ(), childRole+"="+role)
	c.cmd.Stderr = os.Stderr
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	})
	return c
}

// line reads what the child says next.
func (c *child) line(t testing.TB) []string {
	t.Helper()
	s, err := c.out.ReadString('\n')
	if err != nil {
		t.Fatalf("the child said nothing: %v", err)
	}
	return strings.Fields(s)
}

// serveAll serves gRPC and HTTP until its input ends, and says where.
func serveAll() error {
	g, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	h, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, grpchealth.NewServer())
	go func() { _ = server.Serve(g) }()
	web := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") })}
	go func() { _ = web.Serve(h) }()
	fmt.Fprintln(os.Stdout, g.Addr(), h.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
	return nil
}

// probeMany probes many endpoints, and at each line of its input says how many probes there were since the last, and how many
// of them at most within 20 ms.
func probeMany() {
	var mu sync.Mutex
	var begun []time.Duration
	start := time.Now()
	p := NewPool(quiet())
	for i := range manyEndpoints {
		p.Watch(strconv.Itoa(i), Timing{Interval: manyInterval}, func() (Prober, error) {
			return Func(func(context.Context) error {
				mu.Lock()
				begun = append(begun, time.Since(start))
				mu.Unlock()
				return nil
			}, nil), nil
		}, nil)
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		mu.Lock()
		most := 0
		for i, j := 0, 0; i < len(begun); i++ {
			for begun[i]-begun[j] > 20*time.Millisecond {
				j++
			}
			most = max(most, i-j+1)
		}
		fmt.Fprintln(os.Stdout, len(begun), most)
		begun = begun[:0]
		mu.Unlock()
	}
	p.Close()
}

const (
	manyEndpoints = 1000
	manyInterval  = 500 * time.Millisecond
)
