package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// run sends the tests in files, a module called m, through the go command and returns what testsum makes of them.
func run(t *testing.T, files map[string]string) (string, bool) {
	t.Helper()
	dir := t.TempDir()
	files["go.mod"] = "module m\n\ngo 1.26\n"
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), testsum(t), "-count=1", "-vet=off", "-p=1", "--", "./...")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-buildvcs=false")
	out, err := cmd.Output() // fails as the tests in it do
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return regexp.MustCompile(`\d+\.\d+s`).ReplaceAllString(string(out), "0s"), err == nil
}

// testsum builds the program once.
func testsum(t *testing.T) string {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "testsum")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "testsum")
	out, err := exec.CommandContext(context.Background(), "go", "build", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := built(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// read summarizes a stream without a second run.
func read(t *testing.T, in io.Reader) (string, bool) {
	t.Helper()
	var out bytes.Buffer
	s := newSummary(&out)
	if err := s.read(in); err != nil {
		t.Fatal(err)
	}
	ok, err := s.end()
	if err != nil {
		t.Fatal(err)
	}
	return out.String(), ok
}

const header = "package a\n\nimport \"testing\"\n\n"

func TestRealRuns(t *testing.T) {
	for _, tc := range []struct {
		name  string
		files map[string]string
		want  string // whole output, or with "..." at its ends a part of it
		ok    bool
	}{
		{
			name: "good",
			files: map[string]string{
				"a/a_test.go": header + `
func TestPlain(t *testing.T) {}
func TestParent(t *testing.T) { t.Run("one", func(t *testing.T) {}); t.Run("two/with slash", func(t *testing.T) {}) }
func TestNeeds(t *testing.T) { t.Skipf("skipped: needs %s (%s), which is not installed", "zkServer.sh", "zookeeper") }
func TestShort(t *testing.T) { t.Skip("left out with -short") }
func TestAlloc(t *testing.T) { t.Skip("the race detector allocates") }
`,
				"b/b.go": "package b\n",
			},
			want: `ok    m/a  3 passed, 0s
not in this run: m/a TestShort: left out with -short
not in this run: m/a TestAlloc: the race detector allocates
skipped: m/a TestNeeds: needs zkServer.sh (zookeeper), which is not installed
3 passed, 0 failed, 1 skipped
`,
			ok: true,
		},
		{
			name: "failure in a subtest is counted once, with its output",
			files: map[string]string{"a/a_test.go": header + `
func TestParent(t *testing.T) { t.Run("good", func(t *testing.T) {}); t.Run("bad", func(t *testing.T) { t.Log("first"); t.Error("second") }) }
`},
			want: "...a_test.go:6: first\n    a_test.go:6: second\n...FAIL  m/a  1 failed of 2, 0s\n1 passed, 1 failed, 0 skipped\n",
		},
		{
			name: "failure of the parent itself",
			files: map[string]string{"a/a_test.go": header + `
func TestParent(t *testing.T) { t.Run("good", func(t *testing.T) {}); t.Error("after it") }
`},
			want: "...a_test.go:6: after it\n...1 passed, 1 failed, 0 skipped\n",
		},
		{
			name:  "skip without an accepted reason",
			files: map[string]string{"a/a_test.go": header + "func TestLazy(t *testing.T) { t.Skip(\"flaky\") }\nfunc TestGood(t *testing.T) {}\n"},
			want:  "...TestLazy is skipped for a reason that is not accepted (see go doc ./testdata/testsum)\nFAIL  m/a  1 failed of 2, 0s\n1 passed, 1 failed, 0 skipped\n",
		},
		{
			name: "build failure",
			files: map[string]string{
				"a/a_test.go": header + "func TestGood(t *testing.T) {}\n",
				"b/b_test.go": "package b\n\nvar x int = \"no\"\n",
			},
			want: "...cannot use \"no\" (untyped string constant) as int value in variable declaration\n...1 passed, 1 failed, 0 skipped\n",
		},
		{
			name:  "panic",
			files: map[string]string{"a/a_test.go": header + "func TestGood(t *testing.T) {}\nfunc TestBad(t *testing.T) { panic(\"boom\") }\n"},
			want:  "...panic: boom...1 passed, 1 failed, 0 skipped\n",
		},
		{
			name:  "exit in the middle",
			files: map[string]string{"a/a_test.go": "package a\n\nimport (\"os\"; \"testing\")\n\nfunc TestGood(t *testing.T) {}\nfunc TestBad(t *testing.T) { os.Exit(3) }\n"},
			want:  "...1 passed, 1 failed, 0 skipped\n",
		},
		{
			name:  "TestMain fails after good tests",
			files: map[string]string{"a/a_test.go": "package a\n\nimport (\"fmt\"; \"os\"; \"testing\")\n\nfunc TestGood(t *testing.T) {}\nfunc TestMain(m *testing.M) { m.Run(); fmt.Println(\"goroutine leak\"); os.Exit(1) }\n"},
			want:  "...goroutine leak\n...1 passed, 1 failed, 0 skipped\n",
		},
		{
			name: "starved once",
			files: map[string]string{"a/a_test.go": header + `
import "os"

func TestGood(t *testing.T) { t.Log("PROOF 1 of 1") }
func TestStarved(t *testing.T) {
	t.Run("x", func(t *testing.T) {
		if os.Mkdir("here", 0o700) == nil {
			t.Error("late")
		}
	})
}
`},
			want: "...TestGood: a_test.go:8: PROOF 1 of 1\n...a_test.go:12: late\n...FAIL  m/a  1 failed of 2, 0s\nagain, alone: m/a TestStarved\nok    m/a  1 passed, 0s\n" +
				"2 passed, 0 failed, 0 skipped; 1 of them passed when run again, alone\n",
			ok: true,
		},
		{
			name: "once by a leak: not tried again",
			files: map[string]string{"a/a_test.go": header + `
import "os"

func TestGood(t *testing.T) {}
func TestLeak(t *testing.T) {
	if os.Mkdir("here", 0o700) == nil {
		t.Error("a goroutine leaks")
	}
}
`},
			want: "...FAIL  m/a  1 failed of 2, 0s\n1 passed, 1 failed, 0 skipped\n",
		},
		{
			name: "once by a panic that a gateway logs: not tried again",
			files: map[string]string{"a/a_test.go": header + `
import "os"

func TestGood(t *testing.T) {}
func TestPanic(t *testing.T) {
	if os.Mkdir("here", 0o700) == nil {
		t.Error("{\"level\":\"ERROR\",\"msg\":\"panic in a call\"}")
	}
}
`},
			want: "...FAIL  m/a  1 failed of 2, 0s\n1 passed, 1 failed, 0 skipped\n",
		},
		{
			name: "too many to try again",
			files: map[string]string{"a/a_test.go": header + `
import "os"

func TestGood(t *testing.T) {}
func Test1(t *testing.T) { once(t) }
func Test2(t *testing.T) { once(t) }
func Test3(t *testing.T) { once(t) }
func Test4(t *testing.T) { once(t) }
func Test5(t *testing.T) { once(t) }
func Test6(t *testing.T) { once(t) }
func once(t *testing.T) {
	if os.Mkdir(t.Name(), 0o700) == nil {
		t.Error("late")
	}
}
`},
			want: "...FAIL  m/a  6 failed of 7, 0s\n1 passed, 6 failed, 0 skipped\n",
		},
		{
			name:  "no test",
			files: map[string]string{"a/a.go": "package a\n"},
			want:  "FAIL  no test was run\n0 passed, 0 failed, 0 skipped\n",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, ok := run(t, tc.files)
			if ok != tc.ok {
				t.Errorf("good is %v, want %v", ok, tc.ok)
			}
			if !strings.HasPrefix(tc.want, "...") {
				if d := cmp.Diff(tc.want, got); d != "" {
					t.Errorf("output (-want +got):\n%s", d)
				}
				return
			}
			rest := got
			for part := range strings.SplitSeq(tc.want, "...") {
				_, after, found := strings.Cut(rest, part)
				if !found {
					t.Fatalf("no %q in\n%s", part, got)
				}
				rest = after
			}
			if rest != "" {
				t.Errorf("after the counts: %q", rest)
			}
		})
	}
}

func TestBrokenStreams(t *testing.T) {
	const start = `{"Action":"start","Package":"m/a"}` + "\n" + `{"Action":"run","Package":"m/a","Test":"TestA"}` + "\n"
	for _, tc := range []struct{ name, in, want string }{
		{"empty", "", "FAIL  no test was run\n0 passed, 0 failed, 0 skipped\n"},
		{"cut off", start, "FAIL  m/a  the stream ended before the package did\n0 passed, 1 failed, 0 skipped\n"},
		{"words of the go command", "go: cannot find main module\n", "go: cannot find main module\nFAIL  no test was run\n0 passed, 0 failed, 0 skipped\n"},
		{
			"test without an end", start + `{"Action":"fail","Package":"m/a","Elapsed":2}`,
			"--- in m/a\nTestA did not end\nFAIL  m/a  1 failed of 1, 2.0s\n0 passed, 1 failed, 0 skipped\n",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, ok := read(t, strings.NewReader(tc.in))
			if ok {
				t.Error("want no good run")
			}
			if d := cmp.Diff(tc.want, out); d != "" {
				t.Errorf("output (-want +got):\n%s", d)
			}
		})
	}
}

// FuzzSummarize holds that no stream makes testsum fail, and that the last line is always the counts.
func FuzzSummarize(f *testing.F) {
	f.Add([]byte(`{"Action":"run","Package":"m/a","Test":"TestA"}` + "\n" + `{"Action":"pass","Package":"m/a","Test":"TestA"}` + "\n" + `{"Action":"pass","Package":"m/a"}`))
	f.Add([]byte("FAIL\n"))
	counts := regexp.MustCompile(`(^|\n)\d+ passed, \d+ failed, \d+ skipped\n$`)
	f.Fuzz(func(t *testing.T, in []byte) {
		if out, _ := read(t, bytes.NewReader(in)); !counts.MatchString(out) {
			t.Errorf("no counts at the end of %q", out)
		}
	})
}
