package jsonwire_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var failedTest = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)|^panic: (test timed out)`)

// TestProofFaults builds the tests with each fault in turn and demands that one of them fails. Without CAUSEWAY_PROOF=1 it
// does so for the first fault, and holds the table to the source.
func TestProofFaults(t *testing.T) {
	self, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	full := os.Getenv("CAUSEWAY_PROOF") == "1"
	seen, run := 0, 0
	for i, f := range faults {
		source, err := os.ReadFile(f.file)
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(source, []byte(f.old)); n != 1 {
			t.Errorf("%s: %q is %d times in %s, want once", f.promise, f.old, n, f.file)
			continue
		}
		if i > 0 && !full || os.Getenv("CAUSEWAY_FAULT") != "" && !strings.Contains(f.promise, os.Getenv("CAUSEWAY_FAULT")) {
			continue
		}
		run++
		dir := t.TempDir()
		broken, overlay := filepath.Join(dir, f.file), filepath.Join(dir, "overlay.json")
		if err := os.WriteFile(broken, bytes.Replace(source, []byte(f.old), []byte(f.with), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(self, f.file): broken}})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(overlay, text, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "go", "test", "-overlay", overlay, "-vet=off", "-count=1", "-failfast", "-timeout=120s", "-skip=^TestProof", ".")
		cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "CAUSEWAY_") })
		out, err := cmd.CombinedOutput()
		by := failedTest.FindSubmatch(out)
		if err == nil || by == nil {
			t.Errorf("%s: no test sees %q for %q in %s: %v\n%s", f.promise, f.with, f.old, f.file, err, out[:min(len(out), 1000)])
			continue
		}
		seen++
		t.Logf("%s: red in %s%s", f.promise, by[1], by[2])
	}
	t.Logf("PROOF faults of the codec: %d of %d are seen by the tests", seen, run)
}
