//go:build unix && (!linux || 386 || s390x || race || msan || asan)

package socket

import (
	"errors"
	"syscall"
)

const supported = true

func read(fd uintptr, p []byte) (n int, again bool, err error) { return call(syscall.Read, fd, p) }

func write(fd uintptr, p []byte) (n int, again bool, err error) { return call(syscall.Write, fd, p) }

// call tells the scheduler, and the detectors that look for races what one goroutine has written before another one read.
func call(f func(int, []byte) (int, error), fd uintptr, p []byte) (n int, again bool, err error) {
	for {
		n, err = f(int(fd), p) //nolint:gosec // a descriptor
		switch {
		case err == nil:
			return n, false, nil
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			return 0, true, nil
		}
		return 0, false, err
	}
}
