package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	chatv1 "github.com/causeway-gateway/causeway/protos/demo/chat/v1"
	echov1 "github.com/causeway-gateway/causeway/protos/demo/echo/v1"
	"github.com/causeway-gateway/causeway/testdata/descriptors"
	"github.com/causeway-gateway/causeway/testdata/echo"
	"github.com/causeway-gateway/causeway/testdata/realserver"
)

// clientsFolder has the stock clients of JavaScript, which are installed and run in clientsInstalled.
const (
	clientsFolder    = "../../testdata/jsclients"
	clientsInstalled = "../../bin/jsclients"
)

// clientsGateway is a gateway before the echo and the chat, with what stock clients call it with.
type clientsGateway struct {
	*gatewayTest
	echo *echo.Server
	chat *chatBackend
	set  string // a file with the descriptors of both, and those of error details
}

// startClientsGateway has tls beside the listener's address and more at the end of its configuration.
func startClientsGateway(t *testing.T, tls, more string) *clientsGateway {
	t.Helper()
	if tls != "" {
		tls = ", tls: " + tls
	}
	g := &clientsGateway{echo: echo.Start(t, "127.0.0.1:0", "a"), chat: startChat(t)}
	g.set = filepath.Join(t.TempDir(), "all.binpb")
	set := union(echov1.File_demo_echo_v1_echo_proto, chatv1.File_demo_chat_v1_chat_proto, errdetails.File_google_rpc_error_details_proto, status.File_google_rpc_status_proto)
	raw, err := proto.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(g.set, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	g.gatewayTest = startGateway(t, `listen: [{address: "127.0.0.1:0"`+tls+`}]
schemas: [{name: all, descriptor_set: `+g.set+`}]
services:
  - {name: echo, schema: all, serves: [demo.echo.v1.Echo], endpoints: [{address: "`+g.echo.Address+`"}]}
  - {name: chat, schema: all, serves: [demo.chat.v1.Chat], endpoints: [{address: "`+g.chat.address+`"}]}
`+more)
	return g
}

// union is several files and what they import.
func union(files ...protoreflect.FileDescriptor) *descriptorpb.FileDescriptorSet {
	set := &descriptorpb.FileDescriptorSet{}
	for _, f := range files {
		for _, d := range descriptors.Set(f).GetFile() {
			if !slices.ContainsFunc(set.GetFile(), func(have *descriptorpb.FileDescriptorProto) bool { return have.GetName() == d.GetName() }) {
				set.File = append(set.File, d)
			}
		}
	}
	return set
}

// clientsInstalling is held while clientsInstalled is written to: the tests that use it run beside each other.
var clientsInstalling sync.Mutex

// installClients installs the packages of clientsFolder, once for each package-lock.json, and returns the folder with
// them and the programs, which nobody changes then. Without Node.js or the packages the test is skipped, or fails, as
// realserver.Need says.
func installClients(t *testing.T) (dir string) {
	t.Helper()
	realserver.Need(t, "node", "nodejs")
	npm := realserver.Need(t, "npm", "npm")
	clientsInstalling.Lock()
	defer clientsInstalling.Unlock()
	dir, err := filepath.Abs(clientsInstalled)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // as the rest of bin
		t.Fatal(err)
	}
	done := filepath.Join(dir, "installed.json")
	lock, err := os.ReadFile(filepath.Join(clientsFolder, "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(clientsFolder)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(filepath.Join(clientsFolder, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		placeFile(t, filepath.Join(dir, f.Name()), raw)
	}
	if before, err := os.ReadFile(done); err == nil && bytes.Equal(before, lock) {
		return dir
	}
	ci := exec.CommandContext(t.Context(), npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	ci.Dir = dir
	if out, err := ci.CombinedOutput(); err != nil {
		if os.Getenv("CAUSEWAY_REAL") == "1" {
			t.Fatalf("needs the packages of testdata/jsclients: %v\n%s", err, out)
		}
		t.Skipf("skipped: needs the packages of testdata/jsclients (npm ci), which are not installed")
	}
	if err := os.WriteFile(done, lock, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// placeFile has a file say raw. One that does so already is left alone: somebody may be reading it.
func placeFile(t *testing.T, file string, raw []byte) {
	t.Helper()
	if before, err := os.ReadFile(file); err == nil && bytes.Equal(before, raw) {
		return
	}
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestJavaScriptClients runs programs that make calls by the clients of npm and print a line for each check.
func TestJavaScriptClients(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("runs other programs: not with -short")
	}
	dir := installClients(t)
	g := startClientsGateway(t, "", "")
	for _, c := range []struct {
		program string
		checks  int
	}{
		{"connect-node.js", 68},
		{"connect-web.js", 24},
		{"grpc-web.js", 12},
		{"grpc-js.js", 10},
	} {
		t.Run(c.program, func(t *testing.T) {
			limited, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(limited, "node", c.program) //nolint:gosec // one of the above
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "GATEWAY="+g.url, "DESCRIPTORS="+g.set)
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			var stderr strings.Builder
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if n := checksOf(t, string(out)); n != c.checks {
				t.Errorf("want %d checks, found %d", c.checks, n)
			}
			if err != nil {
				t.Errorf("%v\n%s", err, stderr.String())
			}
		})
	}
}

// checksOf makes subtests of the lines of a program, and returns how many there are.
func checksOf(t *testing.T, out string) (n int) {
	t.Helper()
	for line := range strings.Lines(out) {
		name, ok := strings.CutPrefix(strings.TrimSpace(line), "ok ")
		rest, bad := strings.CutPrefix(strings.TrimSpace(line), "not ok ")
		if bad {
			name, _, _ = strings.Cut(rest, ": ")
		}
		if !ok && !bad {
			if line != "exit 0\n" {
				t.Log(line)
			}
			continue
		}
		n++
		t.Run(name, func(t *testing.T) {
			if bad {
				t.Error(strings.ReplaceAll(rest, " | ", "\n"))
			}
		})
	}
	return n
}
