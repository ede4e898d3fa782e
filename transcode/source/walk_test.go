package source_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/causeway-gateway/causeway/transcode/source"
)

// TestProtoMountedFolder: a ConfigMap is mounted as links into a hidden folder that is swapped; a folder that links to
// itself ends.
func TestProtoMountedFolder(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "..2026_01_01")
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "a.proto"), []byte(`syntax = "proto3"; message M {}`), 0o644); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"..data": "..2026_01_01", "a.proto": "..data/a.proto", "again": ".", "dangling.proto": "nowhere"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	linked := filepath.Join(t.TempDir(), "protos")
	if err := os.Symlink(dir, linked); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, linked} {
		set, err := source.Proto(t.Context(), []string{path}, nil, source.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if len(set.Files.GetFile()) != 1 || set.Files.GetFile()[0].GetName() != "a.proto" {
			t.Errorf("files %v", set.Files.GetFile())
		}
		if !slices.Contains(set.Watch, path) {
			t.Errorf("watch %v lacks %s", set.Watch, path)
		}
	}
}

func TestProtoCancelled(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.proto"), []byte(`syntax = "proto3";`), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := source.Proto(ctx, []string{dir}, nil, source.Limits{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
