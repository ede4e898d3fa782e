// Package pygrpc starts a gRPC server that is not written in Go: server.py beside this file, on the gRPC of Python.
package pygrpc

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	ordersv1 "github.com/causeway-gateway/causeway/protos/demo/orders/v1"
	"github.com/causeway-gateway/causeway/testdata/descriptors"
	"github.com/causeway-gateway/causeway/testdata/realserver"

	_ "embed"
)

//go:embed server.py
var script []byte

// python is Debian's own: another one first in the PATH would not find Debian's modules.
const (
	python   = "/usr/bin/python3"
	packages = "python3-grpcio and python3-protobuf"
)

// Start runs the server until the test ends and returns its address, HOST:PORT, and the descriptor set it was given.
// Without Python's gRPC the test is skipped, or fails, as realserver.Need says.
func Start(t testing.TB) (address string, set []byte) {
	t.Helper()
	realserver.Need(t, python, packages)
	if out, err := exec.CommandContext(t.Context(), python, "-c", "import grpc, google.protobuf").CombinedOutput(); err != nil {
		if os.Getenv("CAUSEWAY_REAL") == "1" {
			t.Fatalf("needs the modules of %s: %v\n%s", packages, err, out)
		}
		t.Skipf("skipped: needs the modules of %s, which are not installed", packages)
	}
	set, err := proto.Marshal(descriptors.Set(ordersv1.File_demo_orders_v1_orders_proto))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, data := range map[string][]byte{"server.py": script, "orders.binpb": set} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(python, filepath.Join(dir, "server.py"), filepath.Join(dir, "orders.binpb")) //nolint:gosec,noctx // our own script; ended by closing its input, below
	var stderr strings.Builder
	cmd.Stderr = &stderr
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
	line, readErr := bufio.NewReader(out).ReadString('\n')
	t.Cleanup(func() {
		_ = in.Close()
		_, _ = io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			t.Errorf("server.py: %v\n%s", err, stderr.String())
		}
	})
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if !ok {
		t.Fatalf("server.py said %q (%v) instead of its address", line, readErr)
	}
	return address, set
}
