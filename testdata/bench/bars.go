package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// bar is a figure that causeway is held to: each round gives one, and their median counts.
type bar struct {
	what     string
	scenario string
	backend  string
	limit    float64
	of       func(r roundOf) float64 // 0: the round has not all that it is made of
}

// roundOf gives what an entrant cost in a round of the bar's scenario; nil when the entrant was not measured.
type roundOf func(entrant string) *round

// ratioOf is the cost of one entrant in those of another.
func ratioOf(name, to string) func(roundOf) float64 {
	return func(r roundOf) float64 {
		a, b := r(name), r(to)
		if a == nil || b == nil {
			return 0
		}
		return a.CPU / b.CPU
	}
}

// moreOf is what an entrant costs more than another, in floors.
func moreOf(name, than string) func(roundOf) float64 {
	return func(r roundOf) float64 {
		a, b, floor := r(name), r(than), r(floorName)
		if a == nil || b == nil || floor == nil {
			return 0
		}
		return (a.CPU - b.CPU) / floor.CPU
	}
}

// latencyOf is the ratio of a latency of causeway with its plugins to nginx's.
func latencyOf(of func(*round) float64) func(roundOf) float64 {
	return func(r roundOf) float64 {
		a, b := r(causewayFullName), r(nginxName)
		if a == nil || b == nil || a.OneConnection == nil || b.OneConnection == nil {
			return 0
		}
		return of(a) / of(b)
	}
}

// bars returns every bar in the order of the report.
func bars() []bar {
	const canned = "canned"
	return []bar{
		{"REST to gRPC without plugins, floors", "post", canned, 1.85, ratioOf(causewayName, floorName)},
		{"the same, of grpc-gateway", "post", canned, 0.2, ratioOf(causewayName, peerName)},
		{"access log and metrics, floors more", "post", canned, 0.15, moreOf(causewayFullName, causewayName)},
		{"at 8 connections, floors at 8", "post8", canned, 2.3, ratioOf(causewayName, floorName)},
		{"with GOMAXPROCS=2, of the cost at 1", "procs", canned, 1.3, ratioOf(causewayTwoName, causewayName)},
		{"with TLS, floors more", "tls", canned, 0.5, moreOf(causewayTLSName, causewayName)},
		{"answers of 10 KB, of grpc-gateway", "list", canned, 0.1, ratioOf(causewayName, peerName)},
		{"gRPC to gRPC, log and metrics, 64 x 1, floors", "grpc64x1", canned, 2.2, ratioOf(causewayFullName, floorName)},
		{"the same, of nginx grpc_pass", "grpc64x1", canned, 0.5, ratioOf(causewayFullName, nginxName)},
		{"gRPC to gRPC, log and metrics, 8 x 16, floors", "grpc8x16", canned, 0.8, ratioOf(causewayFullName, floorName)},
		{"the same, of nginx grpc_pass", "grpc8x16", canned, 0.2, ratioOf(causewayFullName, nginxName)},
		{
			"p50 at 1 connection, of nginx grpc_pass", "grpc64x1", canned, 1.25,
			latencyOf(func(n *round) float64 { return n.OneConnection.P50 }),
		},
		{
			"p99 at 1 connection, of nginx grpc_pass", "grpc64x1", canned, 1.25,
			latencyOf(func(n *round) float64 { return n.OneConnection.P99 }),
		},
		{
			"p50 at a constant rate, of nginx grpc_pass", "grpc64x1", canned, 1.25,
			latencyOf(func(n *round) float64 { return n.ConstantRate.P50 }),
		},
		{
			"p99 at a constant rate, of nginx grpc_pass", "grpc64x1", canned, 1.25,
			latencyOf(func(n *round) float64 { return n.ConstantRate.P99 }),
		},
		{
			// A delayed ACK that somebody waits for takes 40 ms.
			"no stall at a default grpc-go backend, ms at 1 connection, p99", "grpc64x1", "grpc-go", 20,
			func(r roundOf) float64 {
				if n := r(causewayFullName); n != nil && n.OneConnection != nil {
					return n.OneConnection.P99
				}
				return 0
			},
		},
		{"JWT (HS256), limit, metrics and log, floors", "auth", canned, 2.2, ratioOf(causewayHSName, floorName)},
		{"the same, floors more than the bare route", "auth", canned, 0.5, moreOf(causewayHSName, causewayName)},
		{"RS256 of a token seen before, floors more than HS256", "auth", canned, 0.1, moreOf(causewayRSName, causewayHSName)},
		{"server stream, gRPC to gRPC, floors per message", "streams", canned, 0.3, ratioOf(causewayStreamName, floorName)},
		{"server stream as NDJSON, of grpc-gateway", "streams", canned, 0.2, ratioOf(causewayNDJSONName, peerStreamName)},
		{"unary gRPC-Web, of REST", "faces", canned, 1.2, ratioOf(causewayWebName, causewayName)},
		{"unary Connect-JSON, of REST", "faces", canned, 1.2, ratioOf(causewayConnectName, causewayName)},
		{"REST to tRPC, of REST to gRPC", "protocols", canned, 1, ratioOf(causewayTRPCName, causewayRESTName)},
		{"REST to TARS, of REST to gRPC", "protocols", canned, 1.1, ratioOf(causewayTARSName, causewayRESTName)},
		{"gRPC to tRPC, of gRPC to gRPC", "protocols", canned, 1, ratioOf(causewayGRPCToTRPCName, causewayStreamName)},
	}
}

