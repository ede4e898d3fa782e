package main

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection"

	"github.com/causeway-gateway/causeway/cmd/causeway/orders"
	"github.com/causeway-gateway/causeway/testdata/realserver"
)

// block is one fenced part of a Markdown file.
type block struct {
	kind, text string
	before     string // the line above it
}

func blocks(t *testing.T, file string) []block {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []block
	var cur *block
	last := ""
	for s := bufio.NewScanner(bytes.NewReader(raw)); s.Scan(); {
		line := s.Text()
		switch {
		case cur == nil && strings.HasPrefix(line, "```"):
			cur = &block{kind: line[3:], before: last}
		case cur != nil && line == "```":
			out = append(out, *cur)
			cur, last = nil, ""
		case cur != nil:
			cur.text += line + "\n"
		case line != "":
			last = line
		}
	}
	return out
}

// The README is run as it stands, against the demo's order service: yaml becomes the file named above it, sh is run by a
// shell (a `causeway run` in the background, until the next one), and every line of output must be in what was printed.
func TestReadme(t *testing.T) {
	t.Parallel()
	realserver.Need(t, "bash", "bash")
	realserver.Need(t, "curl", "curl")
	r := &readmeRun{t: t, dir: t.TempDir(), binary: buildBinary(t)}
	t.Cleanup(r.endGateway)
	g := grpc.NewServer()
	service := orders.New()
	service.Register(g)
	reflection.Register(g)
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = g.Serve(ln) }() // ends with Stop
	t.Cleanup(func() { service.Close(); g.Stop() })
	r.public, r.admin = reserve(t), reserve(t)
	r.replace = strings.NewReplacer("127.0.0.1:50051", ln.Addr().String(), "127.0.0.1:8080", r.public, "127.0.0.1:8081", r.admin, "127.0.0.1:2181", reserve(t), "bin/causeway", r.binary)
	ran := 0
	for _, b := range blocks(t, "../../README.md") {
		switch b.kind {
		case "console":
			r.targets(b.text)
		case "yaml":
			name := regexp.MustCompile("`([^`]+)`:$").FindStringSubmatch(b.before)
			if name == nil {
				t.Fatalf("want the file's name above the yaml, found %q", b.before)
			}
			if err := os.WriteFile(filepath.Join(r.dir, name[1]), []byte(r.replace.Replace(b.text)), 0o600); err != nil {
				t.Fatal(err)
			}
		case "sh":
			r.sh(b.text)
			ran++
		case "output":
			for want := range strings.Lines(b.text) {
				if want = strings.TrimSpace(want); !strings.Contains(r.printed, want) {
					t.Errorf("want %q in what the commands above print, found %s", want, r.printed)
				}
			}
		case "text":
			r.fault(b.text)
		default:
			t.Errorf("a block of kind %q is not run by anything", b.kind)
		}
	}
	if ran < 4 {
		t.Errorf("want the README's snippets found, ran %d", ran)
	}
}

type readmeRun struct {
	t             *testing.T
	dir, binary   string
	public, admin string
	replace       *strings.Replacer
	printed       string
	gateway       *exec.Cmd
	out           *syncBuffer
}

// targets checks that the make targets named are there.
func (r *readmeRun) targets(text string) {
	raw, err := os.ReadFile("../../Makefile")
	if err != nil {
		r.t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^make ([a-z]+)`).FindAllStringSubmatch(text, -1) {
		if !strings.Contains(string(raw), "\n"+m[1]+":") {
			r.t.Errorf("the Makefile has no target %q", m[1])
		}
	}
}

// fault checks the fault that the README shows: it is what a slip in its own configuration gives.
func (r *readmeRun) fault(text string) {
	r.t.Helper()
	slip := regexp.MustCompile(`unknown key "(\w+)".*did you mean "(\w+)"`).FindStringSubmatch(text)
	if slip == nil {
		r.t.Fatalf("want a fault of an unknown key, found %q", text)
	}
	raw, err := os.ReadFile(filepath.Join(r.dir, "causeway.yaml"))
	if err != nil {
		r.t.Fatal(err)
	}
	faulty := filepath.Join(r.t.TempDir(), "causeway.yaml")
	if err := os.WriteFile(faulty, []byte(strings.Replace(string(raw), slip[2]+":", slip[1]+":", 1)), 0o600); err != nil {
		r.t.Fatal(err)
	}
	out, err := exec.CommandContext(r.t.Context(), r.binary, "validate", "-c", faulty).CombinedOutput() //nolint:gosec // the program under test
	if err == nil || !strings.Contains(string(out), strings.TrimSpace(text)) {
		r.t.Errorf("want %q refused so, found %v: %s", text, err, out)
	}
}

func (r *readmeRun) sh(text string) {
	r.t.Helper()
	r.printed = ""
	for line := range strings.Lines(text) {
		line = r.replace.Replace(strings.TrimSpace(line))
		if strings.HasPrefix(line, r.binary+" run ") {
			r.startGateway(line)
			continue
		}
		if background, ok := strings.CutSuffix(line, " &"); ok {
			r.startBeside(background)
			continue
		}
		ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
		cmd := exec.CommandContext(ctx, "bash", "-e", "-o", "pipefail", "-c", line) //nolint:gosec // the README
		cmd.Dir = r.dir
		cmd.Env = append(os.Environ(), "CAUSEWAY_ADMIN="+r.admin)
		out, err := cmd.CombinedOutput()
		cancel()
		r.printed += string(out)
		if err != nil {
			r.t.Fatalf("%s: %v: %s", line, err, out)
		}
	}
}

// startBeside starts a program that runs until the test ends, and waits for its first line.
func (r *readmeRun) startBeside(line string) {
	r.t.Helper()
	args := strings.Fields(line)
	out := &syncBuffer{}
	cmd := exec.CommandContext(context.Background(), args[0], args[1:]...) //nolint:gosec // the README
	cmd.Dir, cmd.Stdout, cmd.Stderr = r.dir, out, out
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // killed
	})
	waitFor(r.t, line+" to say something", func() bool { return strings.Count(out.String(), "\n") > 0 })
}

func (r *readmeRun) startGateway(line string) {
	r.t.Helper()
	r.endGateway()
	args := strings.Fields(line)
	if strings.Contains(line, "--upstream") {
		args = append(args, "--listen", r.public, "--admin", r.admin)
	}
	r.out = &syncBuffer{}
	r.gateway = exec.CommandContext(context.Background(), args[0], args[1:]...) //nolint:gosec // the README
	r.gateway.Dir, r.gateway.Stdout, r.gateway.Stderr = r.dir, r.out, r.out
	if err := r.gateway.Start(); err != nil {
		r.t.Fatal(err)
	}
	waitFor(r.t, "the gateway of the README to serve", func() bool { return strings.Contains(r.out.String(), "listening") })
}

func (r *readmeRun) endGateway() {
	if r.gateway == nil {
		return
	}
	_ = r.gateway.Process.Signal(syscall.SIGINT) // it may have ended
	if err := r.gateway.Wait(); err != nil {
		r.t.Errorf("want the gateway to stop cleanly, found %v: %s", err, r.out)
	}
	r.gateway = nil
}
