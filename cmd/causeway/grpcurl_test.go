package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestGRPCurl lists, describes and calls what the gateway serves, by its reflection.
func TestGRPCurl(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds and runs another program: not with -short")
	}
	dir := t.TempDir()
	buildPinned(t, dir, "github.com/fullstorydev/grpcurl/cmd/grpcurl")
	grpcurl := func(t *testing.T, args ...string) (stdout, stderr string) {
		t.Helper()
		limited, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(limited, filepath.Join(dir, "grpcurl"), append([]string{"-plaintext", "-connect-timeout", "60", "-max-time", "90"}, args...)...)
		var out, err bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &err
		if e := cmd.Run(); e != nil && err.Len() == 0 {
			t.Fatal(e)
		}
		return out.String(), err.String()
	}
	address := func(g *clientsGateway) string { return strings.TrimPrefix(g.url, "http://") }
	g := startClientsGateway(t, "", "")
	for _, tc := range []struct {
		name string
		args []string // in front of ADDRESS is what begins with -, behind it the rest
		want []string // parts of the standard output
		fail []string // parts of the standard error
	}{
		{name: "list", args: []string{"list"}, want: []string{"demo.chat.v1.Chat\n", "demo.echo.v1.Echo\n", "grpc.health.v1.Health\n", "grpc.reflection.v1.ServerReflection\n", "grpc.reflection.v1alpha.ServerReflection\n"}},
		{name: "list methods", args: []string{"list", "demo.echo.v1.Echo"}, want: []string{"demo.echo.v1.Echo.Call\ndemo.echo.v1.Echo.Fail\ndemo.echo.v1.Echo.Wait\n"}},
		{name: "list what is not served", args: []string{"list", "demo.none.v1.None"}, fail: []string{"not found"}},
		{name: "describe a service", args: []string{"describe", "demo.chat.v1.Chat"}, want: []string{"rpc Talk ( stream .demo.chat.v1.Message ) returns ( stream .demo.chat.v1.Message )", `get: "/v1/rooms/{room}/messages"`}},
		{name: "describe a message", args: []string{"describe", "demo.echo.v1.CallReply"}, want: []string{"map<string, string> metadata = 5;", ".google.protobuf.Duration deadline = 6;"}},
		{name: "describe a method", args: []string{"describe", "demo.echo.v1.Echo.Wait"}, want: []string{"rpc Wait ( .demo.echo.v1.WaitRequest ) returns ( .demo.echo.v1.CallReply )"}},
		{name: "describe what no method has", args: []string{"describe", "google.rpc.ErrorInfo"}, want: []string{"string reason = 1;"}},
		{name: "describe what there is not", args: []string{"describe", "demo.none.v1.None"}, fail: []string{"not found"}},
		{name: "unary", args: []string{"-H=x-shop: 7", `-d={"text": "hällo", "number": "9007199254740993"}`, "-v", "demo.echo.v1.Echo/Call"}, want: []string{`"text": "hällo"`, `"number": "9007199254740993"`, `"x-shop": "7"`, "x-instance: a", "x-cost: 3"}},
		{name: "error", args: []string{`-d={"code": 9, "message": "sold out", "details": [{"@type": "type.googleapis.com/google.protobuf.Duration", "value": "3s"}]}`, "demo.echo.v1.Echo/Fail"}, fail: []string{"Code: FailedPrecondition", "Message: sold out", `"value": "3s"`}},
		{name: "server stream", args: []string{`-d={"room": "3"}`, "demo.chat.v1.Chat/Listen"}, want: []string{`"message 0"`, `"message 1"`, `"message 2"`}},
		{name: "client stream", args: []string{`-d={"room": "x", "text": "123"} {"room": "x", "text": "45"}`, "demo.chat.v1.Chat/Import"}, want: []string{`"messages": "2"`, `"bytes": "5"`}},
		{name: "both ways", args: []string{`-d={"room": "x", "text": "one"} {"room": "x", "text": "two"}`, "demo.chat.v1.Chat/Talk"}, want: []string{`"one"`, `"two"`}},
		{name: "a stream that fails", args: []string{`-d={"room": "1.fail7"}`, "demo.chat.v1.Chat/Listen"}, want: []string{`"message 0"`}, fail: []string{"Code: PermissionDenied", "Message: asked to"}},
		{name: "health", args: []string{"grpc.health.v1.Health/Check"}, want: []string{`"status": "SERVING"`}},
		{name: "health of a service", args: []string{`-d={"service": "demo.echo.v1.Echo"}`, "grpc.health.v1.Health/Check"}, want: []string{`"status": "SERVING"`}},
		{name: "health of none", args: []string{`-d={"service": "demo.none.v1.None"}`, "grpc.health.v1.Health/Check"}, fail: []string{"Code: NotFound"}},
		{name: "v1alpha", args: []string{`-d={"list_services": ""}`, "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"}, want: []string{`"name": "demo.echo.v1.Echo"`}},
		{name: "v1", args: []string{`-d={"file_containing_symbol": "demo.echo.v1.Echo.Call"}`, "grpc.reflection.v1.ServerReflection/ServerReflectionInfo"}, want: []string{`"fileDescriptorProto": [`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			at := 0
			for at < len(tc.args) && strings.HasPrefix(tc.args[at], "-") {
				at++
			}
			args := append(append(append([]string{}, tc.args[:at]...), address(g)), tc.args[at:]...)
			stdout, stderr := grpcurl(t, args...)
			for _, part := range tc.want {
				if !strings.Contains(stdout, part) {
					t.Errorf("want %q on the standard output", part)
				}
			}
			for _, part := range tc.fail {
				if !strings.Contains(stderr, part) {
					t.Errorf("want %q on the standard error", part)
				}
			}
			if len(tc.fail) == 0 && stderr != "" {
				t.Error("want nothing on the standard error")
			}
			if t.Failed() {
				t.Logf("grpcurl %s\n%s\n%s", strings.Join(args, " "), stdout, stderr)
			}
		})
	}
	t.Run("deadline", func(t *testing.T) {
		// The time is also that of reflection before the call, so a busy machine needs more of it.
		for _, most := range []string{"0.3", "3", "30"} {
			_, stderr := grpcurl(t, "-max-time="+most, `-d={"time": "100s"}`, address(g), "demo.echo.v1.Echo/Wait")
			if strings.Contains(stderr, "Code: DeadlineExceeded") {
				return
			}
			t.Logf("within %s s: %s", most, stderr)
		}
		t.Error("want a call that ends with DeadlineExceeded")
	})
	t.Run("what is described is what was loaded", func(t *testing.T) {
		// A call through descriptors that came from the gateway gives what one through the service's own does.
		through, _ := grpcurl(t, `-d={"text": "x"}`, address(g), "demo.echo.v1.Echo/Call")
		direct, _ := grpcurl(t, `-d={"text": "x"}`, g.echo.Address, "demo.echo.v1.Echo/Call")
		var a, b struct{ Text, Instance string }
		if err := json.Unmarshal([]byte(through), &a); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(direct), &b); err != nil {
			t.Fatal(err)
		}
		if a != b || a.Instance != "a" {
			t.Errorf("through the gateway %v, else %v", a, b)
		}
	})
	t.Run("reflection off", func(t *testing.T) {
		g := startClientsGateway(t, "", "reflection: false\n")
		if _, stderr := grpcurl(t, address(g), "list"); !strings.Contains(stderr, "server does not support the reflection API") {
			t.Errorf("want no reflection, found %s", stderr)
		}
		stdout, stderr := grpcurl(t, "-protoset="+g.set, `-d={"text": "x"}`, address(g), "demo.echo.v1.Echo/Call")
		if !strings.Contains(stdout, `"instance": "a"`) {
			t.Errorf("a call with descriptors at hand: %s %s", stdout, stderr)
		}
	})
}
