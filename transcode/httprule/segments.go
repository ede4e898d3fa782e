package httprule

import "errors"

// AppendSegments splits a raw request path.
func AppendSegments(dst []string, path string) ([]string, error) { return dst, errors.ErrUnsupported }
