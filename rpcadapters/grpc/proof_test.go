package grpc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/testdata/realserver"
)

// full tells whether proofs run at their full length (make proof) or in their short form.
func full() bool { return os.Getenv("CAUSEWAY_PROOF") == "1" }

// TestProofHungCalls has calls hang on servers with default settings, which end a connection that sends too many PINGs; then
// the connection is idle. In full: 30 s of hung calls, 10 minutes idle.
func TestProofHungCalls(t *testing.T) {
	t.Parallel()
	hang, idle := 5*time.Second, 2*time.Second
	if full() {
		hang, idle = 30*time.Second, 10*time.Minute
	}
	for _, server := range []struct {
		name  string
		start func(*testing.T) string
	}{{"grpc-go", startWaiting}, {"grpc-js", startGRPCJS}} {
		t.Run(server.name, func(t *testing.T) {
			t.Parallel()
			tr := dial(t, rpcadapters.Target{Address: server.start(t)})
			wait := func(d time.Duration) error {
				req := strconv.FormatInt(d.Milliseconds(), 10)
				ctx, cancel := context.WithTimeout(t.Context(), d+20*time.Second)
				defer cancel()
				var reply rpc.Reply
				err := tr.Unary(ctx, call("/test.v1.Test/Wait"), &rpc.Message{Data: []byte(req)}, &reply)
				if err == nil && string(reply.Message.Data) != req {
					err = fmt.Errorf("found %q", reply.Message.Data)
				}
				reply.Reset()
				return err
			}
			if err := wait(0); err != nil {
				t.Fatal(err)
			}
			// A connection that the server asked to leave would be replaced by another one.
			made := tr.cl.Made()
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					if err := wait(hang); err != nil {
						t.Errorf("a hung call: %v", err)
					}
				})
			}
			wg.Wait()
			// Answers reset what the server has counted; calls that hang again are allowed one PING again.
			if err := wait(hang / 2); err != nil {
				t.Error(err)
			}
			quiet := time.NewTimer(idle)
			defer quiet.Stop()
			<-quiet.C
			if err := wait(0); err != nil {
				t.Error(err)
			}
			if n := tr.cl.Made(); n != made {
				t.Errorf("want one connection throughout, found %d", n)
			}
			t.Logf("%v of hung calls, %v idle: no GOAWAY", hang, idle)
		})
	}
}

// startWaiting is a grpc-go server that waits as long as it is told.
func startWaiting(t *testing.T) string {
	t.Helper()
	return startRaw(t, func(s grpc.ServerStream) error {
		var m []byte
		if err := s.RecvMsg(&m); err != nil {
			return err
		}
		ms, err := strconv.Atoi(string(m))
		if err != nil {
			return err
		}
		timer := time.NewTimer(time.Duration(ms) * time.Millisecond)
		defer timer.Stop()
		select {
		case <-timer.C:
			return s.SendMsg(m)
		case <-s.Context().Done():
			return s.Context().Err()
		}
	})
}

// startGRPCJS runs testdata/grpcjs/server.js in bin/grpcjs, where npm puts its packages when they are not there.
func startGRPCJS(t *testing.T) string {
	t.Helper()
	node := realserver.Need(t, "node", "nodejs")
	npm := realserver.Need(t, "npm", "npm")
	dir := filepath.Join("..", "..", "bin", "grpcjs")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"package.json", "package-lock.json", "server.js"} {
		b, err := os.ReadFile(filepath.Join("testdata", "grpcjs", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "@grpc", "grpc-js", "package.json")); err != nil {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, npm, "ci", "--no-audit", "--no-fund")
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			if os.Getenv("CAUSEWAY_REAL") == "1" {
				t.Fatalf("needs @grpc/grpc-js, which npm cannot fetch: %v\n%s", err, out)
			}
			t.Skipf("skipped: needs %s (%s), which is not installed", "@grpc/grpc-js", "npm")
		}
	}
	cmd := exec.Command(node, "server.js")
	cmd.Dir = dir
	return started(t, cmd)
}

