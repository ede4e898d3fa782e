package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	_ "embed"
)

// candidate is something that is measured. Its process is started afresh for every entrant of a scenario at a backend.
type candidate struct {
	name    string
	about   string
	timeout timeoutHeader
	start   func(ctx context.Context, s *stage) (*process, error)
	// proof, if there is one, is asked after the last round whether the process did what its row says, given the calls
	// that were answered. It may stop the process.
	proof func(ctx context.Context, s *stage, p *process, calls int) error
	// missing, if there is one, tells that its program is not installed; its rows are left out then.
	missing func() bool
}

// stage is what an entrant of one scenario at one backend is played on.
type stage struct {
	scenario *scenario
	entrant  *entrant
	backend  *process
	dir      string // for the files of this entrant
	cert     *certificate
	maxProcs int // GOMAXPROCS of the candidates
	causeway string
	admin    string // address of causeway's admin listener
	data     string // causeway's data directory
}

const (
	floorName        = "floor"
	peerName         = "grpc-gateway"
	causewayName     = "causeway"
	causewayFullName = "causeway+log+metrics"
	nginxName        = "nginx"
	grpcPeerName     = "grpc-go proxy"

	// Entrants that are not called as their candidate.
	floorTLSName        = "floor, TLS"
	peerTLSName         = "grpc-gateway, TLS"
	causewayTLSName     = "causeway, TLS"
	causewayTwoName     = "causeway, 2 procs"
	peerStreamName      = "grpc-gateway, NDJSON"
	grpcPeerStreamName  = "grpc-go proxy, gRPC"
	causewayNDJSONName  = "causeway, NDJSON"
	causewayAuthName    = "causeway+log+metrics+auth"
	causewayHSName      = "causeway, HS256"
	causewayRSName      = "causeway, RS256"
	causewayStreamName  = "causeway, gRPC"
	causewayWebName     = "causeway, gRPC-Web"
	causewayConnectName = "causeway, Connect-JSON"

	causewayRESTName       = "causeway, REST to gRPC"
	causewayTRPCName       = "causeway, REST to tRPC"
	causewayTARSName       = "causeway, REST to TARS"
	causewayGRPCToTRPCName = "causeway, gRPC to tRPC"
)

// candidates returns every candidate in the order of the report.
func candidates() []candidate {
	// 9.0 to 9.999999 seconds, with as many digits as a real client's remaining time has.
	seconds := timeoutHeader{name: "X-Request-Timeout", before: "9.", after: "s"}
	return []candidate{
		{
			name: floorName, about: "HTTP/1.1 server with one read and one write per call, no upstream",
			timeout: seconds, start: startFloor,
		},
		{
			name: peerName, about: "grpc-gateway v2, generated code on net/http and grpc-go, as documented",
			timeout: grpcTimeout, start: startPeer,
		},
		{
			name: nginxName, about: "nginx of Debian, one worker: proxy_pass to HTTP/1.1 for REST, grpc_pass for gRPC", timeout: seconds,
			start: startNginx, missing: func() bool { return findNginx() == "" },
		},
		{
			name: grpcPeerName, about: "a gRPC proxy with grpc-go: two streams and two goroutines per call", start: startGRPCPeer,
		},
		{
			name: causewayName, about: "causeway run, no plugins", timeout: seconds,
			start: func(ctx context.Context, s *stage) (*process, error) { return startCauseway(ctx, s, bare) },
		},
		{
			name: causewayFullName, about: "causeway run with access_log (to a file) and metrics", timeout: seconds,
			start: func(ctx context.Context, s *stage) (*process, error) { return startCauseway(ctx, s, full) },
			proof: provePlugins,
		},
		{
			name: causewayAuthName, about: "the same with jwt_auth and limit_count besides", timeout: seconds,
			start: func(ctx context.Context, s *stage) (*process, error) { return startCauseway(ctx, s, auth) },
			proof: provePlugins,
		},
	}
}

func (s *stage) tlsArgs() []string {
	if s.cert == nil {
		return nil
	}
	return []string{"-cert", s.cert.certFile, "-key", s.cert.keyFile}
}

func startFloor(_ context.Context, s *stage) (*process, error) {
	args := append([]string{roleFloor, "-scenario", s.scenario.name}, s.tlsArgs()...)
	return startRole(floorName, s.maxProcs, args...)
}

func startPeer(_ context.Context, s *stage) (*process, error) {
	args := append([]string{rolePeer, "-backend", s.backend.address}, s.tlsArgs()...)
	if s.scenario.many {
		args = append(args, "-extra", strconv.Itoa(extraRoutes))
	}
	return startRole(peerName, s.maxProcs, args...)
}

func startGRPCPeer(_ context.Context, s *stage) (*process, error) {
	return startRole(grpcPeerName, s.maxProcs, roleGRPC, "-backend", s.backend.address)
}

func accessLog(s *stage) string { return filepath.Join(s.dir, "access.log") }

// plugins says what a gateway runs with.
type plugins uint8

const (
	bare plugins = iota
	full         // metrics and access_log
	auth         // these, jwt_auth and limit_count
)

// benchIDL describes the service for TARS.
//
//go:embed bench.tars
var benchIDL []byte