// figure is what became of a bar.
type figure struct {
	bar

	rounds []float64
	median float64
}

func (f *figure) measured() bool { return len(f.rounds) > 0 }

func (f *figure) met() bool { return f.measured() && f.median <= f.limit }

// figures reads every bar from the results.
func figures(results []*result) []figure {
	var all []figure
	for _, b := range bars() {
		f := figure{bar: b}
		rounds := 0
		for _, r := range results {
			if r.Scenario == b.scenario && r.Backend == b.backend {
				rounds = len(r.Rounds)
			}
		}
		for n := range rounds {
			v := b.of(func(entrant string) *round {
				for _, r := range results {
					if r.Scenario == b.scenario && r.Backend == b.backend && r.Candidate == entrant {
						return &r.Rounds[n]
					}
				}
				return nil
			})
			if v != 0 {
				f.rounds = append(f.rounds, v)
			}
		}
		if f.measured() {
			f.median = median(slices.Clone(f.rounds))
		}
		all = append(all, f)
	}
	return all
}

// writeBars prints the bars and returns how many of those measured are not met.
func writeBars(w io.Writer, all []figure) (missed int, err error) {
	var b strings.Builder
	b.WriteString("\n### Bars\n\nThe median of the rounds counts; a ratio is taken within its round.\n\n" +
		"| bar | at most | median | | all rounds |\n|---|---:|---:|---|---|\n")
	for i := range all {
		f := &all[i]
		if !f.measured() {
			fmt.Fprintf(&b, "| %s (%s, %s) | %.3g | - | not measured | |\n", f.what, f.scenario, f.backend, f.limit)
			continue
		}
		verdict := "met"
		if !f.met() {
			verdict = "**not met**"
			missed++
		}
		fmt.Fprintf(&b, "| %s (%s, %s) | %.3g | %.3g | %s |", f.what, f.scenario, f.backend, f.limit, f.median, verdict)
		for _, v := range f.rounds {
			fmt.Fprintf(&b, " %.3g", v)
		}
		b.WriteString(" |\n")
	}
	b.WriteString("\nAllocations per call and memory of idle connections are held by tests: `go test -run Allocs ./cmd/causeway`, `make proof`.\n")
	_, err = io.WriteString(w, b.String())
	return missed, err
}
