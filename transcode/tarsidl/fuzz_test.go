package tarsidl_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/causeway-gateway/causeway/transcode/tarsidl"
)

// FuzzCompile: any text compiles or is refused with a place in it, and what compiles is valid protobuf whose messages all
// have tables.
func FuzzCompile(f *testing.F) {
	paths, err := filepath.Glob("testdata/idl/*.tars")
	if err != nil {
		f.Fatal(err)
	}
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	cases, err := filepath.Glob("testdata/cases/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, p := range cases {
		archive, err := txtar.ParseFile(p)
		if err != nil {
			f.Fatal(err)
		}
		for _, section := range archive.Files {
			if filepath.Ext(section.Name) == ".tars" {
				f.Add(section.Data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		res, err := tarsidl.Compile([]tarsidl.File{{Name: "a.tars", Path: "a.tars", Text: text}}, folder{"b.tars": []byte("module B { };")}, tarsidl.Options{})
		if err != nil {
			for line := range strings.Lines(err.Error()) {
				if !strings.HasPrefix(line, "a.tars:") && !strings.HasPrefix(line, "and ") {
					t.Errorf("no place in %q", line)
				}
			}
			return
		}
		link(t, res)
	})
}
