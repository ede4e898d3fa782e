package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"github.com/causeway-gateway/causeway/testdata/descriptors"
	"github.com/causeway-gateway/causeway/testdata/realserver"
)

// interopFolder is the module that pins gRPC's interop programs and grpcurl.
const interopFolder = "../../testdata/interop"

// interopCases are the cases of grpc-go's interop_test.sh, which leaves out those that need credentials of a cloud.
// The last two are about load reports, which gRPC's own list of cases (doc/interop-test-descriptions.md) has apart.
var interopCases = []string{
	"empty_unary",
	"large_unary",
	"client_streaming",
	"server_streaming",
	"ping_pong",
	"empty_stream",
	"timeout_on_sleeping_server",
	"cancel_after_begin",
	"cancel_after_first_response",
	"status_code_and_message",
	"special_status_message",
	"custom_metadata",
	"unimplemented_method",
	"unimplemented_service",
	"rpc_soak",
	"channel_soak",
	"orca_per_rpc",
	"orca_oob",
}

// loadReports is the service of orca_oob, whose messages pass as they are.
const loadReports = `syntax = "proto3";
package xds.service.orca.v3;
service OpenRcaService {
  rpc StreamCoreMetrics(OrcaLoadReportRequest) returns (stream OrcaLoadReport);
}
message OrcaLoadReportRequest {}
message OrcaLoadReport {}
`

// TestInterop runs gRPC's interop client through the gateway to gRPC's interop server.
func TestInterop(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds and runs other programs: not with -short")
	}
	dir := t.TempDir()
	buildPinned(t, dir, "google.golang.org/grpc/interop/client", "google.golang.org/grpc/interop/server")
	ca := newAuthority(t, "both ends trust this")
	cert, key := ca.issue("gateway", 1)
	for name, raw := range map[string][]byte{
		"test.binpb":  descriptors.Encode(t, testgrpc.File_grpc_testing_test_proto),
		"loads.proto": []byte(loadReports),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name                   string
		listener, upstream     string
		serverArgs, clientArgs []string
	}{
		{name: "plain"},
		{
			name:       "TLS",
			listener:   ", tls: {cert_file: " + cert + ", key_file: " + key + "}",
			upstream:   ", tls: {ca_file: " + ca.file + ", server_name: localhost}",
			serverArgs: []string{"--use_tls", "--tls_cert_file=" + cert, "--tls_key_file=" + key},
			clientArgs: []string{"--use_tls", "--use_test_ca", "--ca_file=" + ca.file, "--server_host_override=localhost"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := startInteropServer(t, filepath.Join(dir, "server"), c.serverArgs)
			service := `schema: NAME, endpoints: [{address: "` + server + `"}]` + c.upstream + `}`
			g := startGateway(t, `listen: [{address: "127.0.0.1:0"`+c.listener+`}]
schemas:
  - {name: test, descriptor_set: `+filepath.Join(dir, "test.binpb")+`}
  - {name: loads, proto: {paths: [`+filepath.Join(dir, "loads.proto")+`]}}
services:
  - {name: test, `+strings.Replace(service, "NAME", "test", 1)+`
  - {name: loads, `+strings.Replace(service, "NAME", "loads", 1)+`
`)
			host, port, err := net.SplitHostPort(strings.TrimPrefix(g.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range interopCases {
				t.Run(name, func(t *testing.T) {
					limited, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
					defer cancel()
					args := append([]string{
						"--server_host=" + host, "--server_port=" + port, "--test_case=" + name,
						// A slow machine is no fault.
						"--soak_per_iteration_max_acceptable_latency_ms=60000", "--soak_overall_timeout_seconds=150", "--soak_num_threads=2",
						`--service_config_json={"loadBalancingConfig": [{"test_backend_metrics_load_balancer": {}}]}`,
					}, c.clientArgs...)
					client := exec.CommandContext(limited, filepath.Join(dir, "client"), args...)
					client.Env = append(os.Environ(), "GRPC_GO_LOG_SEVERITY_LEVEL=info")
					out, err := client.CombinedOutput()
					if err != nil {
						t.Fatalf("%v\n%s", err, tail(string(out), 30))
					}
					if !bytes.Contains(out, []byte(" done")) { // the client says so at each case's end
						t.Errorf("the client does not say that the case is done:\n%s", tail(string(out), 30))
					}
				})
			}
		})
	}
}

// buildPinned builds programs of the module in interopFolder into dir.
func buildPinned(t testing.TB, dir string, programs ...string) {
	t.Helper()
	build := exec.CommandContext(t.Context(), "go", append([]string{"build", "-o", dir + string(filepath.Separator)}, programs...)...) //nolint:gosec // fixed programs
	build.Dir = interopFolder
	build.Env = append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
}

// startInteropServer runs the server until the test ends. It takes a port only, so one is looked for.
func startInteropServer(t *testing.T, binary string, args []string) (address string) {
	t.Helper()
	address, err := realserver.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, append([]string{"--port=" + port}, args...)...) //nolint:noctx // ended below
	var out syncBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan int, 1)
	go func() {
		_ = cmd.Wait() // killed
		ended <- cmd.ProcessState.ExitCode()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended by itself, which the cases have shown by then
		<-ended
		if t.Failed() {
			t.Logf("the server wrote:\n%s", out.String())
		}
	})
	if err := awaitAddress(address, ended); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	return address
}
