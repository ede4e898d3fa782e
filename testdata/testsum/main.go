// Command testsum runs `go test -json` and tells a person how it went: a line per package as it ends, the figures of
// proofs, the whole output of what failed, what was not run and why, and a last line with the counts.
//
//	testsum [flags of go test] -- packages
//
// Packages run beside each other and share the machine's cores, so a test that waits may be starved. Where no more than
// a few tests failed, they are run once more, alone: one that passes then is counted as passed, and the last line says how
// many there were. What starving does not explain is never tried again: a data race, a panic, a leak, a package that does
// not build or end, a refused skip.
//
// A test is counted once: one with subtests is counted through them. A test may be left out for three reasons only:
//
//   - a real program is not installed (testdata/realserver skips it with "skipped: needs ..."): named and counted;
//   - the text of the skip names -short or the race detector, which this run chose: named, not counted, because another
//     step runs it;
//   - the package has no tests.
//
// Any other skip is a failure, for it would hide a test from everybody. So are a package that does not build, one that
// ends without saying so, and a run without a single passed test.
package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// retried is how many tests may fail and be tried again; more have a common reason.
const retried = 5

func main() {
	at := slices.Index(os.Args, "--")
	if at < 0 {
		fmt.Fprintln(os.Stderr, "usage: testsum [flags of go test] -- packages")
		os.Exit(2)
	}
	flags := os.Args[1:at]
	s := newSummary(os.Stdout)
	ran, err := s.run(append(slices.Clone(flags), os.Args[at+1:]...))
	if err == nil && s.mayRetry() {
		err = s.retry(flags)
	}
	ok, endErr := s.end()
	if err = errors.Join(err, endErr); err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
	}
	switch {
	case err != nil || !ok:
		os.Exit(1)
	case !ran && s.second == 0:
		fmt.Fprintln(os.Stderr, "testsum: go test failed, and no test did")
		os.Exit(1)
	}
}

// event is one line of the stream; see `go doc test2json`.
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build events
	FailedBuild string
	Test        string
	Elapsed     float64 // seconds
	Output      string
}

// suite is one package under test.
type suite struct {
	name    string
	order   []string // of tests, as they started
	tests   map[string]*result
	output  []string // of the package itself, not of a test
	started bool
	ended   bool
	failed  int
}

// result is one test or subtest.
type result struct {
	action string // how it ended: pass, fail, skip; "" while it runs
	parent bool
	output []string
}

// left is a test that did not run.
type left struct{ pkg, test, why string }

type summary struct {
	out     *bufio.Writer
	suites  map[string]*suite
	builds  map[string][]string // compiler output by ImportPath
	passed  int
	failed  int
	second  int                 // of passed, those that passed when they were run again, alone
	again   map[string][]string // tests that failed and may be tried again, by package; without subtests
	final   bool                // something failed that may not
	missing []left              // a real program is not installed
	chosen  []left              // -short or the race detector
}

func newSummary(out io.Writer) *summary {
	return &summary{out: bufio.NewWriter(out), suites: map[string]*suite{}, builds: map[string][]string{}, again: map[string][]string{}}
}

// run runs go test and reads its stream. It reports whether go test ended well; an error is one of starting or reading.
func (s *summary) run(args []string) (bool, error) {
	cmd := exec.CommandContext(context.Background(), "go", append([]string{"test", "-json"}, args...)...) //nolint:gosec // what its caller would run
	cmd.Stderr = os.Stderr
	stream, err := cmd.StdoutPipe()
	if err != nil {
		return false, err
	}
	if err := cmd.Start(); err != nil {
		return false, err
	}
	err = s.read(stream)
	return cmd.Wait() == nil, err
}

// read takes a whole stream. An error is one of reading or writing.
func (s *summary) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			s.line(line)
			if err := s.out.Flush(); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			s.cutOff()
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// mayRetry reports whether all that failed may be tried again.
func (s *summary) mayRetry() bool {
	n := 0
	for _, tests := range s.again {
		n += len(tests)
	}
	return !s.final && n > 0 && n <= retried
}

// retry runs what failed once more, one package after the other and no test beside another. Its own counts take the
// place of those of the first run.
func (s *summary) retry(flags []string) error {
	for _, pkg := range slices.Sorted(maps.Keys(s.again)) {
		tests := s.again[pkg]
		s.printf("again, alone: %s %s\n", pkg, strings.Join(tests, " "))
		second := newSummary(s.out)
		_, err := second.run(append(slices.Clone(flags), "-parallel=1", "-run=^("+strings.Join(tests, "|")+")$", pkg))
		if err != nil {
			return err
		}
		if second.failed == 0 && second.passed > 0 && len(second.missing)+len(second.chosen) == 0 {
			failed := s.suites[pkg].failed
			s.failed -= failed
			s.passed += failed
			s.second += failed
		}
	}
	return nil
}

func (s *summary) printf(format string, args ...any) { fmt.Fprintf(s.out, format, args...) }

// line takes one line of the stream. What is no event is what the go command had to say itself; it is passed on.
func (s *summary) line(line string) {
	var e event
	if err := json.Unmarshal([]byte(line), &e); err != nil || e.Action == "" {
		s.printf("%s\n", strings.TrimRight(line, "\n"))
		return
	}
	switch e.Action {
	case "build-output":
		s.builds[e.ImportPath] = append(s.builds[e.ImportPath], e.Output)
		return
	case "build-fail":
		return // the package that needed it fails with FailedBuild
	}
	p, ok := s.suites[e.Package]
	if !ok {
		p = &suite{name: e.Package, tests: map[string]*result{}}
		s.suites[e.Package] = p
	}
	if e.Test != "" {
		p.event(e)
		return
	}
	switch e.Action {
	case "start":
		p.started = true
	case "output":
		p.output = append(p.output, e.Output)
	case "pass", "fail", "skip":
		s.finish(p, e)
	}
}