// startCauseway starts the gateway's own binary with a configuration file written for the stage.
func startCauseway(ctx context.Context, s *stage, with plugins) (*process, error) {
	name, file := causewayName, "bare.yaml"
	switch with {
	case full:
		name, file = causewayFullName, "full.yaml"
	case auth:
		name, file = causewayAuthName, "auth.yaml"
	}
	set := filepath.Join(s.dir, "bench.binpb")
	extra := 0
	if s.scenario.many {
		extra = extraRoutes
	}
	if err := writeDescriptorSet(set, extra); err != nil {
		return nil, err
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	var c strings.Builder
	fmt.Fprintf(&c, "listen:\n  - address: %s\n", address)
	if s.cert != nil {
		fmt.Fprintf(&c, "    tls: {cert_file: %q, key_file: %q}\n", s.cert.certFile, s.cert.keyFile)
	}
	if s.entrant.upstream == upstreamTARS {
		idl := filepath.Join(s.dir, "bench.tars")
		if err := os.WriteFile(idl, benchIDL, 0o600); err != nil {
			return nil, err
		}
		fmt.Fprintf(&c, "schemas:\n  - {name: bench, tars: {paths: [%q]}}\n", idl)
		c.WriteString("routes:\n  - {name: post, service: bench, http: {method: Bench.Orders/place, post: /v1/orders, body: request, response_body: order}}\n")
	} else {
		fmt.Fprintf(&c, "schemas:\n  - {name: bench, descriptor_set: %q}\n", set)
	}
	fmt.Fprintf(&c, "services:\n  - {name: bench, schema: bench, endpoints: [{address: %q}]", s.backend.address)
	switch s.entrant.upstream {
	case upstreamTARS:
		c.WriteString(", adapter: tars, options: {servant: Bench.OrdersServer.OrdersObj}")
	case upstreamTRPC:
		c.WriteString(", adapter: trpc")
	}
	c.WriteString("}\n")
	if with != bare {
		if s.admin, err = freeAddress(ctx); err != nil {
			return nil, err
		}
		s.data = filepath.Join(s.dir, "data")
		fmt.Fprintf(&c, "admin: {address: %q, data_dir: %q}\n", s.admin, s.data)
		fmt.Fprintf(&c, "plugins:\n  - {name: metrics}\n  - name: access_log\n    config: {output: %q}\n", accessLog(s))
		if with == auth {
			more, err := authPlugins()
			if err != nil {
				return nil, err
			}
			c.WriteString(more)
		}
	}
	path := filepath.Join(s.dir, file)
	if err := os.WriteFile(path, []byte(c.String()), 0o600); err != nil {
		return nil, err
	}
	p, out, err := start(name, s.maxProcs, s.causeway, "run", "-c", path)
	if err != nil {
		return nil, err
	}
	p.address = address
	go func() { _, _ = io.Copy(p.errors, out) }()
	return p, nil
}

// provePlugins checks that every call was counted and logged: a plugin that was not there would make the row a lie. A
// line may be dropped when the disk does not keep up, but then it is counted.
func provePlugins(ctx context.Context, s *stage, p *process, calls int) error {
	counted, dropped, err := s.counters(ctx)
	if err != nil {
		return err
	}
	p.stop() // which writes out the log
	lines, err := countLines(accessLog(s))
	if err != nil {
		return err
	}
	if counted < calls || lines+dropped < calls {
		return fmt.Errorf("of %d calls the metrics count %d, and the access log has %d lines and %d dropped", calls, counted, lines, dropped)
	}
	return nil
}

// counters reads from causeway's metrics how many calls it counted and how many lines of its log it dropped.
func (s *stage) counters(ctx context.Context) (calls, dropped int, err error) {
	token, err := os.ReadFile(filepath.Join(s.data, "admin.token"))
	if err != nil {
		return 0, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, stallAfter)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.admin+"/metrics", nil)
	if err != nil {
		return 0, 0, err
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, 0, fmt.Errorf("/metrics: status %s", resp.Status)
	}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), "{")
		if strings.HasPrefix(name, "#") {
			continue
		}
		if value == "" {
			name, _, _ = strings.Cut(name, " ")
		}
		n, err := strconv.ParseFloat(lines.Text()[strings.LastIndexByte(lines.Text(), ' ')+1:], 64)
		if err != nil {
			return 0, 0, fmt.Errorf("/metrics: %q: %w", lines.Text(), err)
		}
		switch name {
		case "causeway_requests_total":
			calls += int(n)
		case "causeway_log_dropped_lines_total":
			dropped += int(n)
		}
	}
	return calls, dropped, lines.Err()
}

// countLines counts the lines of a file.
func countLines(path string) (int, error) {
	f, err := os.Open(path) //nolint:gosec // a file of this run
	if err != nil {
		return 0, err
	}
	defer f.Close()
	buf, lines := make([]byte, 1<<20), 0
	for {
		n, err := f.Read(buf)
		lines += bytes.Count(buf[:n], []byte{'\n'})
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// buildCauseway builds the gateway's binary from the repository's root, with the root's own go.mod.
func buildCauseway(ctx context.Context, root, dir string) (string, error) {
	path := filepath.Join(dir, "causeway")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "./cmd/causeway") //nolint:gosec // a path of this run
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build causeway (or give a binary with -causeway): %w\n%s", err, out)
	}
	return path, nil
}
