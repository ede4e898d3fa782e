package upstream

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/causeway-gateway/causeway/registry"
)

// Shelf keeps what sources said for a start at which they say nothing. Names are of any form. It is safe for concurrent use.
type Shelf interface {
	// Load returns the last set and when it was saved; ErrNoSnapshot when there is none.
	Load(name string) (registry.Set, time.Time, error)
	Save(name string, set registry.Set) error
}

// ErrNoSnapshot says that the shelf has nothing under a name.
var ErrNoSnapshot = errors.New("there is no snapshot")

const (
	shelfVersion = 1
	// mostShelved bounds the instances of one snapshot, and shelfBytes its file.
	mostShelved = 20_000
	shelfBytes  = 64 << 20
)

// NewShelf makes a shelf of a folder, which is made when something is saved first: one file per name, replaced as a whole.
func NewShelf(dir string) Shelf {
	d := &disk{dir: dir}
	d.sweep()
	return d
}

// disk is a Shelf in a folder.
type disk struct {
	dir string
	mu  sync.Mutex // one writer at a time
}

// snapshot is the content of a file.
type snapshot struct {
	Version  int             `json:"version"`
	Name     string          `json:"name"`
	Saved    time.Time       `json:"saved"`
	Checksum string          `json:"checksum"` // of Set without insignificant space
	Set      json.RawMessage `json:"set"`
}

type shelvedSet struct {
	Service   string            `json:"service"`
	Endpoints []shelvedEndpoint `json:"endpoints"`
}

type shelvedEndpoint struct {
	ID         string            `json:"id"`
	Address    string            `json:"address"`
	Zone       string            `json:"zone,omitempty"`
	Weight     uint32            `json:"weight"`
	Status     string            `json:"status,omitempty"`
	Protocol   string            `json:"protocol,omitempty"`
	TLS        bool              `json:"tls,omitempty"`
	Unverified bool              `json:"unverified,omitempty"`
	Meta       map[string]string `json:"meta,omitempty"`
}

// file is where a name's snapshot is: readable as far as file systems allow, told apart by a hash.
func (d *disk) file(name string) string {
	sum := sha256.Sum256([]byte(name))
	plain := []byte(name[:min(len(name), 64)])
	for i, c := range plain {
		if c != '-' && c != '_' && c != '.' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') || c == '.' && i == 0 {
			plain[i] = '_'
		}
	}
	return filepath.Join(d.dir, string(plain)+"-"+hex.EncodeToString(sum[:8])+".json")
}

// Load reads a name's snapshot and checks it.
func (d *disk) Load(name string) (registry.Set, time.Time, error) {
	path := d.file(name)
	f, err := os.Open(path) //nolint:gosec // the name is a hash and what is safe of the service's
	if errors.Is(err, fs.ErrNotExist) {
		return registry.Set{}, time.Time{}, ErrNoSnapshot
	}
	if err != nil {
		return registry.Set{}, time.Time{}, fmt.Errorf("snapshot: %w", err)
	}
	defer func() { _ = f.Close() }() // it was read only
	raw, err := io.ReadAll(io.LimitReader(f, shelfBytes+1))
	if err != nil {
		return registry.Set{}, time.Time{}, fmt.Errorf("snapshot: read %s: %w", path, err)
	}
	set, saved, err := decodeSnapshot(name, raw)
	if err != nil {
		return registry.Set{}, time.Time{}, fmt.Errorf("snapshot: %s: %w", path, err)
	}
	return set, saved, nil
}

// decodeSnapshot reads and checks a file's content.
func decodeSnapshot(name string, raw []byte) (set registry.Set, saved time.Time, err error) {
	if len(raw) > shelfBytes {
		return set, saved, fmt.Errorf("want at most %d bytes, found more", shelfBytes)
	}
	var file snapshot
	if err := json.Unmarshal(raw, &file); err != nil {
		return set, saved, fmt.Errorf("want a snapshot as JSON: %w", err)
	}
	if file.Version != shelfVersion {
		return set, saved, fmt.Errorf("want version %d, found %d", shelfVersion, file.Version)
	}
	if file.Name != name {
		return set, saved, fmt.Errorf("want the snapshot of %q, found that of %q", name, file.Name)
	}
	sum, err := checksum(file.Set)
	if err != nil {
		return set, saved, err
	}
	if sum != file.Checksum {
		return set, saved, fmt.Errorf("want the checksum %.80q, found %q: the file is damaged", file.Checksum, sum)
	}
	var kept shelvedSet
	if err := json.Unmarshal(file.Set, &kept); err != nil {
		return set, saved, fmt.Errorf("want a set as JSON: %w", err)
	}
	if len(kept.Endpoints) > mostShelved {
		return set, saved, fmt.Errorf("want at most %d instances, found %d", mostShelved, len(kept.Endpoints))
	}
	endpoints := make([]registry.Endpoint, 0, len(kept.Endpoints))
	for _, e := range kept.Endpoints {
		status, err := parseStatus(e.Status)
		if err != nil {
			return set, saved, err
		}
		if e.Address == "" {
			return set, saved, fmt.Errorf("want the address of the instance %q, found none", e.ID)
		}
		endpoints = append(endpoints, registry.Endpoint{
			ID: e.ID, Address: e.Address, Zone: e.Zone, Weight: e.Weight, Status: status,
			Protocol: e.Protocol, TLS: e.TLS, Unverified: e.Unverified, Meta: e.Meta,
		})
	}
	set, err = registry.NewSet(kept.Service, 0, endpoints)
	return set, file.Saved, err
}

