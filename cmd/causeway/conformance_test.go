//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/causeway-gateway/causeway/testdata/realserver"
)

// The conformance suite of Connect (connectrpc.com/conformance) calls the gateway with its reference client, in gRPC,
// gRPC-Web and Connect; behind it stands the suite's own gRPC server. The runner starts conformanceServer, which is this
// test binary under another name, once for each way of serving.

const (
	conformanceFolder  = "../../testdata/connectconformance"
	conformanceCommand = "causeway-conformance-server"
	conformanceModule  = "connectrpc.com/conformance"
)

// Where conformanceServer finds what the test has built.
const (
	conformanceBackend = "CAUSEWAY_CONFORMANCE_BACKEND"
	conformanceProtos  = "CAUSEWAY_CONFORMANCE_PROTOS"
)

// compatRequest is connectrpc.conformance.v1.ServerCompatRequest: how the runner wants to be served.
type compatRequest struct {
	tls                   bool
	cert, key, clientCert []byte
	messageLimit          uint64
}

// conformanceServer answers the runner: it starts the backend and a gateway in front of it, says where, and serves until it
// is told to end.
func conformanceServer() {
	if err := serveConformance(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serveConformance(in io.Reader, out io.Writer) error {
	raw, err := readSized(in)
	if err != nil {
		return err
	}
	req, err := parseCompat(raw)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "conformance")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	backend, end, err := startConformanceBackend(req)
	if err != nil {
		return err
	}
	defer end()
	address, err := realserver.FreeAddress()
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "causeway.yaml")
	text, err := conformanceConfig(req, dir, address, backend)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM, syscall.SIGINT)
	gateway := make(chan int, 1)
	go func() { gateway <- run([]string{"run", "-c", file, "--drain-delay", "0s"}) }()
	if err := awaitAddress(address, gateway); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return err
	}
	answer := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), host)
	answer = protowire.AppendVarint(protowire.AppendTag(answer, 2, protowire.VarintType), n)
	if req.tls {
		answer = protowire.AppendBytes(protowire.AppendTag(answer, 3, protowire.BytesType), req.cert)
	}
	if _, err := out.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(answer))), answer...)); err != nil { //nolint:gosec // a few bytes
		return err
	}
	<-told
	return nil
}

func readSized(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	raw := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err := io.ReadFull(r, raw)
	return raw, err
}

func parseCompat(raw []byte) (*compatRequest, error) {
	req := &compatRequest{}
	err := eachField(raw, func(num protowire.Number, n uint64, b []byte) error {
		switch num {
		case 4:
			req.tls = n != 0
		case 5:
			req.clientCert = b
		case 6:
			req.messageLimit = n
		case 7:
			return eachField(b, func(num protowire.Number, _ uint64, b []byte) error {
				switch num {
				case 1:
					req.cert = b
				case 2:
					req.key = b
				}
				return nil
			})
		}
		return nil
	})
	return req, err
}

// eachField calls f with every field of a message: n of a varint, b of a length-delimited one.
func eachField(raw []byte, f func(num protowire.Number, n uint64, b []byte) error) error {
	for len(raw) > 0 {
		num, typ, size := protowire.ConsumeTag(raw)
		if size < 0 {
			return protowire.ParseError(size)
		}
		raw = raw[size:]
		var n uint64
		var b []byte
		switch typ {
		case protowire.VarintType:
			n, size = protowire.ConsumeVarint(raw)
		case protowire.BytesType:
			b, size = protowire.ConsumeBytes(raw)
		default:
			size = protowire.ConsumeFieldValue(num, typ, raw)
		}
		if size < 0 {
			return protowire.ParseError(size)
		}
		if err := f(num, n, b); err != nil {
			return err
		}
		raw = raw[size:]
	}
	return nil
}

// startConformanceBackend runs the suite's gRPC server, whose address is on its standard output.
func startConformanceBackend(req *compatRequest) (address string, end func(), err error) {
	const grpc, http2 = 2, 2
	ask := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), grpc)
	ask = protowire.AppendVarint(protowire.AppendTag(ask, 2, protowire.VarintType), http2)
	ask = protowire.AppendVarint(protowire.AppendTag(ask, 6, protowire.VarintType), req.messageLimit)
	cmd := exec.Command(os.Getenv(conformanceBackend)) //nolint:gosec,noctx // what the test has built; ended below
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // the runner may kill this process
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	end = func() {
		_ = cmd.Process.Kill() // it may have ended by itself
		_ = cmd.Wait()         // killed
	}
	if _, err := stdin.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(ask))), ask...)); err != nil { //nolint:gosec // a few bytes
		end()
		return "", nil, err
	}
	raw, err := readSized(bufio.NewReader(stdout))
	if err != nil {
		end()
		return "", nil, err
	}
	host, port := "", uint64(0)
	err = eachField(raw, func(num protowire.Number, n uint64, b []byte) error {
		switch num {
		case 1:
			host = string(b)
		case 2:
			port = n
		}
		return nil
	})
	return net.JoinHostPort(host, strconv.FormatUint(port, 10)), end, err
}

