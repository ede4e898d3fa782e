// Command testsum reads the stream of `go test -json` and tells a person how it went: a line per package as it ends,
// the whole output of what failed, what was not run and why, and a last line with the counts.
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
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
)

func main() {
	ok, err := summarize(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
	}
	if err != nil || !ok {
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
	out     io.Writer
	suites  map[string]*suite
	builds  map[string][]string // compiler output by ImportPath
	passed  int
	failed  int
	missing []left // a real program is not installed
	chosen  []left // -short or the race detector
}

// summarize returns whether the run was good. An error is one of reading or writing.
func summarize(in io.Reader, out io.Writer) (bool, error) {
	buffered := bufio.NewWriter(out)
	s := &summary{out: buffered, suites: map[string]*suite{}, builds: map[string][]string{}}
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			s.line(line)
			if err := buffered.Flush(); err != nil {
				return false, err
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return false, err
		}
	}
	s.end()
	return s.failed == 0 && s.passed > 0, buffered.Flush()
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
		case "skip":
			if s.skip(p.name, name, r) {
				skipped++
			} else {
				failed++
			}
		default: // fail, or still running when the package ended
			if !p.blame(name) {
				failed++
			}
			s.printf("--- in %s\n%s", p.name, strings.Join(r.output, ""))
			if r.action == "" {
				s.printf("%s did not end\n", name)
			}
		}
	}
	if e.Action == "fail" {
		s.printf("%s%s", strings.Join(s.builds[e.FailedBuild], ""), strings.Join(p.output, ""))
		if failed == 0 { // TestMain, an init, a data race after the last test, or the build
			failed = 1
		}
	}
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

// end prints what was not run and the counts.
func (s *summary) end() {
	for _, p := range slices.SortedFunc(maps.Values(s.suites), func(a, b *suite) int { return cmp.Compare(a.name, b.name) }) {
		if p.started && !p.ended {
			s.failed++
			s.printf("FAIL  %s  the stream ended before the package did\n", p.name)
		}
	}
	if s.passed == 0 && s.failed == 0 {
		s.printf("FAIL  no test was run\n")
	}
	for _, l := range s.chosen {
		s.printf("not in this run: %s %s: %s\n", l.pkg, l.test, l.why)
	}
	for _, l := range s.missing {
		s.printf("skipped: %s %s: %s\n", l.pkg, l.test, l.why)
	}
	s.printf("%d passed, %d failed, %d skipped\n", s.passed, s.failed, len(s.missing))
}