// started runs a server that ends with its input, and returns the address that it prints.
func started(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	cmd.Stderr = os.Stderr
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
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(strings.TrimSpace(line), "listening on ")
}

// TestProofBlackhole has a server vanish behind a network that says nothing: a call is out within 3 s, whether it was under way
// or began later, and calls go through again once the network is back. It needs to be root, and ip.
func TestProofBlackhole(t *testing.T) {
	ip := realserver.Need(t, "ip", "iproute2")
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	name := fmt.Sprintf("cw%d", os.Getpid())
	run := func(args ...string) error {
		out, err := exec.Command(ip, args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	subnet := fmt.Sprintf("10.%d.%d.", 200+os.Getpid()%50, os.Getpid()/50%250)
	near, far := subnet+"1", subnet+"2"
	if err := run("netns", "add", name); err != nil {
		t.Skipf("no network namespaces here: %v", err)
	}
	t.Cleanup(func() {
		if err := run("netns", "del", name); err != nil {
			t.Error(err)
		}
	})
	for _, args := range [][]string{
		{"link", "add", name + "a", "type", "veth", "peer", "name", name + "b", "netns", name},
		{"addr", "add", near + "/30", "dev", name + "a"},
		{"link", "set", name + "a", "up"},
		{"-n", name, "addr", "add", far + "/30", "dev", name + "b"},
		{"-n", name, "link", "set", name + "b", "up"},
	} {
		if err := run(args...); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(ip, "netns", "exec", name, os.Args[0])
	cmd.Env = append(os.Environ(), cannedEnv+"=hang", cannedAddressEnv+"="+far+":0")
	address := started(t, cmd)
	tr := dial(t, rpcadapters.Target{Address: address, DialTimeout: 500 * time.Millisecond})
	one := func(method string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		var reply rpc.Reply
		defer reply.Reset()
		return tr.Unary(ctx, call(method), &rpc.Message{Data: make([]byte, 100)}, &reply)
	}
	limit := 10 * time.Second // for machines that have other things to do
	if full() {
		limit = 3200 * time.Millisecond
	}
	outWithin := func(what string, begin time.Time, err error) {
		var e *rpc.Error
		if !errors.As(err, &e) || e.Code != codes.Unavailable || e.Reason != "UPSTREAM_RESET" || !e.Executed {
			t.Errorf("%s: found %v", what, err)
		}
		took := time.Since(begin)
		if took > limit {
			t.Errorf("%s: want it out within %v, took %v", what, limit, took)
		}
		t.Logf("%s: out after %v", what, took.Round(time.Millisecond))
	}
	for _, c := range []struct{ name, method string }{
		{"a call that begins later", "/a.B/Answer"},
		{"a call under way", "/a.B/Hang"},
	} {
		eventually(t, "the server is reached", func() bool { return one("/a.B/Answer") == nil })
		done := make(chan error, 1)
		if c.method == "/a.B/Hang" {
			go func() { done <- one(c.method) }()
			eventually(t, "the call is under way", func() bool { return tr.cl.InFlight() == 1 })
		}
		if err := run("-n", name, "route", "add", "blackhole", near+"/32"); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if c.method != "/a.B/Hang" {
			done <- one(c.method)
		}
		outWithin(c.name, begin, <-done)
		// Nothing answers there: quick to say.
		begin = time.Now()
		var e *rpc.Error
		if err := one("/a.B/Answer"); !errors.As(err, &e) || e.Reason != "UPSTREAM_UNREACHABLE" || e.Executed || time.Since(begin) > limit/3 {
			t.Errorf("found %v after %v", err, time.Since(begin))
		}
		if err := run("-n", name, "route", "del", "blackhole", near+"/32"); err != nil {
			t.Fatal(err)
		}
	}
}
