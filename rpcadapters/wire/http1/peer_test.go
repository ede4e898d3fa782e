package http1_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/http1"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/server"
)

// childVariable names what a test program is to be instead of a run of tests: a server whose CPU is its own.
const childVariable = "CAUSEWAY_HTTP1_CHILD"

func TestMain(m *testing.M) {
	if kind := os.Getenv(childVariable); kind != "" {
		os.Exit(child(kind))
	}
	goleak.VerifyTestMain(m)
}

// call is a request of 199 bytes with a realistic head, and canned its answer of 331.
var (
	canned = []byte(strings.Repeat("0123456789", 33) + "x")
	call   = "POST /v1/shelves/7/books HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: okhttp/4.12.0\r\nAccept: application/json\r\n" +
		"Content-Type: application/json\r\nAuthorization: Bearer " + strings.Repeat("eyJhbGciOi", 30) + "\r\n" +
		"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nAccept-Encoding: gzip\r\nContent-Length: 199\r\n\r\n" + strings.Repeat("a", 199)
	answerHeader = rpc.Metadata{{Key: "content-type", Value: "application/json"}, {Key: "x-request-id", Value: "0af7651916cd43dd8448eb211c80319c"}}
)

// cannedHandler reads the body and answers.
type cannedHandler struct{ deadline bool }

func (h cannedHandler) ServeExchange(_ context.Context, x *wire.Exchange) {
	if h.deadline {
		x.SetDeadline(x.Start.Add(15 * time.Second))
	}
	buf := rpc.GetBuffer()
	for {
		n, err := x.Read(buf.B[len(buf.B):cap(buf.B)])
		buf.B = buf.B[:len(buf.B)+n]
		if err != nil {
			break
		}
	}
	if len(buf.B) == 199 {
		_ = x.Respond(200, answerHeader, canned)
	}
	buf.Free()
}

// child serves until its input ends. For each line of it, it prints what it has used so far: nanoseconds on processors, bytes of
// resident memory, and how many connections it has.
func child(kind string) int {
	conns := func() int64 { return -1 }
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 1
	}
	switch kind {
	case "starved", "http1":
		few := syscall.Rlimit{Cur: 60, Max: 60}
		if kind == "starved" && syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few) != nil {
			return 1
		}
		s := server.New(cannedHandler{true}, http1.New(http1.Limits{}, nil), nil, server.Options{})
		conns = s.Conns
		go func() { _ = s.Serve(ln) }()
	case "unwatched":
		p := http1.New(http1.Limits{}, nil)
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go p.NewConn(c, nil, nil, cannedHandler{}).Serve()
			}
		}()
	case "nethttp":
		s := http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("X-Request-Id", "0af7651916cd43dd8448eb211c80319c")
			_, _ = w.Write(canned)
		})}
		go func() { _ = s.Serve(ln) }()
	case "floor": // one read, one write, nothing in between
		out := []byte("HTTP/1.1 200 OK\r\nContent-Length: 331\r\n\r\n" + string(canned))
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go func() {
					buf := make([]byte, 4096)
					for {
						if _, err := c.Read(buf); err != nil {
							return
						}
						if _, err := c.Write(out); err != nil {
							return
						}
					}
				}()
			}
		}()
	}
	_, _ = fmt.Fprintln(os.Stdout, ln.Addr())
	in := bufio.NewReader(os.Stdin)
	for {
		if _, err := in.ReadString('\n'); err != nil {
			return 0
		}
		_, _ = fmt.Fprintln(os.Stdout, cpu().Nanoseconds(), resident(), conns())
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// resident is how many bytes of memory this process has; -1 where that is not known.
func resident() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return -1
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(b), &size, &pages); err != nil {
		return -1
	}
	return pages * int64(os.Getpagesize())
}

// peer is a child with its clients.
type peer struct {
	t       testing.TB
	address string
	in      io.WriteCloser
	out     *bufio.Reader
	conns   []net.Conn
}

func startPeer(t testing.TB, kind string, clients int) *peer {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+kind, "GOMAXPROCS=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, in: in, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		for _, c := range p.conns {
			_ = c.Close()
		}
		_ = in.Close()
		_ = cmd.Wait()
	})
	p.address = p.line()
	for range clients {
		c, err := net.Dial("tcp", p.address)
		if err != nil {
			t.Fatal(err)
		}
		p.conns = append(p.conns, c)
	}
	return p
}

