// Package config is the gateway's document: it reads YAML into the configuration message, says everything that is wrong
// with it at once and where, fills in the defaults, and tells when its files change.
//
// A document is the ProtoJSON form of causeway.config.v1.Config written as YAML, read strictly: what the message does
// not have is refused.
package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
)

// Types are the messages that the configuration leaves to plugins and protocols.
type Types struct {
	Plugins     Messages // their configurations
	Credentials Messages // what consumers show to them
	Adapters    Messages // the options of services by the protocol they speak
	Protocols   Messages // the options of listeners by what is spoken there
}

// Messages gives messages by the name that they are of; nil: it takes none. They are those of generated Go.
type Messages map[string]protoreflect.MessageDescriptor

// Document is a configuration and where its values stand. It is not changed once made, and safe for concurrent use.
type Document struct {
	// Config has its defaults filled in and its relative paths joined with Dir. It is nil when Load or Parse
	// returned an error. It is the caller's to read, not to change.
	Config *configv1.Config
	// Files are all files and folders that were read or should have been, to be watched; those named in ${file:...} too.
	Files []string
	// Dir is the folder that relative paths start from.
	Dir string

	root    *place
	secrets []string
}

// New makes a document of a configuration that the program itself has put together. Relative paths start from dir. c is
// copied. Faults of such a document have no position; Validate reports them.
func New(c *configv1.Config, dir string) *Document {
	d := &Document{Config: proto.CloneOf(c), Dir: dir, root: &place{index: -1}}
	d.finish()
	return d
}

// Load reads a file, or a folder whose *.yaml and *.yml files are the fragments of one document, in the order of their
// names. The error is a Faults with everything that is wrong. The document is never nil: after an error its Files say
// what to watch, and its Config is nil.
func Load(path string, types Types) (*Document, error) {
	d := &Document{Files: []string{path}, Dir: filepath.Dir(path), root: &place{index: -1}}
	info, err := os.Stat(path)
	if err != nil {
		return d, Faults{unreadable(path, err).WithFix("name the configuration file, or a folder of fragments, with -c")}
	}
	if !info.IsDir() {
		src, err := readFile(path, maxDocument)
		if err != nil {
			return d, Faults{unreadable(path, err)}
		}
		return d, d.read([]fragment{{path, src}}, types)
	}
	d.Dir = path
	entries, err := os.ReadDir(path)
	if err != nil {
		return d, Faults{unreadable(path, err)}
	}
	var fragments []fragment
	var faults Faults
	for _, e := range entries { // sorted by name
		if !isFragment(e) {
			continue
		}
		name := filepath.Join(path, e.Name())
		d.Files = append(d.Files, name)
		src, err := readFile(name, maxDocument)
		if err != nil {
			faults = append(faults, unreadable(name, err))
			continue
		}
		fragments = append(fragments, fragment{name, src})
	}
	if len(faults) > 0 {
		return d, faults.sorted()
	}
	if len(fragments) == 0 {
		return d, Faults{{File: path, Message: "no *.yaml or *.yml file in this folder", Fix: "put one there: " + minimal}}
	}
	return d, d.read(fragments, types)
}

// isFragment reports whether a folder's entry is a part of the document. Hidden files are those of editors and of mounts.
func isFragment(e fs.DirEntry) bool {
	ext := filepath.Ext(e.Name())
	return !e.IsDir() && (ext == ".yaml" || ext == ".yml") && !strings.HasPrefix(e.Name(), ".")
}

// Parse reads one document from memory. name stands in faults, and its folder is where relative paths start. Error and
// document are as with Load.
func Parse(name string, src []byte, types Types) (*Document, error) {
	d := &Document{Dir: filepath.Dir(name), root: &place{index: -1}}
	if len(src) > maxDocument {
		return d, Faults{unreadable(name, errTooLarge{maxDocument})}
	}
	return d, d.read([]fragment{{name, src}}, types)
}

// Fault makes a fault at the value with the field path ("routes[0].service"), or at the nearest value around it that has
// a position. Arguments that came from ${...} are masked.
func (d *Document) Fault(path, format string, args ...any) *Fault {
	masked := slices.Clone(args)
	for i, a := range masked {
		if s, ok := a.(string); ok && slices.Contains(d.secrets, s) {
			masked[i] = mask
		}
	}
	at, _ := d.root.find(path)
	f := at.where().fault(path, prefixed(path, d.scrub(fmt.Sprintf(format, masked...))))
	d.maskLines(f)
	return f
}

// Validate reports everything about the values that can be known without descriptors and without the network. Load and
// Parse have done it. Types without plugins: their names are not looked at. The error is a Faults.
func (d *Document) Validate(types Types) error { return check(d, d.Config, types).sorted() }

func prefixed(path, message string) string {
	if path == "" {
		return message
	}
	return path + ": " + message
}

const mask = "***"

// scrub takes secrets out of a text that was made by somebody else, such as an error of the operating system. Those of
// less than four characters are left: they would tear holes into words.
func (d *Document) scrub(s string) string {
	for _, secret := range d.secrets {
		if len(secret) >= 4 {
			s = strings.ReplaceAll(s, secret, mask)
		}
	}
	return s
}

// maskLines masks secrets in the lines that a fault shows: those of other values too, for they stand where the fault is. Masks are
// as long as what they hide, so that columns stay right.
func (d *Document) maskLines(f *Fault) {
	for _, secret := range d.secrets { // the longest first: one may be a part of another
		if len(secret) < 4 || !strings.Contains(f.Source, secret) && !strings.Contains(f.Before, secret) {
			continue
		}
		stars := strings.Repeat("*", utf8.RuneCountInString(secret))
		f.Source, f.Before = strings.ReplaceAll(f.Source, secret, stars), strings.ReplaceAll(f.Before, secret, stars)
	}
}

// The bounds of what is read.
const (
	maxDocument = 16 << 20 // bytes of one fragment
	maxSecret   = 1 << 20  // bytes of a ${file:...}
)

type errTooLarge struct{ limit int }

func (e errTooLarge) Error() string { return fmt.Sprintf("larger than %d bytes", e.limit) }

// readFile reads a file up to limit bytes. A pipe (bash's <(...)) is read to its end.
func readFile(name string, limit int) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, errors.New("is a folder")
	}
	f, err := os.Open(name) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(b) > limit {
		return nil, errTooLarge{limit}
	}
	return b, nil
}

func unreadable(name string, err error) *Fault {
	return &Fault{File: name, Message: "cannot be read: " + reason(err), cause: err}
}

// reason is an error of the operating system without the operation and path that a fault names itself.
func reason(err error) string {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err.Error()
	}
	return err.Error()
}