// event takes what happened to a test.
func (p *suite) event(e event) {
	r, ok := p.tests[e.Test]
	if !ok {
		r = &result{}
		p.tests[e.Test] = r
		p.order = append(p.order, e.Test)
		for i, c := range e.Test {
			if parent, ok := p.tests[e.Test[:i]]; c == '/' && ok {
				parent.parent = true
			}
		}
	}
	switch e.Action {
	case "output":
		r.output = append(r.output, e.Output)
	case "pass", "fail", "skip":
		r.action = e.Action
	}
}

// finish counts the tests of a package that has ended and prints its line.
func (s *summary) finish(p *suite, e event) {
	p.ended = true
	var passed, failed, skipped int
	for _, name := range p.order {
		r := p.tests[name]
		switch r.action {
		case "pass":
			if !r.parent {
				passed++
			}
			for _, line := range r.output {
				if strings.Contains(line, ": PROOF ") {
					s.printf("%s: %s\n", name, strings.TrimSpace(line))
				}
			}
		case "skip":
			if s.skip(p.name, name, r) {
				skipped++
			} else {
				failed++
				s.final = true
			}
		default: // fail, or still running when the package ended
			if !p.blame(name) {
				failed++
			}
			s.printf("--- in %s\n%s", p.name, strings.Join(r.output, ""))
			top, _, _ := strings.Cut(name, "/")
			if !slices.Contains(s.again[p.name], top) {
				s.again[p.name] = append(s.again[p.name], top)
			}
			s.final = s.final || r.action == "" || slices.ContainsFunc(r.output, grave.MatchString)
			if r.action == "" {
				s.printf("%s did not end\n", name)
			}
		}
	}
	if e.Action == "fail" {
		s.printf("%s%s", strings.Join(s.builds[e.FailedBuild], ""), strings.Join(p.output, ""))
		s.final = s.final || slices.ContainsFunc(p.output, grave.MatchString)
		if failed == 0 { // TestMain, an init, a data race after the last test, or the build
			failed = 1
			s.final = true
		}
	}
	p.failed = failed
	s.passed += passed
	s.failed += failed
	switch {
	case failed > 0:
		s.printf("FAIL  %s  %d failed of %d, %.1fs\n", p.name, failed, failed+passed, e.Elapsed)
	case e.Action == "skip" || passed+skipped == 0:
		// No tests: nothing to say.
	default:
		s.printf("ok    %s  %d passed, %.1fs\n", p.name, passed, e.Elapsed)
	}
}

// blame reports whether the failure of a test is that of a subtest, which is counted instead.
func (p *suite) blame(name string) bool {
	for sub, r := range p.tests {
		if strings.HasPrefix(sub, name+"/") && (r.action == "fail" || r.action == "") {
			return true
		}
	}
	return false
}

var (
	skipLine = regexp.MustCompile(`(?m)^\s+\S+\.go:\d+: (.*)`)
	ownWish  = regexp.MustCompile(`\bshort\b|\brace\b`)
	grave    = regexp.MustCompile(`DATA RACE|race detected|^panic:|"panic in |^fatal error:|(?i:leak)`) // the fourth is what a gateway logs
)

// skip files a skipped test under its reason, and reports whether the reason is one of those allowed.
func (s *summary) skip(pkg, test string, r *result) bool {
	text := strings.Join(r.output, "")
	why := ""
	if m := skipLine.FindAllStringSubmatch(text, -1); len(m) > 0 {
		why = m[len(m)-1][1]
	}
	switch {
	case strings.HasPrefix(why, "skipped: needs "):
		s.missing = append(s.missing, left{pkg, test, strings.TrimPrefix(why, "skipped: ")})
	case ownWish.MatchString(why):
		s.chosen = append(s.chosen, left{pkg, test, why})
	default:
		s.printf("--- in %s\n%s%s is skipped for a reason that is not accepted (see go doc ./testdata/testsum)\n", pkg, text, test)
		return false
	}
	return true
}

// cutOff counts the packages whose end the stream does not tell.
func (s *summary) cutOff() {
	for _, p := range slices.SortedFunc(maps.Values(s.suites), func(a, b *suite) int { return cmp.Compare(a.name, b.name) }) {
		if p.started && !p.ended {
			s.failed++
			s.final = true
			s.printf("FAIL  %s  the stream ended before the package did\n", p.name)
		}
	}
}

// end prints what was not run and the counts, and reports whether the run was good. An error is one of writing.
func (s *summary) end() (bool, error) {
	if s.passed == 0 && s.failed == 0 {
		s.printf("FAIL  no test was run\n")
	}
	for _, l := range s.chosen {
		s.printf("not in this run: %s %s: %s\n", l.pkg, l.test, l.why)
	}
	for _, l := range s.missing {
		s.printf("skipped: %s %s: %s\n", l.pkg, l.test, l.why)
	}
	s.printf("%d passed, %d failed, %d skipped", s.passed, s.failed, len(s.missing))
	if s.second > 0 {
		s.printf("; %d of them passed when run again, alone", s.second)
	}
	s.printf("\n")
	return s.failed == 0 && s.passed > 0, s.out.Flush()
}
