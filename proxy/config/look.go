package config

import (
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// look is what a Watcher saw last.
type look struct {
	notify  *fsnotify.Watcher // nil: there are no notifications
	files   map[string]stamp
	fresh   []string            // files that the last aim added
	folders map[string]identity // watched, and what they were then
	dirty   bool                // a listed file itself was written: its stamp may be the same within the clock's grain
}

// stamp tells one state of a file from another.
type stamp struct {
	exists   bool
	identity identity
	size     int64
	mode     fs.FileMode
	modified time.Time
	names    uint64 // of a folder: what is below it
}

// identity is a file's device and inode, as far as the system has them.
type identity struct{ info fs.FileInfo }

func (a identity) same(b identity) bool {
	if a.info == nil || b.info == nil {
		return a.info == b.info
	}
	return os.SameFile(a.info, b.info)
}

func (a stamp) same(b stamp) bool {
	return a.exists == b.exists && a.identity.same(b.identity) && a.size == b.size && a.mode == b.mode &&
		a.modified.Equal(b.modified) && a.names == b.names
}

func stampOf(name string) stamp {
	info, err := os.Stat(name)
	if err != nil {
		return stamp{}
	}
	if info.IsDir() { // its own time changes with every temporary file
		return stamp{exists: true, identity: identity{info}, mode: info.Mode(), names: namesBelow(name)}
	}
	return stamp{exists: true, identity: identity{info}, size: info.Size(), mode: info.Mode(), modified: info.ModTime()}
}

// maxBelow bounds how many names of a folder are looked at.
const maxBelow = 10_000

// namesBelow sums up the names below a folder, without hidden ones.
func namesBelow(dir string) uint64 {
	sum := fnv.New64a()
	n := 0
	// An entry that cannot be read counts as not there.
	_ = filepath.WalkDir(dir+string(filepath.Separator), func(path string, d fs.DirEntry, err error) error {
		if n++; n > maxBelow {
			return fs.SkipAll
		}
		if err == nil && hidden(d.Name()) && n > 1 {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if err == nil {
			_, _ = io.WriteString(sum, path+"\x00") // a hash does not fail
		}
		return nil
	})
	return sum.Sum64()
}

func hidden(name string) bool { return strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") }

// changed compares the files with what was seen last, takes over what it sees, and reports whether there is a
// difference.
func (l *look) changed() bool {
	changed := l.dirty
	l.dirty = false
	for name, old := range l.files {
		if now := stampOf(name); !now.same(old) {
			l.files[name] = now
			changed = true
		}
	}
	return changed
}

// freshSince reports whether a file that the last aim added was modified after t. File systems round times down to the
// tick of their clock.
func (l *look) freshSince(t time.Time) bool {
	const tick = 20 * time.Millisecond
	for _, name := range l.fresh {
		if l.files[name].modified.After(t.Add(-tick)) {
			return true
		}
	}
	return false
}

// note takes an event: one of a listed file itself counts as a change, whatever its stamp says.
func (l *look) note(e fsnotify.Event) {
	name := filepath.Clean(e.Name)
	if _, ok := l.folders[name]; ok && e.Has(fsnotify.Remove|fsnotify.Rename) {
		_ = l.notify.Remove(name) // the kernel may have dropped it already
		delete(l.folders, name)
	}
	if e.Op == fsnotify.Chmod { // also the time of last access; the mode is in the stamp
		return
	}
	if s, ok := l.files[name]; ok && !s.mode.IsDir() {
		l.dirty = true
	}
}

// aim takes a new set of files, and watches the folders in which something that concerns them can happen.
func (l *look) aim(files []string) error {
	former := l.files
	l.files, l.fresh = make(map[string]stamp, len(files)), nil
	want := map[string]bool{}
	for _, f := range files {
		f = filepath.Clean(f)
		if _, ok := l.files[f]; ok {
			continue
		}
		s, ok := former[f]
		if !ok {
			s = stampOf(f)
			l.fresh = append(l.fresh, f)
		}
		l.files[f] = s
		foldersOf(f, want)
	}
	if l.notify == nil {
		return nil
	}
	var failed error
	for dir := range l.folders {
		if !want[dir] {
			_ = l.notify.Remove(dir) // gone with the folder, perhaps
			delete(l.folders, dir)
		}
	}
	for dir := range want {
		info, err := os.Stat(dir)
		if err != nil { // gone just now: its parent is watched, and tells
			delete(l.folders, dir)
			continue
		}
		if old, ok := l.folders[dir]; ok {
			if old.same(identity{info}) {
				continue
			}
			_ = l.notify.Remove(dir) // another folder has taken the name
		}
		if err := l.notify.Add(dir); err != nil {
			failed = err
			continue
		}
		l.folders[dir] = identity{info}
	}
	return failed
}

// maxFolders bounds how many folders below a listed one are watched; what is deeper is seen by polling.
const maxFolders = 1_000

// foldersOf collects the folders to watch for one file: the one it stands in; those of every symlink on the way to it,
// since a swap happens there; the parents of both, since a folder can be replaced whole; for a path that does not exist
// the nearest folder that does; and for a folder all below it.
func foldersOf(name string, want map[string]bool) {
	links := 0
	var follow func(path string)
	follow = func(path string) {
		for p := filepath.Clean(path); ; p = filepath.Dir(p) {
			if target, err := os.Readlink(p); err == nil && links < 40 {
				links++
				if !filepath.IsAbs(target) {
					target = filepath.Join(filepath.Dir(p), target)
				}
				want[filepath.Dir(p)] = true
				follow(target)
			}
			if parent := filepath.Dir(p); parent == p {
				return
			}
		}
	}
	follow(name)
	near := nearestFolder(filepath.Dir(name))
	want[near] = true
	want[filepath.Dir(near)] = true
	if target, err := filepath.EvalSymlinks(name); err == nil {
		want[filepath.Dir(target)] = true
	}
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		n := 0
		// A folder that cannot be read has nothing to tell.
		_ = filepath.WalkDir(name+string(filepath.Separator), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return nil //nolint:nilerr // the rest of the tree counts
			}
			if n > 0 && hidden(d.Name()) {
				return fs.SkipDir
			}
			if n++; n > maxFolders {
				return fs.SkipAll
			}
			want[filepath.Clean(path)] = true
			return nil
		})
	}
}

func nearestFolder(dir string) string {
	for {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return dir
		}
		dir = parent
	}
}