func parseStatus(s string) (registry.Status, error) {
	for _, status := range []registry.Status{registry.Up, registry.Starting, registry.Draining, registry.Down} {
		if s == status.String() || s == "" && status == registry.Up {
			return status, nil
		}
	}
	return registry.Down, fmt.Errorf("want a status, found %.40q", s)
}

// checksum is that of JSON without the space that means nothing.
func checksum(set json.RawMessage) (string, error) {
	var plain bytes.Buffer
	if err := json.Compact(&plain, set); err != nil {
		return "", fmt.Errorf("want a set as JSON: %w", err)
	}
	sum := sha256.Sum256(plain.Bytes())
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

// encodeSnapshot makes a file's content. Of several endpoints with one ID the first is kept.
func encodeSnapshot(name string, set registry.Set, now time.Time) ([]byte, error) {
	if len(set.Endpoints) > mostShelved {
		return nil, fmt.Errorf("snapshot: want at most %d instances of %s, found %d", mostShelved, name, len(set.Endpoints))
	}
	kept := shelvedSet{Service: set.Service, Endpoints: make([]shelvedEndpoint, 0, len(set.Endpoints))}
	ids := make(map[string]struct{}, len(set.Endpoints))
	for _, e := range set.Endpoints {
		if _, twice := ids[e.ID]; twice {
			continue
		}
		ids[e.ID] = struct{}{}
		status := ""
		if e.Status != registry.Up {
			status = e.Status.String()
		}
		kept.Endpoints = append(kept.Endpoints, shelvedEndpoint{
			ID: e.ID, Address: e.Address, Zone: e.Zone, Weight: e.Weight, Status: status,
			Protocol: e.Protocol, TLS: e.TLS, Unverified: e.Unverified, Meta: e.Meta,
		})
	}
	raw, err := json.Marshal(kept)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	sum, err := checksum(raw)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	out, err := json.Marshal(snapshot{Version: shelfVersion, Name: name, Saved: now.UTC().Round(0), Checksum: sum, Set: raw})
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	if len(out) > shelfBytes {
		return nil, fmt.Errorf("snapshot: want at most %d bytes for %s, found %d", shelfBytes, name, len(out))
	}
	return out, nil
}

// Save replaces a name's snapshot. When it returns nil, the snapshot outlives a loss of power.
func (d *disk) Save(name string, set registry.Set) error {
	raw, err := encodeSnapshot(name, set, time.Now())
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	path := d.file(name)
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return fmt.Errorf("snapshot: want a folder to write to: %w", err)
	}
	f, err := os.CreateTemp(d.dir, filepath.Base(path)+".*.tmp")
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	_, err = f.Write(raw)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("snapshot: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return d.sync()
}

// sync makes what was renamed last.
func (d *disk) sync() error {
	f, err := os.Open(d.dir)
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	defer func() { _ = f.Close() }() // it was read only
	if err := f.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("snapshot: %w", err)
	}
	return nil
}

// sweep removes what writers have left that were killed while they wrote.
func (d *disk) sweep() {
	left, err := os.ReadDir(d.dir)
	if err != nil {
		return // Save will tell
	}
	left = slices.DeleteFunc(left, func(e fs.DirEntry) bool {
		return !strings.HasSuffix(e.Name(), ".json") && !strings.HasSuffix(e.Name(), ".tmp")
	})
	for _, e := range left {
		info, err := e.Info()
		if err == nil && strings.HasSuffix(e.Name(), ".tmp") && time.Since(info.ModTime()) > time.Hour {
			_ = os.Remove(filepath.Join(d.dir, e.Name())) // or the next start does
		}
	}
}
