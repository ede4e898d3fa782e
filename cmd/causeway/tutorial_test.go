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
	t.Run("the text is that of the files", func(t *testing.T) { tutorialText(t, string(readme)) })
	run := func(dir, name string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
	}
	run(tutorialModule, "go", "test", "./...")

	// The steps change go.mod and standard.go; here they change copies.
	dir := t.TempDir()
	module, err := filepath.Abs(tutorialModule)
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
	steps := strings.Split(fences(string(readme), "sh")[0], "\n")
	binary := filepath.Join(dir, "causeway")
	overlay := filepath.Join(dir, "overlay.json")
	standard := filepath.Join("cmd", "causeway", "standard.go")
	if err := os.WriteFile(overlay, fmt.Appendf(nil, `{"Replace": {%q: %q}}`, filepath.Join(repository, standard), filepath.Join(dir, standard)), 0o600); err != nil {
		t.Fatal(err)
	}
	run(dir, "bash", "-c", strings.ReplaceAll(steps[0], "../openinghours", module))
	run(dir, "bash", "-c", steps[1])
	build := strings.ReplaceAll(steps[2], "bin/causeway", binary)
	build = strings.Replace(build, "go build", "go build -modfile="+filepath.Join(dir, "go.mod")+" -overlay="+overlay, 1)
	run(repository, "bash", "-c", build)

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

// fences are the contents of a README's code blocks of one language.
func fences(text, language string) []string {
	var out []string
	for _, part := range strings.Split(text, "```"+language+"\n")[1:] {
		code, _, _ := strings.Cut(part, "```")
		out = append(out, strings.TrimRight(code, "\n"))
	}
	return out
}

// tutorialText looks for every piece of code of the tutorial in the files.
func tutorialText(t *testing.T, readme string) {
	var all bytes.Buffer
	for _, f := range []string{"openinghours.go", "openinghours_test.go", "openinghours.proto"} {
		raw, err := os.ReadFile(filepath.Join(tutorialModule, f))
		if err != nil {
			t.Fatal(err)
		}
		all.Write(raw)
	}
	pieces := append(fences(readme, "go"), fences(readme, "proto")...)
	if len(pieces) < 6 {
		t.Fatalf("found %d pieces of code", len(pieces))
	}
	for _, piece := range pieces {
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
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "run", "-c", file)
	log := &syncBuffer{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); _ = cmd.Wait() }() // it was killed
	var address string
	defer func() {
		if t.Failed() {
			t.Log(log.String())
		}
	}()
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
