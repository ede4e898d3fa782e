//go:build unix

package proxy

import (
	"math"
	"syscall"
)

// files is how many files the process may have open.
func files() int64 {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil || l.Cur > math.MaxInt32 {
		return math.MaxInt32
	}
	return int64(l.Cur) // whose type differs among systems
}
