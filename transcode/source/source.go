// Package source says where descriptors come from: descriptor sets, .proto files, .tars files, a live server's reflection,
// and the versions that were pushed and are kept on disk. Whatever the source, what comes out has passed the same checks
// and is closed in itself.
package source

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Limits bound what a source may bring. A zero field takes its default.
type Limits struct {
	MaxBytes    int64 // of the descriptor set, unpacked, or of the .proto files together; default 16 MiB
	MaxFiles    int   // default 5,000
	MaxMessages int   // default 50,000
	MaxFields   int   // extensions included; default 500,000
	MaxNesting  int   // of message declarations; default 32, at most 1,000
}

func (l Limits) withDefaults() Limits {
	if l.MaxBytes <= 0 {
		l.MaxBytes = 16 << 20
	}
	if l.MaxFiles <= 0 {
		l.MaxFiles = 5_000
	}
	if l.MaxMessages <= 0 {
		l.MaxMessages = 50_000
	}
	if l.MaxFields <= 0 {
		l.MaxFields = 500_000
	}
	if l.MaxNesting <= 0 {
		l.MaxNesting = 32
	}
	l.MaxNesting = min(l.MaxNesting, deepest)
	return l
}

// unlimited is for what has been accepted before: the versions in a Store.
func unlimited() Limits {
	return Limits{
		MaxBytes:    math.MaxInt64 - 1,
		MaxFiles:    math.MaxInt32,
		MaxMessages: math.MaxInt32,
		MaxFields:   math.MaxInt32 / otherPerField,
		MaxNesting:  deepest,
	}
}

// Set is a checked descriptor set: every import is in it, files stand after those they import, the well-known types
// and google.api.http are the built-in ones. Read-only and safe for concurrent use.
type Set struct {
	Files *descriptorpb.FileDescriptorSet
	// Digest is "sha256:<hex>" over the files in a fixed order and encoding, without source info and without
	// protobuf's own files, those of google.api.http and the options of TARS.
	Digest string
	// Watch are the files and folders the set was read from, for a file watcher. Empty for reflection and for bytes.
	Watch []string
	// Warnings are about what is legal and may not be what was meant, one a line, for a log.
	Warnings []string

	schema *schema.Schema
}

// Schema is the set compiled into the tables that codecs and routers read. Calls return the same Schema.
func (s *Set) Schema() (*schema.Schema, error) {
	if s.schema == nil {
		return nil, fmt.Errorf("descriptor set %s was not made by this package", s.Digest)
	}
	return s.schema, nil
}
