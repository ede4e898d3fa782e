package source

import (
	"context"
	"crypto/tls"
	"errors"
	"time"
)

const (
	otherPerField = 2
	deepest       = 1000
)

var errNotBuilt = errors.New("not built yet")

func DescriptorSet(data []byte, l Limits) (*Set, error)     { return nil, errNotBuilt }
func DescriptorSetFile(path string, l Limits) (*Set, error) { return nil, errNotBuilt }
func Proto(ctx context.Context, paths, importRoots []string, l Limits) (*Set, error) {
	return nil, errNotBuilt
}
func Reflect(ctx context.Context, target string, tlsConfig *tls.Config, l Limits) (*Set, error) {
	return nil, errNotBuilt
}

// Store keeps versions of pushed schemas on disk.
type Store struct{ dir string }

// Version is one pushed version.
type Version struct {
	Number                      int
	Digest                      string
	Created                     time.Time
	From                        string
	Active                      bool
	Services, Methods, Messages int
}

// Entry is one schema of a Store.
type Entry struct {
	Name     string
	Active   Version // the zero Version when none can be served
	Versions int     // how many are kept
	Fault    string  // what was found corrupt and set aside since the last push or rollback; or ""
}

func OpenStore(dir string) (*Store, error) { return nil, errNotBuilt }
func (s *Store) Push(name string, set *Set, from string, now time.Time) (Version, error) {
	return Version{}, errNotBuilt
}
func (s *Store) Active(name string) (*Set, Version, bool, error) {
	return nil, Version{}, false, errNotBuilt
}
func (s *Store) List() []Entry                                 { return nil }
func (s *Store) Versions(name string) ([]Version, error)       { return nil, errNotBuilt }
func (s *Store) Rollback(name string, to int) (Version, error) { return Version{}, errNotBuilt }
