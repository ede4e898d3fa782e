// Command bench measures what a call costs: the HTTP/1.1 floor, grpc-gateway's generated code and Causeway, each as a
// process of its own, side by side in interleaved rounds. How to read its figures is in README.md.
//
// It needs Linux (the kernel's CPU clocks and epoll), uses the loopback only and ends every process it starts.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "role" {
		if err := runRole(os.Args[2:]); err != nil {
			complain(strings.Join(os.Args[1:], " "), err)
			os.Exit(1)
		}
		return
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := bench(ctx, os.Args[1:], os.Stdout, os.Stderr)
	cancel()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// totalWithin bounds a whole run, whatever its flags say.
const totalWithin = 2 * time.Hour

// bench parses the flags, measures and reports.
func bench(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	var (
		out      = flags.String("out", "", "also write the results as JSON to `FILE`")
		rounds   = flags.Int("rounds", 7, "interleaved rounds")
		seconds  = flags.Float64("seconds", 1.5, "seconds measured per candidate and round")
		only     = flags.String("only", "", "comma-separated `scenarios` instead of all (post,get,list,error,routes,post8,procs,tls,grpc64x1,grpc8x16,streams,auth,faces,protocols)")
		backends = flags.String("backend", "canned,grpc-go", "comma-separated backends")
		names    = flags.String("candidates", "", "comma-separated `candidates` instead of all (floor,grpc-gateway,nginx,grpc-go proxy,causeway,causeway+log+metrics)")
		conns    = flags.Int("conns", 64, "keep-alive connections of the load")
		rate     = flags.Int("rate", 1000, "calls per second of the constant-rate latency runs")
		procs    = flags.Int("procs", 1, "GOMAXPROCS of the candidates")
		binary   = flags.String("causeway", "", "measure this causeway `binary` instead of building one")
		bar      = flags.Float64("bar", 0, "fail unless causeway answers at least this many times grpc-gateway's calls per core-second in the scenario post at the canned backend")
		latency  = flags.Bool("latency", true, "take latencies, in the scenarios that have them")
		table    = flags.Bool("bars", false, "print at the end what each bar demands and what was measured; fail when one is not met, except with -short")
		short    = flags.Bool("short", false, "one round of 0.15 s: shows that everything runs; the figures mean little")
	)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("want flags only, got %q", flags.Arg(0))
	}
	p := &plan{
		rounds: *rounds, seconds: time.Duration(*seconds * float64(time.Second)), warm: 200 * time.Millisecond,
		latency: time.Second, costOnly: !*latency,
		conns: *conns, rate: *rate, maxProcs: *procs, causeway: *binary,
		progress: func(format string, args ...any) { fmt.Fprintf(stderr, "bench: "+format+"\n", args...) },
	}
	if *short {
		p.rounds, p.seconds, p.warm = 1, 150*time.Millisecond, 20*time.Millisecond
		p.latency = 100 * time.Millisecond
	}
	if err := p.check(); err != nil {
		return err
	}
	if err := p.choose(*only, *backends, *names); err != nil {
		return err
	}
	for i := range p.scenarios {
		if s := &p.scenarios[i]; *short && s.alike {
			s.backends = s.backends[:1]
		}
	}
	ctx, cancel := context.WithTimeout(ctx, totalWithin)
	defer cancel()
	results, err := p.prepareAndRun(ctx)
	if err != nil {
		return err
	}
	r := newReport(p, results)
	if err := r.writeMarkdown(stdout); err != nil {
		return err
	}
	if *out != "" {
		if err := r.writeJSON(*out); err != nil {
			return err
		}
	}
	if *table {
		missed, err := writeBars(stdout, figures(results))
		if err != nil {
			return err
		}
		if missed > 0 && !*short {
			return fmt.Errorf("%d bars are not met", missed)
		}
	}
	if *bar > 0 {
		if err := holdBar(results, *bar); err != nil {
			return err
		}
	}
	if len(p.absent) > 0 {
		_, err := fmt.Fprintf(stdout, "\nLeft out, for it is not installed: %s.\n", strings.Join(p.absent, ", "))
		return err
	}
	return nil
}

// check refuses flags that would not end or measure nothing.
func (p *plan) check() error {
	for _, f := range []struct {
		name     string
		value    int
		low, top int
	}{
		{"rounds", p.rounds, 1, 100},
		{"seconds", int(p.seconds / time.Millisecond), 50, 60_000},
		{"conns", p.conns, 1, 1024},
		{"rate", p.rate, 1, 100_000},
		{"procs", p.maxProcs, 1, 256},
	} {
		if f.value < f.low || f.value > f.top {
			return fmt.Errorf("-%s is out of bounds (%d to %d): %d", f.name, f.low, f.top, f.value)
		}
	}
	return nil
}

// choose takes the scenarios, backends and candidates that are asked for, in the order of the report.
func (p *plan) choose(only, backends, names string) error {
	all, err := scenarios()
	if err != nil {
		return err
	}
	if p.scenarios, err = pick("scenario", all, only, func(s scenario) string { return s.name }); err != nil {
		return err
	}
	if p.candidates, err = pick("candidate", candidates(), names, func(c candidate) string { return c.name }); err != nil {
		return err
	}
	p.candidates = slices.DeleteFunc(p.candidates, func(c candidate) bool {
		out := c.missing != nil && c.missing()
		if out {
			p.absent = append(p.absent, c.name)
		}
		return out
	})
	p.backends, err = pick("backend", []string{"canned", "grpc-go"}, backends, func(s string) string { return s })
	return err
}

// pick keeps the elements whose names the comma-separated list has; an empty list keeps all.
func pick[T any](kind string, all []T, list string, name func(T) string) ([]T, error) {
	if list == "" {
		return all, nil
	}
	var (
		wanted = strings.Split(list, ",")
		known  []string
		kept   []T
	)
	for _, v := range all {
		known = append(known, name(v))
		if slices.Contains(wanted, name(v)) {
			kept = append(kept, v)
		}
	}
	for _, w := range wanted {
		if !slices.Contains(known, w) {
			return nil, fmt.Errorf("no %s %q; there are %s", kind, w, strings.Join(known, ", "))
		}
	}
	return kept, nil
}

// prepareAndRun makes what the stages share, in a folder that is removed again, and measures.
func (p *plan) prepareAndRun(ctx context.Context) ([]*result, error) {
	dir, err := os.MkdirTemp("", "causeway-bench")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	p.dir = dir
	if p.cert, err = newCertificate(dir); err != nil {
		return nil, err
	}
	ours := func(c candidate) bool { return strings.HasPrefix(c.name, causewayName) }
	if p.causeway == "" && slices.ContainsFunc(p.candidates, ours) {
		root, err := repositoryRoot()
		if err != nil {
			return nil, err
		}
		p.progress("building causeway")
		if p.causeway, err = buildCauseway(ctx, root, dir); err != nil {
			return nil, err
		}
	}
	return p.run(ctx)
}

// holdBar fails when causeway without plugins is not so many times cheaper than grpc-gateway.
func holdBar(results []*result, bar float64) error {
	for _, r := range results {
		if r.Scenario != "post" || r.Backend != "canned" || r.Candidate != causewayName || r.ToGateway == 0 {
			continue
		}
		if got := 1 / r.ToGateway; got < bar {
			return fmt.Errorf("causeway answers %.2f times grpc-gateway's calls per core-second, want %.2f or more", got, bar)
		}
		return nil
	}
	return errors.New("-bar needs the scenario post, the backend canned, grpc-gateway and causeway")
}
