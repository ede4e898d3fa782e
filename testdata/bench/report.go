package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// report is the JSON form of a run.
type report struct {
	Machine    machine   `json:"machine"`
	Versions   []string  `json:"versions"`
	Parameters params    `json:"parameters"`
	Results    []*result `json:"results"`
}

type machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
	Date   string `json:"date"`
}

type params struct {
	Rounds      int     `json:"rounds"`
	Seconds     float64 `json:"seconds"`
	Connections int     `json:"connections"`
	Rate        int     `json:"rate_calls_per_second"`
	MaxProcs    int     `json:"gomaxprocs"`
}

func newReport(p *plan, results []*result) *report {
	r := &report{
		Machine: machine{
			CPU: cpuModel(), Cores: runtime.NumCPU(), Kernel: kernel(), Go: runtime.Version(),
			Date: time.Now().UTC().Format(time.DateOnly),
		},
		Parameters: params{
			Rounds: p.rounds, Seconds: p.seconds.Seconds(), Connections: p.conns, Rate: p.rate, MaxProcs: p.maxProcs,
		},
		Results: results,
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			switch m.Path {
			case "github.com/grpc-ecosystem/grpc-gateway/v2", "google.golang.org/grpc", "google.golang.org/protobuf", "golang.org/x/net":
				r.Versions = append(r.Versions, m.Path+" "+m.Version)
			}
		}
	}
	if v := nginxVersion(); v != "" && slices.ContainsFunc(p.candidates, func(c candidate) bool { return c.name == nginxName }) {
		r.Versions = append(r.Versions, v)
	}
	return r
}

func cpuModel() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

func (r *report) writeJSON(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644) //nolint:gosec // figures, for everybody
}

// writeMarkdown writes one table per scenario and backend, each with all rounds below it.
func (r *report) writeMarkdown(w io.Writer) error {
	var b strings.Builder
	m, p := r.Machine, r.Parameters
	fmt.Fprintf(&b, "%s, %d cores, Linux %s, %s, %s. %s.\n\n", m.CPU, m.Cores, m.Kernel, m.Go, m.Date, strings.Join(r.Versions, ", "))
	fmt.Fprintf(&b, "%d rounds of %gs per candidate, %d connections, candidates at GOMAXPROCS=%d. CPU is user + system time of the "+
		"candidate's process per call; medians of the rounds, ratios taken within each round.\n", p.Rounds, p.Seconds, p.Connections, p.MaxProcs)
	for i, from := 0, 0; i <= len(r.Results); i++ {
		if i < len(r.Results) && r.Results[i].Scenario == r.Results[from].Scenario && r.Results[i].Backend == r.Results[from].Backend {
			continue
		}
		if from < i {
			writeTable(&b, r.Results[from:i], p.Rate)
		}
		from = i
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeTable(b *strings.Builder, results []*result, rate int) {
	fmt.Fprintf(b, "\n### %s, backend %s\n\n%s\n\n", results[0].Scenario, results[0].Backend, results[0].About)
	fmt.Fprintf(b, "| candidate | µs CPU per call | range | user + sys | calls per core-second | busy | x floor | x grpc-gateway | x nginx "+
		"| p50 / p99 ms, 1 connection | p50 / p99 ms, %d calls/s |\n", rate)
	b.WriteString("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, r := range results {
		low, high := r.Rounds[0].CPU, r.Rounds[0].CPU
		for _, n := range r.Rounds {
			low, high = min(low, n.CPU), max(high, n.CPU)
		}
		fmt.Fprintf(b, "| %s | %.1f | %.1f-%.1f | %.1f + %.1f | %.0f | %.0f %% | %s | %s | %s | %s | %s |\n", r.Candidate, r.CPU, low, high,
			r.User, r.Sys, r.PerCoreSecond, 100*r.Busy, ratio(r.ToFloor), ratio(r.ToGateway), ratio(r.ToNginx), r.OneConnection, r.ConstantRate)
	}
	b.WriteString("\nAll rounds, µs CPU per call (x floor, x grpc-gateway, x nginx of the same round; calls per second):\n\n")
	for _, r := range results {
		fmt.Fprintf(b, "- %s:", r.Candidate)
		for i, n := range r.Rounds {
			if i > 0 {
				b.WriteString(";")
			}
			fmt.Fprintf(b, " %.1f (%s, %s, %s; %.0f)", n.CPU, ratio(n.ToFloor), ratio(n.ToGateway), ratio(n.ToNginx), n.Throughput)
		}
		b.WriteString("\n")
	}
}

// ratio prints a ratio with three digits, "-" for none.
func ratio(v float64) string {
	switch {
	case v == 0:
		return "-"
	case v < 0.1:
		return fmt.Sprintf("%.3f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

func (l *latencies) String() string {
	if l == nil {
		return "-"
	}
	return fmt.Sprintf("%.3f / %.3f", l.P50, l.P99)
}
