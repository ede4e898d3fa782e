package source

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/causeway-gateway/causeway/transcode/tarsidl"
)

// Tars compiles .tars files and folders, the latter with everything below them except what begins with a dot. An #include
// is looked for beside the file that has it and then below importRoots, the first that has it wins; without importRoots
// they are the folders of paths and the folders of its files. Modules become packages, with pkg and a dot before them
// unless pkg is empty. The error holds everything that is wrong, one fault a line, as file:line:column.
func Tars(ctx context.Context, paths, importRoots []string, pkg string, l Limits) (*Set, error) {
	s := &tarsSource{tree: newTree(".tars", importRoots, l), files: map[string]tarsidl.File{}}
	found, err := s.find(ctx, paths, importRoots)
	if err != nil {
		return nil, err
	}
	slices.Sort(found)
	files := make([]tarsidl.File, 0, len(found))
	for _, path := range slices.Compact(found) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		f, err := s.read(path)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	res, err := tarsidl.Compile(files, s, tarsidl.Options{Package: pkg, MaxFiles: s.limits.MaxFiles})
	if err != nil {
		return nil, err
	}
	data, err := proto.MarshalOptions{AllowPartial: true, Deterministic: true}.Marshal(&descriptorpb.FileDescriptorSet{File: res.Files})
	if err != nil {
		return nil, plain(err)
	}
	set, err := check(data, l)
	if err != nil {
		return nil, err
	}
	set.Watch = slices.Sorted(maps.Keys(s.watched))
	for _, w := range res.Warnings {
		set.Warnings = append(set.Warnings, w.Error())
	}
	return set, nil
}

// tarsSource is one compilation. Files are known by their path on disk.
type tarsSource struct {
	tree

	bytes int64
	files map[string]tarsidl.File
}

func (s *tarsSource) read(path string) (tarsidl.File, error) {
	if f, ok := s.files[path]; ok {
		return f, nil
	}
	f, err := os.Open(path) //nolint:gosec // below the folders that the operator names
	if err != nil {
		return tarsidl.File{}, err
	}
	defer f.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(io.LimitReader(f, s.limits.MaxBytes-s.bytes+1))
	if err != nil {
		return tarsidl.File{}, err
	}
	if s.bytes += int64(len(text)); s.bytes > s.limits.MaxBytes {
		return tarsidl.File{}, fmt.Errorf("%s: the .tars files have more than %d bytes together, the limit", path, s.limits.MaxBytes)
	}
	if !s.inFolder(path) {
		s.watched[path] = true
	}
	s.files[path] = tarsidl.File{Name: path, Path: path, Text: text}
	return s.files[path], nil
}

// Include finds an included file. It must be below an import root, or below the folder of the file that includes it.
func (s *tarsSource) Include(from, path string) (tarsidl.File, error) {
	if path == "" || filepath.IsAbs(filepath.FromSlash(path)) || strings.Contains(path, `\`) || !strings.HasSuffix(path, s.ext) {
		return tarsidl.File{}, fmt.Errorf("wanted the relative path of a %s file, with / between folders, found %q", s.ext, path)
	}
	dirs := append([]string{filepath.Dir(from)}, s.roots...)
	outside := ""
	for _, dir := range dirs {
		disk := filepath.Join(dir, filepath.FromSlash(path))
		if info, err := os.Stat(disk); err != nil || !info.Mode().IsRegular() {
			continue
		}
		if !slices.ContainsFunc(dirs, func(root string) bool { return below(root, disk) }) {
			outside = disk
			continue
		}
		return s.read(disk)
	}
	if outside != "" {
		return tarsidl.File{}, fmt.Errorf("%s is outside the import roots (%s): give a folder above it as import root", outside, strings.Join(s.roots, ", "))
	}
	return tarsidl.File{}, fmt.Errorf("#include %q is not found beside this file or below the import roots (%s)%s", path, strings.Join(s.roots, ", "), s.rootHint(path))
}

// below says whether a path is in a folder or below it.
func below(root, path string) bool {
	rel, err := relative(root, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}
