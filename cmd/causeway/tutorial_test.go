package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/causeway-gateway/causeway/testdata/echo"
)

const tutorialModule = "../../testdata/tutorial"

// A stranger's plugin, in a module of its own, passes its tests, is built into a gateway by the steps of the tutorial, and
// works there.
func TestTutorialPlugin(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../proxy/plugin/README.md")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("the text is that of the files", func(t *testing.T) { tutorialText(t, string(readme), tutorialModule, 6) })
	binary := tutorialBinary(t, string(readme), tutorialModule, "../openinghours")
	backend := echo.Start(t, "127.0.0.1:0", "a")
	now := time.Now().UTC()
	open, closed := `from: "00:00", until: "23:59"`, `from: "01:00", until: "02:00"`
	if now.Hour() < 12 {
		closed = `from: "22:00", until: "23:00"`
	}
	if tomorrow := now.Truncate(24 * time.Hour).Add(24 * time.Hour); tomorrow.Sub(now) < 2*time.Minute {
		time.Sleep(time.Until(tomorrow)) // the hours that are open end in the day's last minute
	}
	for hours, status := range map[string]int{open: http.StatusOK, closed: http.StatusServiceUnavailable} {
		if got := tutorialGateway(t, binary, hours, backend.Address); got != status {
			t.Errorf("{%s}: want %d, found %d", hours, status, got)
		}
	}
}

// tutorialBinary runs the tests of a tutorial's module and builds a gateway with it by the steps of the readme, where the module stands at
// place; it returns the gateway's file.
func tutorialBinary(t *testing.T, readme, modulePath, place string) string {
	t.Helper()
	run := func(dir, name string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
	}
	run(modulePath, "go", "test", "./...")

	// The steps change go.mod and standard.go; here they change copies.
	dir := t.TempDir()
	module, err := filepath.Abs(modulePath)
	if err != nil {
		t.Fatal(err)
	}
	repository := filepath.Dir(filepath.Dir(module))
	for _, f := range []string{"go.mod", "go.sum", "cmd/causeway/standard.go"} {
		raw, err := os.ReadFile(filepath.Join(repository, f))
		if err == nil {
			if err = os.MkdirAll(filepath.Dir(filepath.Join(dir, f)), 0o700); err == nil {
				err = os.WriteFile(filepath.Join(dir, f), raw, 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	steps := strings.Split(fences(readme, "sh")[0], "\n")
	binary := filepath.Join(dir, "causeway")
	overlay := filepath.Join(dir, "overlay.json")
	standard := filepath.Join("cmd", "causeway", "standard.go")
	if err := os.WriteFile(overlay, fmt.Appendf(nil, `{"Replace": {%q: %q}}`, filepath.Join(repository, standard), filepath.Join(dir, standard)), 0o600); err != nil {
		t.Fatal(err)
	}
	run(dir, "bash", "-c", strings.ReplaceAll(steps[0], place, module))
	run(dir, "bash", "-c", steps[1])
	build := strings.ReplaceAll(steps[2], "bin/causeway", binary)
	build = strings.Replace(build, "go build", "go build -modfile="+filepath.Join(dir, "go.mod")+" -overlay="+overlay, 1)
	run(repository, "bash", "-c", build)
	return binary
}

// fences are the contents of a README's code blocks of one language.
func fences(text, language string) []string {
	var out []string
	for _, part := range strings.Split(text, "```"+language+"\n")[1:] {
		code, _, _ := strings.Cut(part, "```")
		out = append(out, strings.TrimRight(code, "\n"))
	}
	return out
}

// tutorialText looks for every piece of code of a tutorial in the files of its module; there are pieces of them.
func tutorialText(t *testing.T, readme, modulePath string, pieces int) {
	t.Helper()
	var all bytes.Buffer
	files, err := filepath.Glob(filepath.Join(modulePath, "*.[gp][or]*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(raw)
	}
	found := append(fences(readme, "go"), fences(readme, "proto")...)
	if len(found) < pieces {
		t.Fatalf("found %d pieces of code, want %d", len(found), pieces)
	}
	for _, piece := range found {
		if !strings.Contains(all.String(), piece) {
			t.Errorf("in no file:\n%s", piece)
		}
	}
}

var listening = regexp.MustCompile(`"msg":"listening","address":"([^"]+)"`)

// tutorialGateway runs the binary, asks it once and returns the status.
func tutorialGateway(t *testing.T, binary, hours, backend string) int {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "causeway.yaml")
	conf := strings.ReplaceAll(echoConfig(t, dir, backend), "DIR", dir) + "  - {name: opening_hours, config: {" + hours + "}}\n"
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	log := runTutorial(t, binary, file)
	var address string
	waitFor(t, "the gateway listens", func() bool {
		if m := listening.FindStringSubmatch(log.String()); m != nil {
			address = m[1]
		}
		return address != ""
	})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := client.Get("http://" + address + "/v1/echo/x")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // nothing of it is read
	return resp.StatusCode
}

// runTutorial runs a gateway until the test ends and returns what it says.
func runTutorial(t *testing.T, binary, file string) *syncBuffer {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, binary, "run", "-c", file)
	log := &syncBuffer{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Log(log.String())
		}
	})
	return log
}
