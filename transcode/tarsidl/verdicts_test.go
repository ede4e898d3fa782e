package tarsidl_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-gateway/causeway/transcode/tarsidl"
)

// folder finds included files beside those that include them.
type folder map[string][]byte

func (f folder) Include(_, path string) (tarsidl.File, error) {
	if text, ok := f[path]; ok {
		return tarsidl.File{Name: path, Path: path, Text: text}, nil
	}
	return tarsidl.File{}, errors.New("#include " + path + " is not found")
}

// TestVerdicts: what the generators take is taken; what all of them refuse is refused, with the place.
func TestVerdicts(t *testing.T) {
	refused := map[string]string{
		"module_no_semicolon": `module_no_semicolon.tars:1:44: wanted ";" after the "}" that closes module A, found the end of the file`,
		"struct_no_semicolon": `struct_no_semicolon.tars:1:42: wanted ";" after the "}" that closes struct P, found "}"`,
		"char_type":           `char_type.tars:1:34: type char is not declared; TARS has no char: use "byte"`,
		"tags_dup":            `tags_dup.tars:1:40: tag 1 of member a is that of member c already, at line 1`,
		"no_require":          `no_require.tars:1:25: wanted "require" or "optional" after the tag, found "int"`,
		"include_missing":     `include_missing.tars:1:10: #include nope.tars is not found`,
		"undefined_type":      `undefined_type.tars:1:33: type Zzz is not declared`,
	}
	paths, err := filepath.Glob("testdata/idl/*.tars")
	if err != nil || len(paths) != 35 {
		t.Fatalf("%d files: %v", len(paths), err)
	}
	files := folder{}
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(p)] = text
	}
	for name, text := range files {
		t.Run(strings.TrimSuffix(name, ".tars"), func(t *testing.T) {
			got := ""
			res, err := tarsidl.Compile([]tarsidl.File{{Name: name, Path: name, Text: text}}, files, tarsidl.Options{})
			if err != nil {
				got = err.Error()
				var fault *tarsidl.Error
				if !errors.As(err, &fault) || fault.File != name {
					t.Errorf("no *Error of the file in %v", err)
				}
			} else {
				link(t, res)
			}
			if diff := cmp.Diff(refused[strings.TrimSuffix(name, ".tars")], got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
