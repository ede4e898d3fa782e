package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test binary be started in a role, as the bench itself is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "role" {
		if err := runRole(os.Args[2:]); err != nil {
			complain(strings.Join(os.Args[1:], " "), err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestShort runs the bench once: every candidate is started, answers right and is measured in every scenario at the canned
// backend, and at the grpc-go backend in those that say different things to it. With -test.short it is the unary POST only.
func TestShort(t *testing.T) {
	runs := []struct{ backend, only string }{
		{"canned", "post,get,list,error,routes,post8,procs,tls,grpc64x1,grpc8x16,streams,faces,protocols"},
		{"grpc-go", "post,get,error,grpc64x1"},
	}
	if testing.Short() {
		runs = runs[:1]
		runs[0].only = "post,grpc8x16,streams,protocols"
	}
	for _, run := range runs {
		t.Run(run.backend, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "bench.json")
			var table, progress strings.Builder
			args := []string{"-short", "-bars", "-out", out, "-backend", run.backend, "-only", run.only}
			if err := bench(t.Context(), args, &table, &progress); err != nil {
				t.Fatalf("%v\n%s", err, progress.String())
			}
			noChildren(t)
			text, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			var r report
			if err := json.Unmarshal(text, &r); err != nil {
				t.Fatal(err)
			}
			want, err := entrantsOf(run.backend, strings.Split(run.only, ","))
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Results) != want {
				t.Errorf("%d results, want %d", len(r.Results), want)
			}
			for _, got := range r.Results {
				if len(got.Rounds) != 1 || got.Rounds[0].Calls == 0 || got.CPU <= 0 || got.ToFloor <= 0 {
					t.Errorf("%s at %s, %s: something was not measured: %+v", got.Scenario, got.Backend, got.Candidate, got)
				}
				taken := got.OneConnection != nil && got.OneConnection.Calls > 0 && got.ConstantRate != nil && got.ConstantRate.Calls > 0
				if latency := slices.Contains([]string{"post", "tls", "grpc64x1"}, got.Scenario); latency != taken {
					t.Errorf("%s, %s: latency was taken: %v, want %v", got.Scenario, got.Candidate, taken, latency)
				}
				if !strings.Contains(table.String(), "| "+got.Candidate+" |") {
					t.Errorf("the table has no row for %s:\n%s", got.Candidate, table.String())
				}
			}
		})
	}
}

// entrantsOf is how many rows the scenarios have at a backend on this machine.
func entrantsOf(backend string, only []string) (int, error) {
	all, err := scenarios()
	if err != nil {
		return 0, err
	}
	n := 0
	for i := range all {
		if !slices.Contains(only, all[i].name) {
			continue
		}
		for _, e := range all[i].entrants {
			if (e.candidate != nginxName || findNginx() != "") && (!e.canned || backend == "canned") {
				n++
			}
		}
	}
	return n, nil
}

// TestInterrupted shows that a run that is broken off ends every process it started.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	progress := writerFunc(func(p []byte) (int, error) {
		if strings.Contains(string(p), "post at canned") {
			time.AfterFunc(300*time.Millisecond, cancel)
		}
		return len(p), nil
	})
	args := []string{"-candidates", "floor,grpc-gateway", "-only", "post", "-seconds", "30"}
	begun := time.Now()
	err := bench(ctx, args, io.Discard, progress)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of a cancelled context", err)
	}
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("ended %v after it began", took)
	}
	noChildren(t)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// noChildren fails the test when a started process is still there.
func noChildren(t *testing.T) {
	t.Helper()
	if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); !errors.Is(err, syscall.ECHILD) {
		t.Errorf("a started process is still there: wait4 returned %d, %v", pid, err)
	}
}

// TestRoleEndsWithItsInput shows that no role outlives a bench that was killed.
func TestRoleEndsWithItsInput(t *testing.T) {
	for _, args := range [][]string{{roleFloor}, {roleCanned}, {roleBackend}, {rolePeer, "-backend", "127.0.0.1:1"}, {roleGRPC, "-backend", "127.0.0.1:1"}} {
		p, err := startRole(args[0], 1, args...)
		if err != nil {
			t.Fatal(err)
		}
		_ = p.stdin.Close()
		timer := time.NewTimer(10 * time.Second)
		select {
		case <-p.ended:
		case <-timer.C:
			t.Errorf("%s is still there", args[0])
			p.stop()
		}
		timer.Stop()
	}
}

