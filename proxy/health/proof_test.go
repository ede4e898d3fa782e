//go:build unix

package health

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestProofFrozen stops another process, whose connections the kernel goes on to accept: checks over gRPC and HTTP find it
// within 3 s, and find it again once it runs on. In full: ten rounds, and the time is held to.
func TestProofFrozen(t *testing.T) {
	t.Parallel()
	rounds, limit := 1, patience
	if full() {
		rounds, limit = 10, 3*time.Second
	}
	c := startChild(t, "server")
	at := c.line(t)
	p := NewPool(quiet())
	defer p.Close()
	changed := make(chan struct{}, 1)
	tell := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	watches := map[string]*Watch{
		"grpc": p.Watch("grpc", Timing{}, func() (Prober, error) { return GRPC(at[0], GRPCCheck{}, nil) }, tell),
		"http": p.Watch("http", Timing{}, func() (Prober, error) { return HTTP(at[1], HTTPCheck{}, nil) }, tell),
		"tcp":  p.Watch("tcp", Timing{}, func() (Prober, error) { return TCP(at[1], nil) }, tell),
	}
	wait := func(what string, up map[string]bool) time.Duration {
		t.Helper()
		begun := time.Now()
		end := time.NewTimer(patience)
		defer end.Stop()
		for {
			there := true
			for name, want := range up {
				s := watches[name].State()
				there = there && s.Known && s.Up == want
			}
			if there {
				return time.Since(begun)
			}
			select {
			case <-changed:
			case <-end.C:
				t.Fatalf("%s: found grpc %+v, http %+v", what, watches["grpc"].State(), watches["http"].State())
			}
		}
	}
	wait("at first", map[string]bool{"grpc": true, "http": true, "tcp": true})
	for i := range rounds {
		time.Sleep(time.Duration(i) * 97 * time.Millisecond) // another moment of the interval
		if err := c.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		took := wait("frozen", map[string]bool{"grpc": false, "http": false})
		if took > limit {
			t.Errorf("want a frozen process down within %v, found %v", limit, took)
		}
		for _, name := range []string{"grpc", "http"} {
			if got, want := fmt.Sprint(watches[name].State().Err), "connected, but no answer in time: the process may hang"; got != want {
				t.Errorf("%s: want %q, found %q", name, want, got)
			}
		}
		if !watches["tcp"].State().Up {
			t.Errorf("want connections to a frozen process to succeed, found %+v", watches["tcp"].State())
		}
		if err := c.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		back := wait("running again", map[string]bool{"grpc": true, "http": true})
		t.Logf("down after %v, up after %v", took.Round(time.Millisecond), back.Round(time.Millisecond))
	}
}

// TestProofRate counts probes where they arrive, while watches are closed and opened all the time: one per interval within
// 5 %. In full: 1,000 reloads in a minute.
func TestProofRate(t *testing.T) {
	t.Parallel()
	const endpoints = 40
	interval, length, reloads := 500*time.Millisecond, 3*time.Second, 100
	if full() {
		interval, length, reloads = time.Second, time.Minute, 1000
	}
	var arrived atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		arrived.Add(1)
		_, _ = io.WriteString(w, "fine")
	}))
	defer s.Close()
	p := NewPool(quiet())
	defer p.Close()
	open := func(i int) *Watch {
		return p.Watch(strconv.Itoa(i), Timing{Interval: interval, Timeout: patience}, func() (Prober, error) { return HTTP(s.Listener.Addr().String(), HTTPCheck{}, nil) }, nil)
	}
	var watches [endpoints]*Watch
	for i := range watches {
		watches[i] = open(i)
	}
	eventually(t, "two probes of each", func() bool { return arrived.Load() >= 2*endpoints })
	before, begun := arrived.Load(), time.Now()
	missed := p.Stats().Missed
	var slow time.Duration // by how much the machine was late: what it held up at either end counts on the wrong side
	for r := range reloads {
		for i, w := range watches {
			slow = max(slow, w.State().Took)
			w.Close()
			watches[i] = open(i)
		}
		due := begun.Add(length * time.Duration(r+1) / time.Duration(reloads))
		time.Sleep(time.Until(due))
		slow = max(slow, time.Since(due))
	}
	took := time.Since(begun)
	rate := float64(arrived.Load()-before) / endpoints * float64(interval) / float64(took)
	late := p.Stats().Missed - missed // by a machine that stood still
	slack := float64(slow) / float64(took)
	t.Logf("%d reloads: %.3f probes per interval, %d slots missed, the machine late by %s at most", reloads, rate, late, slow.Round(time.Millisecond))
	if rate > 1.05+slack || rate < 0.95-slack-float64(late)/endpoints*float64(interval)/float64(took) {
		t.Errorf("want one probe per interval, found %.3f", rate)
	}
	if st := p.Stats(); st.Up != endpoints || st.Endpoints != endpoints || st.Failed != 0 {
		t.Errorf("want all up all the time, found %+v", st)
	}
}

// TestProofPause stops the process that probes: when it runs on, it does not make good what it missed.
func TestProofPause(t *testing.T) {
	t.Parallel()
	c := startChild(t, "gateway")
	report := func() (probes, most int) {
		t.Helper()
		if _, err := io.WriteString(c.in, "?\n"); err != nil {
			t.Fatal(err)
		}
		at := c.line(t)
		probes, _ = strconv.Atoi(at[0])
		most, _ = strconv.Atoi(at[1])
		return probes, most
	}
	time.Sleep(time.Second)
	report()
	time.Sleep(time.Second)
	probes, most := report()
	t.Logf("running: %d probes in about a second, %d at most in 20 ms", probes, most)
	if err := c.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	if err := c.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second / 2)
	probes, most = report()
	t.Logf("after 2 s of standing still: %d probes in about half a second, %d at most in 20 ms", probes, most)
	if probes == 0 || most > manyEndpoints*6/10 {
		t.Errorf("want the probes of half a second and no burst, found %d, %d of them within 20 ms", probes, most)
	}
}
