//go:build linux && !386 && !s390x && !race && !msan && !asan

package socket

import (
	"syscall"
	"unsafe"
)

const supported = true

// read reads into p, which is not empty, what is there; again: nothing is. 0 is the end.
func read(fd uintptr, p []byte) (n int, again bool, err error) {
	return call(syscall.SYS_RECVFROM, fd, p, syscall.MSG_DONTWAIT)
}

// write writes what the socket takes of p, which is not empty; again: it takes nothing now.
func write(fd uintptr, p []byte) (n int, again bool, err error) {
	return call(syscall.SYS_SENDTO, fd, p, syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
}

// call is recvfrom(2) or sendto(2) without an address, which come to the socket sooner than read(2) and write(2).
// RawSyscall6 keeps what it is given alive, and p where it is.
func call(trap, fd uintptr, p []byte, flags uintptr) (n int, again bool, err error) {
	for {
		r, _, errno := syscall.RawSyscall6(trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), flags, 0, 0)
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
