// Package realserver finds the real programs that some tests run against.
package realserver

import (
	"os"
	"os/exec"
	"testing"
)

// Need returns the path of binary, which Debian has in debianPackage. When it is not installed the test is skipped, or,
// with CAUSEWAY_REAL=1 (as in CI), fails. The text of the skip is fixed: `make test` counts it.
func Need(t testing.TB, binary string, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(binary)
	if err != nil {
		missing(t, binary, debianPackage, err)
	}
	return path
}

// needFile is Need for a file that is no program.
func needFile(t testing.TB, path, debianPackage string) {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		missing(t, path, debianPackage, err)
	}
}

// Missing skips or fails the test as Need does, for something that is neither a program nor a file.
func Missing(t testing.TB, what, debianPackage string, why error) {
	t.Helper()
	missing(t, what, debianPackage, why)
}

func missing(t testing.TB, what, debianPackage string, err error) {
	t.Helper()
	if os.Getenv("CAUSEWAY_REAL") == "1" {
		t.Fatalf("needs %s (%s), which is not installed: %v", what, debianPackage, err)
	}
	t.Skipf("skipped: needs %s (%s), which is not installed", what, debianPackage)
}
