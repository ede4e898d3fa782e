package main_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// longest is how many lines a file written by hand may have.
const longest = 600

// A folder of one machine is a fault where it is not part of a longer path or of a URL. Composed, so that this file has
// none of what it looks for.
var (
	folders    = []string{"/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/", "/t" + "mp/", "/Us" + "ers/"}
	siblings   = []string{"../" + "shared"}
	registries = []string{"proxy." + "golang.org", "sum." + "golang.org", "registry." + "npmjs.org", "pypi" + ".org", "files." + "pythonhosted.org", "deb." + "debian.org", "static." + "crates.io", "registry-1." + "docker.io"}
)

var (
	generated = regexp.MustCompile(`(?m)^(//|#) Code generated .* DO NOT EDIT\.$`)
	link      = regexp.MustCompile(`\]\(([^)\s]+)\)`)
)

// strays returns what a file says that is true on one machine or outside the repository only. name is its path from the
// root, with slashes.
func strays(name string, text []byte, exists func(string) bool) []string {
	var found []string
	prose := path.Ext(name) == ".md"
	if !prose && !slices.ContainsFunc(slices.Concat(folders, siblings, registries), func(word string) bool { return bytes.Contains(text, []byte(word)) }) {
		return nil // which is nearly every file, and reading it line by line takes long
	}
	for n, line := range strings.Split(string(text), "\n") {
		for _, word := range folders {
			for rest, at := line, strings.Index(line, word); at >= 0; at = strings.Index(rest, word) {
				if at == 0 || !pathByte(rest[at-1]) {
					found = append(found, fmt.Sprintf("%s:%d: names a folder of one machine: %s", name, n+1, word))
					break
				}
				rest = rest[at+1:]
			}
		}
		for _, word := range siblings {
			if strings.Contains(line, word) {
				found = append(found, fmt.Sprintf("%s:%d: names a folder beside the repository: %s", name, n+1, word))
			}
		}
		for _, word := range registries {
			if strings.Contains(line, word) {
				found = append(found, fmt.Sprintf("%s:%d: names a package registry: %s", name, n+1, word))
			}
		}
		if !prose {
			continue
		}
		for _, m := range link.FindAllStringSubmatch(line, -1) {
			target, _, _ := strings.Cut(m[1], "#")
			if target == "" || strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			if to := path.Join(path.Dir(name), target); strings.HasPrefix(target, "/") || strings.HasPrefix(to, "..") || !exists(to) {
				found = append(found, fmt.Sprintf("%s:%d: links to %s, which is not in the repository", name, n+1, target))
			}
		}
	}
	slices.Sort(found)
	return found
}

// pathByte reports whether c, before a slash, makes it part of a longer path, a URL or a pattern.
func pathByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_.)}*/-", c) >= 0
}

// tooLong returns a fault for a file written by hand that has too many lines.
func tooLong(name string, text []byte) []string {
	if path.Ext(name) != ".go" && path.Ext(name) != ".py" && path.Ext(name) != ".proto" {
		return nil
	}
	if n := bytes.Count(text, []byte("\n")); n > longest && !generated.Match(text) {
		return []string{fmt.Sprintf("%s has %d lines, want %d or less", name, n, longest)}
	}
	return nil
}

func TestTree(t *testing.T) {
	exists := func(name string) bool {
		_, err := os.Stat(filepath.Join(root, filepath.FromSlash(name)))
		return err == nil
	}
	read := 0
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(rel)
		if d.IsDir() {
			if slices.Contains([]string{".git", "bin", "dist", "causeway-data"}, name) || path.Base(name) == "node_modules" || path.Base(name) == "fuzz" && strings.Contains(name, "testdata/") {
				return fs.SkipDir
			}
			return nil
		}
		if !slices.Contains([]string{".go", ".md", ".yaml", ".yml", ".proto", ".py", ".mod", ".txtar", ".sh", ""}, path.Ext(name)) || !d.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		read++
		for _, f := range slices.Concat(strays(name, text, exists), tooLong(name, text)) {
			t.Error(f)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if read < 50 {
		t.Errorf("read %d files only", read)
	}
}

func TestTreeRefuses(t *testing.T) {
	exists := func(name string) bool { return name == "README.md" || name == "proxy" }
	lines := func(n int) string { return strings.Repeat("\n", n) }
	for _, tc := range []struct {
		name, file, text string
		want             []string
	}{
		{"fine", "proxy/README.md", "[up](../README.md#top) [out](https://example.org/home/x) [here](#x) https://example.org/" + "tmp/x", nil},
		{"machine", "a.go", "x\nopen(\"x/" + "tmp/x\", \"/" + "tmp/x\")", []string{`a.go:2: names a folder of one machine: /` + `tmp/`}},
		{"beside", "a.yaml", "file: ../" + "shared/x", []string{"a.yaml:1: names a folder beside the repository: ../" + "shared"}},
		{"registry", "README.md", "GOPROXY=https://proxy." + "golang.org", []string{"README.md:1: names a package registry: proxy." + "golang.org"}},
		{"link outside", "proxy/README.md", "[a](../../b) [c](/proxy) [d](gone.md)", []string{
			"proxy/README.md:1: links to ../../b, which is not in the repository",
			"proxy/README.md:1: links to /proxy, which is not in the repository",
			"proxy/README.md:1: links to gone.md, which is not in the repository",
		}},
		{"length", "a.go", lines(601), []string{"a.go has 601 lines, want 600 or less"}},
		{"length of prose", "a.md", lines(601), nil},
		{"length of what is generated", "a.go", "// Code generated by x. DO NOT EDIT.\n" + lines(601), nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := slices.Concat(strays(tc.file, []byte(tc.text), exists), tooLong(tc.file, []byte(tc.text)))
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("faults (-want +got):\n%s", d)
			}
		})
	}
}
