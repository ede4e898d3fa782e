package source

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

const (
	keptVersions = 5
	setSuffix    = ".binpb.gz"
	recordFile   = "versions.json"
	tempPrefix   = ".tmp-"
	corruptMark  = ".corrupt"
	// leftover is how old a file written aside is when it cannot be one that is being written.
	leftover = time.Minute
)

// Store keeps the versions of pushed schemas in a folder: <name>/<digest>.binpb.gz and <name>/versions.json. A file is
// written aside, synced and renamed, so a process that is killed leaves the old state or the new one. It is safe for
// concurrent use inside one process; two processes must not share a folder.
type Store struct {
	dir   string
	mu    sync.Mutex
	names map[string]*record
}

// Version is one pushed version of a schema.
type Version struct {
	Number  int // counted from 1, per schema
	Digest  string
	Created time.Time
	From    string // who or what pushed it, as told to Push
	Active  bool
	// How much it holds.
	Services, Methods, Messages int
}

// Entry is one schema of a Store.
type Entry struct {
	Name     string
	Active   Version // the zero Version when none can be served
	Versions int     // how many are kept
	Fault    string  // what was found corrupt and was set aside since the last push; or ""
}

var schemaName = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,62}$`)

// OpenStore opens the store in dir and makes the folder when there is none. A schema whose record is corrupt does not
// keep the others from being served: see Entry.Fault.
func OpenStore(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("schema store: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("schema store: %w", err)
	}
	s := &Store{dir: dir, names: map[string]*record{}}
	for _, e := range entries {
		if !e.IsDir() || !schemaName.MatchString(e.Name()) {
			continue
		}
		r, err := s.open(e.Name())
		if err != nil {
			return nil, fmt.Errorf("schema store: %w", err)
		}
		if r != nil {
			s.names[e.Name()] = r
		}
	}
	return s, nil
}

// open reads the record of one schema and removes what a killed process left half written. nil: there is none.
func (s *Store) open(name string) (*record, error) {
	dir := filepath.Join(s.dir, name)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		// A young one may be a push under way in the gateway whose configuration is checked beside it.
		if info, err := e.Info(); strings.HasPrefix(e.Name(), tempPrefix) && err == nil && time.Since(info.ModTime()) > leftover {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return nil, err
			}
		}
	}
	path := filepath.Join(dir, recordFile)
	data, err := os.ReadFile(path) //nolint:gosec // below the store's own folder
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r, err := parseRecord(data)
	if err == nil {
		return r, nil
	}
	if rename := os.Rename(path, path+corruptMark); rename != nil {
		return nil, rename
	}
	return &record{Fault: fmt.Sprintf("%s is corrupt (%v) and was set aside as %s: push the schema again", recordFile, err, recordFile+corruptMark)}, nil
}

// Push makes set the active version of the schema name. Content is known by its digest: pushing what is active already
// changes nothing and returns that version. The last five versions are kept. An error leaves what was there.
func (s *Store) Push(name string, set *Set, from string, now time.Time) (Version, error) {
	if !schemaName.MatchString(name) {
		return Version{}, fmt.Errorf("schema name %q: want a letter or digit, then at most 62 of a-z, 0-9, _, . and -, all lower case", name)
	}
	compiled, err := set.Schema()
	if err != nil {
		return Version{}, err
	}
	data, err := pack(set)
	if err != nil {
		return Version{}, fmt.Errorf("schema store: %w", err)
	}
	sum := sha256.Sum256(data)
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.names[name]
	if old == nil {
		old = &record{}
	}
	if v := old.active(); v != nil && v.Digest == set.Digest && s.intact(name, v) {
		return v.version(true), nil
	}
	next := old.clone()
	next.Fault = ""
	next.Last++
	v := storedVersion{Number: next.Last, Digest: set.Digest, Created: now.UTC(), From: from, SHA256: hex.EncodeToString(sum[:]), Previous: old.Active}
	v.Services, v.Methods, v.Messages = size(set, compiled)
	dir := filepath.Join(s.dir, name)
	if err := errors.Join(os.MkdirAll(dir, 0o700), syncFolder(s.dir)); err != nil {
		return Version{}, fmt.Errorf("schema store: %w", err)
	}
	// Versions with one content share a file. It may differ from data in comments and is left as it is: the record that
	// knows its sum must fit it at every moment.
	if same := old.withDigest(v.Digest); same != nil && s.intact(name, same) {
		v.SHA256 = same.SHA256
	} else if err := writeFile(filepath.Join(dir, fileOf(v.Digest)), data); err != nil {
		return Version{}, fmt.Errorf("schema store: %w", err)
	}
	for i := range next.Versions {
		if next.Versions[i].Digest == v.Digest {
			next.Versions[i].SHA256 = v.SHA256 // a corrupt file has been written anew
		}
	}
	next.Versions = append(next.Versions, v)
	next.Active = v.Number
	var gone []storedVersion
	if n := len(next.Versions) - keptVersions; n > 0 {
		gone = slices.Clone(next.Versions[:n])
		next.Versions = slices.Clone(next.Versions[n:])
	}
	if err := s.save(name, next); err != nil {
		return Version{}, err
	}
	for _, g := range gone {
		if next.withDigest(g.Digest) == nil {
			// A file that cannot be removed is only in the way: the push has succeeded.
			_ = os.Remove(filepath.Join(dir, fileOf(g.Digest)))
		}
	}
	return v.version(true), nil
}

// Active returns the active version of a schema; false when nothing was pushed yet. A version whose file turns out
// corrupt is set aside, and the one that was active before it is served: see Entry.Fault. The error says that there
// were versions and none can be served.
func (s *Store) Active(name string) (*Set, Version, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.names[name]
	if r == nil {
		return nil, Version{}, false, nil
	}
	for {
		v := r.active()
		if v == nil {
			if r.Fault != "" {
				return nil, Version{}, false, fmt.Errorf("schema %s has no version to serve: %s", name, r.Fault)
			}
			return nil, Version{}, false, nil
		}
		set, err := s.load(name, v)
		if err == nil {
			return set, v.version(true), true, nil
		}
		if r, err = s.quarantine(name, r, v, err); err != nil {
			return nil, Version{}, false, err
		}
	}
}

// quarantine takes version v out of service and activates the one before it.
func (s *Store) quarantine(name string, r *record, v *storedVersion, cause error) (*record, error) {
	path := filepath.Join(s.dir, name, fileOf(v.Digest))
	if err := os.Rename(path, path+corruptMark); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("schema store: %w", err)
	}
	next := r.clone()
	next.Active = 0
	if before := r.before(v); before != nil {
		next.Active = before.Number
	}
	next.Versions = slices.DeleteFunc(next.Versions, func(o storedVersion) bool { return o.Digest == v.Digest })
	served := "no other version is left: push the schema again"
	if next.Active != 0 {
		served = fmt.Sprintf("version %d is served", next.Active)
	}
	next.Fault = fmt.Sprintf("version %d is corrupt (%v) and was set aside: %s", v.Number, cause, served)
	return next, s.save(name, next)
}

// load reads and checks the file of one version.
func (s *Store) load(name string, v *storedVersion) (*Set, error) {
	data, err := os.ReadFile(filepath.Join(s.dir, name, fileOf(v.Digest))) //nolint:gosec // below the store's own folder
	if err != nil {
		if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
			return nil, pathErr.Err
		}
		return nil, err
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != v.SHA256 {
		return nil, errors.New("the file is not the one that was written")
	}
	set, err := DescriptorSet(data, unlimited())
	if err != nil {
		return nil, err
	}
	set.Digest = v.Digest // as recorded: another version of this program may encode options otherwise
	return set, nil
}

// intact says that a version's file is still what was written.
func (s *Store) intact(name string, v *storedVersion) bool {
	data, err := os.ReadFile(filepath.Join(s.dir, name, fileOf(v.Digest))) //nolint:gosec // below the store's own folder
	if err != nil {
		return false
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]) == v.SHA256
}

// List returns the schemas, by name.
func (s *Store) List() []Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Entry, 0, len(s.names))
	for name, r := range s.names {
		e := Entry{Name: name, Versions: len(r.Versions), Fault: r.Fault}
		if v := r.active(); v != nil {
			e.Active = v.version(true)
		}
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// Versions returns the kept versions of a schema, newest first.
func (s *Store) Versions(name string) ([]Version, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.record(name)
	if err != nil {
		return nil, err
	}
	versions := make([]Version, 0, len(r.Versions))
	for _, v := range slices.Backward(r.Versions) {
		versions = append(versions, v.version(v.Number == r.Active))
	}
	return versions, nil
}

// Rollback makes version to active again, or, with 0, the one that was active before the active one. A version whose
// file is corrupt is refused and nothing changes.
func (s *Store) Rollback(name string, to int) (Version, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.record(name)
	if err != nil {
		return Version{}, err
	}
	var v *storedVersion
	if to == 0 {
		if active := r.active(); active == nil {
			return Version{}, fmt.Errorf("schema %s has no active version", name)
		} else if v = r.before(active); v == nil {
			return Version{}, fmt.Errorf("schema %s has no version before %d; kept: %s", name, active.Number, r.numbers())
		}
	} else if v = r.find(to); v == nil {
		return Version{}, fmt.Errorf("schema %s has no version %d; kept: %s", name, to, r.numbers())
	}
	if _, err := s.load(name, v); err != nil {
		return Version{}, fmt.Errorf("schema %s: version %d is corrupt: %w", name, v.Number, err)
	}
	next := r.clone()
	next.Active = v.Number
	if err := s.save(name, next); err != nil {
		return Version{}, err
	}
	return v.version(true), nil
}

func (s *Store) record(name string) (*record, error) {
	if r := s.names[name]; r != nil {
		return r, nil
	}
	names := make([]string, 0, len(s.names))
	for n := range s.names {
		names = append(names, n)
	}
	slices.Sort(names)
	return nil, fmt.Errorf("no schema %q was pushed%s", name, schema.DidYouMean(name, names))
}

// save writes the record of a schema and, when that has succeeded, puts it in place.
func (s *Store) save(name string, r *record) error {
	data, err := r.marshal()
	if err != nil {
		return fmt.Errorf("schema store: %w", err)
	}
	if err := writeFile(filepath.Join(s.dir, name, recordFile), data); err != nil {
		return fmt.Errorf("schema store: %w", err)
	}
	s.names[name] = r
	return nil
}

// size counts what the set declares, without the files of the bundle.
func size(set *Set, compiled *schema.Schema) (services, methods, messages int) {
	for _, sv := range compiled.Services() {
		services++
		methods += len(sv.Methods)
	}
	for _, fd := range set.Files.GetFile() {
		if bundled().files[fd.GetName()] == nil {
			messages += countMessages(fd.GetMessageType())
		}
	}
	return services, methods, messages
}

// pack is the file of a set: gzip without a time, so that equal sets have equal files.
func pack(set *Set) ([]byte, error) {
	raw, err := proto.MarshalOptions{Deterministic: true, AllowPartial: true}.Marshal(set.Files)
	if err != nil {
		return nil, plain(err)
	}
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	if _, err := zw.Write(raw); err != nil {
		return nil, err
	}
	if err := zw.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func fileOf(digest string) string { return strings.TrimPrefix(digest, "sha256:") + setSuffix }
