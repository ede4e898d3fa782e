package jsonwire

import "unsafe"

// view is b as a string without a copy, for calls that neither keep it nor outlive b: parsers of numbers and times, map
// lookups. It must not be stored.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
