package source

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxFolderDepth bounds how deep folders are read below the one that was given.
const maxFolderDepth = 64

// tree finds source files on disk.
type tree struct {
	ext      string // ".proto"
	limits   Limits
	roots    []string
	folders  []string // every folder that was walked
	explicit bool     // import roots were given
	watched  map[string]bool
}

func newTree(ext string, importRoots []string, l Limits) tree {
	return tree{ext: ext, limits: l.withDefaults(), explicit: len(importRoots) > 0, watched: map[string]bool{}}
}

// find settles the import roots and gives the files to compile.
func (p *tree) find(ctx context.Context, paths, importRoots []string) (found []string, err error) {
	if len(paths) == 0 {
		return nil, fmt.Errorf("no %s files or folders are given", p.ext)
	}
	for _, root := range importRoots {
		info, err := os.Stat(root)
		if err != nil {
			return nil, fmt.Errorf("import root: %w", err)
		}
		if !info.IsDir() {
			return nil, fmt.Errorf("import root %s is not a folder", root)
		}
		p.addRoot(root)
	}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			if !strings.HasSuffix(path, p.ext) {
				return nil, fmt.Errorf("%s: its name does not end in %s%s", path, p.ext, p.elsewhere(path))
			}
			if !p.explicit {
				p.addRoot(filepath.Dir(path))
			}
			p.watched[path] = true
			found = append(found, filepath.Clean(path))
			continue
		}
		if !p.explicit {
			p.addRoot(path)
		}
		before := len(found)
		if found, err = p.walk(ctx, filepath.Clean(path), 0, map[string]bool{}, found); err != nil {
			return nil, err
		}
		if len(found) == before {
			return nil, fmt.Errorf("%s: no %s file is in this folder or below", path, p.ext)
		}
	}
	return found, nil
}

// elsewhere says where a file that is none of these belongs.
func (p *tree) elsewhere(path string) string {
	switch ext := filepath.Ext(path); {
	case ext == ".proto" || ext == ".tars":
		return "; give it as source of kind " + ext[1:]
	case p.ext == ".proto":
		return "; give a descriptor set as such"
	}
	return ""
}

func (p *tree) addRoot(root string) {
	if root = filepath.Clean(root); !slices.Contains(p.roots, root) {
		p.roots = append(p.roots, root)
	}
}

// walk adds the source files of dir and below. Symbolic links are followed, but no folder twice; names that begin with a
// dot are passed over, among them the folders that a mounted ConfigMap swaps its files in.
func (p *tree) walk(ctx context.Context, dir string, depth int, seen map[string]bool, found []string) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	resolved, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	if seen[resolved] {
		return found, nil
	}
	seen[resolved] = true
	if depth > maxFolderDepth {
		return nil, fmt.Errorf("%s: folders nest deeper than %d", dir, maxFolderDepth)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	p.folders = append(p.folders, dir)
	p.watched[dir] = true
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		path := filepath.Join(dir, e.Name())
		mode := e.Type()
		if mode&os.ModeSymlink != 0 {
			info, err := os.Stat(path)
			if err != nil {
				continue // a link to nothing is no file
			}
			mode = info.Mode().Type()
		}
		switch {
		case mode.IsDir():
			if found, err = p.walk(ctx, path, depth+1, seen, found); err != nil {
				return nil, err
			}
		case mode.IsRegular() && strings.HasSuffix(path, p.ext):
			if found = append(found, path); len(found) > p.limits.MaxFiles {
				return nil, fmt.Errorf("more than %d %s files, the limit", p.limits.MaxFiles, p.ext)
			}
		}
	}
	return found, nil
}

// importName is the name that other files import a file by: its path below the first import root that holds it.
func (p *tree) importName(path string) (string, error) {
	for _, root := range p.roots {
		rel, err := relative(root, path)
		if err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
			return filepath.ToSlash(rel), nil
		}
	}
	return "", fmt.Errorf("%s is not below any import root (%s)", path, strings.Join(p.roots, ", "))
}

// relative is filepath.Rel for paths that may be absolute on one side only.
func relative(root, path string) (string, error) {
	if filepath.IsAbs(root) == filepath.IsAbs(path) {
		return filepath.Rel(root, path)
	}
	absRoot, err := filepath.Abs(root)
	if err != nil {
		return "", err
	}
	absPath, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.Rel(absRoot, absPath)
}

// inFolder says that a file stands directly in a folder that is watched anyway.
func (p *tree) inFolder(disk string) bool { return p.watched[filepath.Dir(disk)] }
