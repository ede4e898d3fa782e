//go:build !unix

package server

import (
	"errors"
	"syscall"
)

// passing tells whether accepting may succeed again later: descriptors are used up, or a client has left too early.
func passing(err error) bool {
	for _, e := range [...]error{syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED, syscall.ECONNRESET} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
