package source

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxFolderDepth bounds how deep folders are read below the one that was given.
const maxFolderDepth = 64

// find settles the import roots and the names of the files to compile.
func (p *protoSource) find(ctx context.Context, paths, importRoots []string) error {
	if len(paths) == 0 {
		return errors.New("no .proto files or folders are given")
	}
	for _, root := range importRoots {
		info, err := os.Stat(root)
		if err != nil {
			return fmt.Errorf("import root: %w", err)
		}
		if !info.IsDir() {
			return fmt.Errorf("import root %s is not a folder", root)
		}
		p.addRoot(root)
	}
	var found []string
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if !info.IsDir() {
			if !strings.HasSuffix(path, ".proto") {
				return fmt.Errorf("%s: its name does not end in .proto; give a descriptor set as such", path)
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
			return err
		}
		if len(found) == before {
			return fmt.Errorf("%s: no .proto file is in this folder or below", path)
		}
	}
	for _, path := range found {
		name, err := p.importName(path)
		if err != nil {
			return err
		}
		p.todo = append(p.todo, name)
	}
	slices.Sort(p.todo)
	return nil
}

func (p *protoSource) addRoot(root string) {
	if root = filepath.Clean(root); !slices.Contains(p.roots, root) {
		p.roots = append(p.roots, root)
	}
}

// walk adds the .proto files of dir and below. Symbolic links are followed, but no folder twice; names that begin with a
// dot are passed over, among them the folders that a mounted ConfigMap swaps its files in.
func (p *protoSource) walk(ctx context.Context, dir string, depth int, seen map[string]bool, found []string) ([]string, error) {
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
		case mode.IsRegular() && strings.HasSuffix(path, ".proto"):
			if found = append(found, path); len(found) > p.limits.MaxFiles {
				return nil, fmt.Errorf("more than %d .proto files, the limit", p.limits.MaxFiles)
			}
		}
	}
	return found, nil
}

// importName is the name that other files import a file by: its path below the first import root that holds it.
func (p *protoSource) importName(path string) (string, error) {
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
func (p *protoSource) inFolder(disk string) bool { return p.watched[filepath.Dir(disk)] }