func TestFlags(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"-only posts", `no scenario "posts"; there are post, get, list, error, routes, post8, procs, tls, grpc64x1, grpc8x16, streams, auth, faces`},
		{"-backend envoy", `no backend "envoy"; there are canned, grpc-go`},
		{"-candidates envoy", `no candidate "envoy"; there are floor, grpc-gateway, nginx, grpc-go proxy, causeway, causeway+log+metrics, causeway+log+metrics+auth`},
		{"-rounds 0", "-rounds is out of bounds (1 to 100): 0"},
		{"-conns 5000", "-conns is out of bounds (1 to 1024): 5000"},
		{"post", `want flags only, got "post"`},
	} {
		err := bench(t.Context(), strings.Fields(tt.args), io.Discard, io.Discard)
		if err == nil || err.Error() != tt.want {
			t.Errorf("%s: error %v, want %s", tt.args, err, tt.want)
		}
	}
}

func TestBar(t *testing.T) {
	results := []*result{
		{Scenario: "post", Backend: "grpc-go", Candidate: causewayName, ToGateway: 0.9},
		{Scenario: "post", Backend: "canned", Candidate: causewayName, ToGateway: 0.5},
	}
	if err := holdBar(results, 1.9); err != nil {
		t.Error(err)
	}
	if err := holdBar(results, 2.1); err == nil {
		t.Error("a bar of 2.1 was held by a ratio of 2.0")
	}
	if err := holdBar(results[:1], 1); err == nil {
		t.Error("the bar was held without a figure for it")
	}
}

// TestFigures reads bars from results that hold one, miss one and lack the rest.
func TestFigures(t *testing.T) {
	of := func(scenario, candidate string, cpu ...float64) *result {
		r := &result{Scenario: scenario, Backend: "canned", Candidate: candidate}
		for _, c := range cpu {
			r.Rounds = append(r.Rounds, round{CPU: c})
		}
		return r
	}
	all := figures([]*result{
		of("post", floorName, 10, 10, 10),
		of("post", causewayName, 18, 30, 17),
		of("post", causewayFullName, 20, 32, 18),
		of("grpc8x16", floorName, 10, 10, 10),
		of("grpc8x16", nginxName, 50, 50, 50),
		of("grpc8x16", causewayFullName, 9, 9, 7),
	})
	var out strings.Builder
	missed, err := writeBars(&out, all)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"| REST to gRPC without plugins, floors (post, canned) | 1.85 | 1.8 | met | 1.8 3 1.7 |",
		"| the same, of grpc-gateway (post, canned) | 0.2 | - | not measured | |",
		"| access log and metrics, floors more (post, canned) | 0.15 | 0.2 | **not met** | 0.2 0.2 0.1 |",
		"| gRPC to gRPC, log and metrics, 8 x 16, floors (grpc8x16, canned) | 0.8 | 0.9 | **not met** | 0.9 0.9 0.7 |",
		"| the same, of nginx grpc_pass (grpc8x16, canned) | 0.2 | 0.18 | met | 0.18 0.18 0.14 |",
	} {
		if !strings.Contains(out.String(), line+"\n") {
			t.Errorf("want the line %s in\n%s", line, out.String())
		}
	}
	if missed != 2 {
		t.Errorf("%d missed, want 2", missed)
	}
}

// TestCPUTime compares the figure that everything rests on with what the kernel tells a process about itself.
func TestCPUTime(t *testing.T) {
	before, err := cpuTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	rusage := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	start := rusage()
	for rusage()-start < 200*time.Millisecond { // burns user and system time
	}
	after, err := cpuTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	got, want := after.minus(before), rusage()-start
	if diff := (got.total - want).Abs(); diff > 50*time.Millisecond {
		t.Errorf("CPU clock %v, getrusage %v", got.total, want)
	}
	if diff := (got.user + got.sys - want).Abs(); diff > 100*time.Millisecond {
		t.Errorf("user %v + system %v, getrusage %v", got.user, got.sys, want)
	}
}

func TestPercentileAndMedian(t *testing.T) {
	var l *latencies
	for i := 100; i > 0; i-- {
		l = l.join([]time.Duration{time.Duration(i) * time.Millisecond})
	}
	if l.P50 != 51 || l.P99 != 100 || l.Calls != 100 {
		t.Errorf("p50 %v, p99 %v of %d", l.P50, l.P99, l.Calls)
	}
	r := &result{Rounds: []round{{CPU: 9, ToFloor: 1}, {CPU: 10, ToFloor: 4}, {CPU: 20, ToFloor: 3}}}
	r.sum()
	if r.CPU != 10 || r.ToFloor != 3 || r.PerCoreSecond != 100_000 {
		t.Errorf("sum %+v", r)
	}
}
