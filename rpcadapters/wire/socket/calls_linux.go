//go:build linux && !race && !msan && !asan

package socket

import (
	"syscall"
	"unsafe"
)

const supported = true

// read reads into p, which is not empty, what is there; again: nothing is. 0 is the end.
func read(fd uintptr, p []byte) (n int, again bool, err error) { return call(syscall.SYS_READ, fd, p) }

// write writes what the socket takes of p, which is not empty; again: it takes nothing now.
func write(fd uintptr, p []byte) (n int, again bool, err error) {
	return call(syscall.SYS_WRITE, fd, p)
}

// call is read(2) or write(2). RawSyscall keeps what it is given alive, and p where it is.
func call(trap, fd uintptr, p []byte) (n int, again bool, err error) {
	for {
		r, _, errno := syscall.RawSyscall(trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		switch errno {
		case 0:
			return int(r), false, nil
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return 0, true, nil
		}
		return 0, false, errno
	}
}
