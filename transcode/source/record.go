package source

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/descriptorpb"
)

// record is versions.json: what a Store knows of one schema. It is never changed once it is in a Store.
type record struct {
	Active   int             `json:"active"` // its number; 0: none
	Last     int             `json:"last"`   // the highest number given out
	Fault    string          `json:"fault,omitempty"`
	Versions []storedVersion `json:"versions"` // oldest first
}

type storedVersion struct {
	Number   int       `json:"number"`
	Previous int       `json:"previous,omitempty"` // the version that was active when this one was pushed
	Digest   string    `json:"digest"`
	SHA256   string    `json:"file_sha256"`
	Created  time.Time `json:"created"`
	From     string    `json:"from,omitempty"`
	Services int       `json:"services"`
	Methods  int       `json:"methods"`
	Messages int       `json:"messages"`
}

func (v *storedVersion) version(active bool) Version {
	return Version{
		Number: v.Number, Digest: v.Digest, Created: v.Created, From: v.From, Active: active,
		Services: v.Services, Methods: v.Methods, Messages: v.Messages,
	}
}

var digestForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// parseRecord reads versions.json. Digests name files, so nothing but a digest may stand there.
func parseRecord(data []byte) (*record, error) {
	r := &record{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, err
	}
	last := 0
	for _, v := range r.Versions {
		if v.Number <= last {
			return nil, fmt.Errorf("version %d stands after %d", v.Number, last)
		}
		if !digestForm.MatchString(v.Digest) {
			return nil, fmt.Errorf("version %d has no sha256 digest", v.Number)
		}
		last = v.Number
	}
	if r.Last < last {
		return nil, fmt.Errorf("the last version is %d, but %d is kept", r.Last, last)
	}
	if r.Active != 0 && r.find(r.Active) == nil {
		return nil, fmt.Errorf("version %d is active, but is not kept", r.Active)
	}
	return r, nil
}

func (r *record) marshal() ([]byte, error) {
	data, err := json.MarshalIndent(r, "", "  ")
	return append(data, '\n'), err
}

func (r *record) clone() *record {
	c := *r
	c.Versions = slices.Clone(r.Versions)
	return &c
}

func (r *record) find(number int) *storedVersion {
	for i := range r.Versions {
		if r.Versions[i].Number == number {
			return &r.Versions[i]
		}
	}
	return nil
}

func (r *record) active() *storedVersion {
	if r.Active == 0 {
		return nil
	}
	return r.find(r.Active)
}

// before is the version that was active before v and is kept with other content, else the newest such version with a
// lower number; or nil.
func (r *record) before(v *storedVersion) *storedVersion {
	if p := r.find(v.Previous); p != nil && p.Digest != v.Digest {
		return p
	}
	for i := range slices.Backward(r.Versions) {
		if p := &r.Versions[i]; p.Number < v.Number && p.Digest != v.Digest {
			return p
		}
	}
	return nil
}

func (r *record) withDigest(digest string) *storedVersion {
	for i := range r.Versions {
		if r.Versions[i].Digest == digest {
			return &r.Versions[i]
		}
	}
	return nil
}

func (r *record) numbers() string {
	if len(r.Versions) == 0 {
		return "none"
	}
	n := make([]string, len(r.Versions))
	for i, v := range r.Versions {
		n[i] = strconv.Itoa(v.Number)
	}
	return strings.Join(n, ", ")
}

func countMessages(ms []*descriptorpb.DescriptorProto) int {
	n := 0
	for _, m := range ms {
		if !m.GetOptions().GetMapEntry() {
			n += 1 + countMessages(m.GetNestedType())
		}
	}
	return n
}

// writeFile replaces path as a whole: a process killed at any point leaves the old file or the new one.
func writeFile(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, tempPrefix+"*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncFolder(dir)
}

// syncFolder makes renames in dir outlive a power cut.
func syncFolder(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // the store's own folder
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