func conformanceConfig(req *compatRequest, dir, address, backend string) (string, error) {
	tls := ""
	if req.tls {
		files := map[string][]byte{"cert.pem": req.cert, "key.pem": req.key}
		tls = ", tls: {cert_file: cert.pem, key_file: key.pem}"
		if len(req.clientCert) > 0 {
			files["clients.pem"] = req.clientCert
			tls = ", tls: {cert_file: cert.pem, key_file: key.pem, client_ca_file: clients.pem}"
		}
		for name, raw := range files {
			if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
				return "", err
			}
		}
	}
	// The suite holds it against a server when it is told of a deadline that the client did not set.
	limit := "defaults: {timeout: 0s}\n"
	if req.messageLimit > 0 {
		limit = fmt.Sprintf("defaults: {timeout: 0s, max_body: %d}\n", req.messageLimit)
	}
	return fmt.Sprintf(`listen: [{address: "%s"%s}]
schemas: [{name: conformance, proto: {paths: ["%s"]}}]
services: [{name: conformance, schema: conformance, endpoints: [{address: "%s"}]}]
%s`, address, tls, os.Getenv(conformanceProtos), backend, limit), nil
}

// awaitAddress waits until the gateway accepts connections, or has ended.
func awaitAddress(address string, ended <-chan int) error {
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for range 600 {
		c, err := net.DialTimeout("tcp", address, time.Second) //nolint:noctx // on loopback
		if err == nil {
			return c.Close()
		}
		select {
		case code := <-ended:
			return fmt.Errorf("the gateway ended with code %d", code)
		case <-again.C:
		}
	}
	return errors.New("the gateway does not listen")
}

// conformanceMisses are the cases that are known to fail, each with its reason. flaky: some of them pass at times.
var conformanceMisses = []struct {
	pattern, why string
	flaky        bool
}{
	{"Connect with GET/**", "the suite's gRPC server does not implement IdempotentUnary, the one method that a GET may call", false},
	{"**/unexpected-content-type", "a content type of none of the protocols is a REST call: refused with 415 in REST's form, which the client may not wait for", true},
}

// TestConnectConformance runs the suite over HTTP/1.1 and HTTP/2, with proto and JSON, plain and in gzip.
func TestConnectConformance(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds and runs another project's suite: not with -short")
	}
	programs, module := buildConformance(t)
	for _, c := range []struct {
		name, features string
		cases          int
	}{
		{"as it is", "supportsTls: false", 1900},
		{"half duplex over HTTP/1.1", "supportsTls: false\n  supportsHalfDuplexBidiOverHttp1: true", 1990},
		{"TLS", "supportsTls: true\n  supportsTlsClientCerts: true", 3640},
	} {
		t.Run(c.name, func(t *testing.T) { conformance(t, programs, module, c.features, c.cases) })
	}
}

// buildConformance builds the suite's runner and its gRPC server and returns where they are, and the suite's own files.
func buildConformance(t *testing.T) (programs, module string) {
	t.Helper()
	programs = t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", programs+string(filepath.Separator), conformanceModule+"/cmd/connectconformance", conformanceModule+"/cmd/grpcserver") //nolint:gosec // fixed programs
	build.Dir = conformanceFolder
	build.Env = append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	list := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", conformanceModule)
	list.Dir, list.Env = conformanceFolder, build.Env
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	return programs, strings.TrimSpace(string(out))
}

// conformance runs the suite with a feature of its configuration, and checks that so many cases were run, none of which
// failed but those in conformanceMisses.
func conformance(t *testing.T, programs, module, feature string, cases int) {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yaml")
	misses, flakes := filepath.Join(dir, "misses.txt"), filepath.Join(dir, "flakes.txt")
	var lists [2]strings.Builder // those that fail, and those that may
	for _, m := range conformanceMisses {
		list := &lists[0]
		if m.flaky {
			list = &lists[1]
		}
		list.WriteString(m.pattern + "\n")
	}
	text := `features:
  versions: [HTTP_VERSION_1, HTTP_VERSION_2]
  protocols: [PROTOCOL_CONNECT, PROTOCOL_GRPC, PROTOCOL_GRPC_WEB]
  codecs: [CODEC_PROTO, CODEC_JSON]
  compressions: [COMPRESSION_IDENTITY, COMPRESSION_GZIP]
  ` + feature + "\n"
	for file, text := range map[string]string{config: text, misses: lists[0].String(), flakes: lists[1].String()} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"--mode", "server", "--conf", config, "--known-failing", "@" + misses, "--known-flaky", "@" + flakes, "-v", "--", conformanceCommand}
	limited, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	suite := exec.CommandContext(limited, filepath.Join(programs, "connectconformance"), args...)
	suite.Env = append(os.Environ(),
		conformanceBackend+"="+filepath.Join(programs, "grpcserver"),
		conformanceProtos+"="+filepath.Join(module, "proto"))
	suite.WaitDelay = 5 * time.Second // servers of the runner may hold its output open
	out, err := suite.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, tail(string(out), 5000))
	}
	if want := fmt.Sprintf("Total cases: %d\n", cases); !strings.Contains(string(out), want) {
		t.Errorf("want %q in what the suite says at its end:\n%s", want, tail(string(out), 10))
	}
	t.Log(tail(string(out), 6))
}

// tail are the last lines of a text.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
