package source_test

import (
	"context"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/causeway-gateway/causeway/transcode/source"
)

// golden runs f on every archive that matches pattern and compares the text it returns with the section "want". With
// CAUSEWAY_REFRESH=<glob over base names> the section is written instead.
func golden(t *testing.T, pattern string, f func(t *testing.T, files map[string]string) string) {
	t.Helper()
	pattern, err := filepath.Abs(pattern) // cases may change folder
	if err != nil {
		t.Fatal(err)
	}
	cases, err := filepath.Glob(pattern)
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases match %s: %v", pattern, err)
	}
	for _, file := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			files := map[string]string{}
			at := -1
			for i, f := range archive.Files {
				if f.Name == "want" {
					at = i
					continue
				}
				files[f.Name] = string(f.Data)
			}
			got := f(t, files)
			if !strings.HasSuffix(got, "\n") {
				got += "\n"
			}
			if ok, _ := path.Match(os.Getenv("CAUSEWAY_REFRESH"), filepath.Base(file)); ok {
				if at < 0 {
					archive.Files = append(archive.Files, txtar.File{Name: "want"})
					at = len(archive.Files) - 1
				}
				archive.Files[at].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if at < 0 {
				t.Fatalf("%s has no section \"want\"; got:\n%s", file, got)
			}
			if diff := cmp.Diff(string(archive.Files[at].Data), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// limits reads "nesting 2", one a line.
func limits(t *testing.T, text string) source.Limits {
	t.Helper()
	var l source.Limits
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.Atoi(value)
		if err != nil {
			t.Fatal(err)
		}
		switch key {
		case "bytes":
			l.MaxBytes = int64(n)
		case "files":
			l.MaxFiles = n
		case "messages":
			l.MaxMessages = n
		case "fields":
			l.MaxFields = n
		case "nesting":
			l.MaxNesting = n
		default:
			t.Fatalf("unknown limit %q", key)
		}
	}
	return l
}

// TestSets: testdata/sets holds descriptor sets in text format and what becomes of them: the error, or the files.
func TestSets(t *testing.T) {
	golden(t, "testdata/sets/*.txtar", func(t *testing.T, files map[string]string) string {
		var fds descriptorpb.FileDescriptorSet
		if err := prototext.Unmarshal([]byte(files["set.txtpb"]), &fds); err != nil {
			t.Fatal(err)
		}
		data, err := proto.Marshal(&fds)
		if err != nil {
			t.Fatal(err)
		}
		before := append([]byte(nil), data...)
		set, err := source.DescriptorSet(data, limits(t, files["limits"]))
		if string(before) != string(data) {
			t.Error("the bytes given were written to")
		}
		return outcome(t, set, err)
	})
}

// TestProtos: testdata/protos holds trees of .proto files and what becomes of them. The section "args" holds the paths,
// and after "roots" the import roots.
func TestProtos(t *testing.T) {
	golden(t, "testdata/protos/*.txtar", func(t *testing.T, files map[string]string) string {
		dir := t.TempDir()
		for name, text := range files {
			if !strings.Contains(name, ".") {
				continue
			}
			file := filepath.Join(dir, filepath.FromSlash(name))
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		t.Chdir(dir)
		paths, roots, _ := strings.Cut(files["args"], "roots")
		set, err := source.Proto(context.Background(), strings.Fields(paths), strings.Fields(roots), limits(t, files["limits"]))
		out := outcome(t, set, err)
		if err == nil {
			out += "watch: " + strings.Join(set.Watch, " ")
		}
		return out
	})
}

// outcome writes a set, or the error in its place, as the goldens have it.
func outcome(t *testing.T, set *source.Set, err error) string {
	t.Helper()
	if err != nil {
		if set != nil {
			t.Error("an error came with a set")
		}
		return "error: " + err.Error()
	}
	compiled, err := set.Schema()
	if err != nil {
		t.Fatalf("an accepted set has no schema: %v", err)
	}
	var b strings.Builder
	for _, fd := range set.Files.GetFile() {
		b.WriteString("file: " + fd.GetName() + "\n")
	}
	for _, sv := range compiled.Services() {
		for _, m := range sv.Methods {
			b.WriteString("method: " + m.Name + "\n")
		}
	}
	return b.String()
}