func (p *peer) line() string {
	line, err := p.out.ReadString('\n')
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// used is what the child says of itself.
func (p *peer) used() (cpu time.Duration, resident, conns int64) {
	p.t.Helper()
	if _, err := io.WriteString(p.in, "\n"); err != nil {
		p.t.Fatal(err)
	}
	line := p.line()
	if _, err := fmt.Sscan(line, &cpu, &resident, &conns); err != nil {
		p.t.Fatalf("%q: %v", line, err)
	}
	return cpu, resident, conns
}

func (p *peer) cpu() time.Duration {
	p.t.Helper()
	cpu, _, _ := p.used()
	return cpu
}

// run makes calls on all connections at once and returns the CPU time of one.
func (p *peer) run(calls int) time.Duration {
	before := p.cpu()
	var wg sync.WaitGroup
	for _, c := range p.conns {
		wg.Go(func() {
			buf := make([]byte, 4096)
			for range calls {
				if _, err := io.WriteString(c, call); err != nil {
					p.t.Error(err)
					return
				}
				for got := ""; !strings.HasSuffix(got, "9x"); {
					n, err := c.Read(buf)
					if err != nil {
						p.t.Error(err)
						return
					}
					got = string(buf[max(0, n-2):n])
				}
			}
		})
	}
	wg.Wait()
	return (p.cpu() - before) / time.Duration(calls*len(p.conns))
}

// BenchmarkPeers compares the CPU of one call over loopback sockets, each server in a process of its own at GOMAXPROCS=1,
// in interleaved rounds. Ratios are to the floor of the same round; the median counts.
func BenchmarkPeers(b *testing.B) {
	kinds := []string{"floor", "http1", "unwatched", "nethttp"}
	peers := make([]*peer, len(kinds))
	for i, kind := range kinds {
		peers[i] = startPeer(b, kind, 64)
		peers[i].run(50)
	}
	sums := make([][]float64, len(kinds))
	rounds := max(b.N, 7)
	for range rounds {
		for i := range kinds {
			sums[i] = append(sums[i], float64(peers[i].run(300).Nanoseconds())/1000)
		}
	}
	for i, kind := range kinds {
		ratios := make([]float64, rounds)
		for r := range rounds {
			ratios[r] = sums[i][r] / sums[0][r]
		}
		b.ReportMetric(median(sums[i]), kind+"-us")
		b.ReportMetric(median(ratios), kind+"-floors")
	}
}

func median(v []float64) float64 {
	s := append([]float64(nil), v...)
	for i := range s {
		for j := i; j > 0 && s[j] < s[j-1]; j-- {
			s[j], s[j-1] = s[j-1], s[j]
		}
	}
	return s[len(s)/2]
}

// A server without descriptors waits for some to come free, and costs nothing meanwhile.
func TestWithoutDescriptors(t *testing.T) {
	p := startPeer(t, "starved", 100)
	answered := func(c net.Conn, within time.Duration) bool {
		if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
			t.Fatal(err)
		}
		_, err := c.Read(make([]byte, 4096))
		return err == nil
	}
	var waiting []net.Conn
	for _, c := range p.conns {
		if _, err := io.WriteString(c, call); err != nil {
			t.Fatal(err)
		}
	}
	const sure = 30 // it has descriptors for these
	for _, c := range p.conns[:sure] {
		if !answered(c, 30*time.Second) {
			t.Fatal("want the first served")
		}
	}
	for _, c := range p.conns[sure:] {
		if !answered(c, 20*time.Millisecond) {
			waiting = append(waiting, c)
			continue
		}
	}
	if len(waiting) < 40 {
		t.Fatalf("want some of 100 served and others not, found %d waiting", len(waiting))
	}
	before := p.cpu()
	time.Sleep(time.Second)
	if used := p.cpu() - before; used > 300*time.Millisecond {
		t.Errorf("want it to wait, found %s of CPU used in a second", used)
	}
	for _, c := range p.conns {
		if !slices.Contains(waiting, c) {
			_ = c.Close()
		}
	}
	for _, c := range waiting {
		if !answered(c, 30*time.Second) {
			t.Fatal("want all served in the end")
		}
		_ = c.Close()
	}
}
