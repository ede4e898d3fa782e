// Package tarsidl compiles the interface description of TARS (.tars) to protobuf descriptors, with options
// (causeway.tars.v1) that say how each message is written in TARS.
//
// A module becomes a package in one file, a struct a message, an interface a service. A tag t is the field number t + 1,
// for members, parameters and the return value alike; names are those of the IDL, in protobuf and in JSON. Scalars and
// enums are proto3 optional, so that "not given" is known and defaults can be filled in. What protobuf cannot say
// directly becomes a message that an option marks: vectors and maps inside others, and maps whose keys protobuf does not
// allow.
package tarsidl

import (
	"errors"
	"fmt"
	"slices"
)

// maxFaults bounds how many faults one error tells.
const maxFaults = 100

// Error is a fault in a file.
type Error struct {
	File         string // as File.Path has it
	Line, Column int    // 1-based, in bytes
	Message      string // what was wanted and what was found
}

// Error returns the message with its place.
func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

// faults collects errors in the order of places within a file; files stand in the order in which they were read.
type faults struct {
	list  []*Error
	files map[string]int
}

func (f *faults) add(file *file, at position, format string, args ...any) {
	if f.files == nil {
		f.files = map[string]int{}
	}
	if _, ok := f.files[file.path]; !ok {
		f.files[file.path] = len(f.files)
	}
	f.list = append(f.list, &Error{File: file.path, Line: at.line, Column: at.column, Message: fmt.Sprintf(format, args...)})
}

// err is what was collected as one error, or nil.
func (f *faults) err() error {
	if len(f.list) == 0 {
		return nil
	}
	slices.SortStableFunc(f.list, func(a, b *Error) int {
		if d := f.files[a.File] - f.files[b.File]; d != 0 {
			return d
		}
		if d := a.Line - b.Line; d != 0 {
			return d
		}
		return a.Column - b.Column
	})
	errs := make([]error, 0, min(len(f.list), maxFaults)+1)
	for i, e := range f.list {
		if i == maxFaults {
			errs = append(errs, fmt.Errorf("and %d more", len(f.list)-i))
			break
		}
		errs = append(errs, e)
	}
	return errors.Join(errs...)
}
