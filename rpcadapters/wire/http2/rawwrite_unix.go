//go:build unix

package http2

import "syscall"

const rawWrites = true

// rawWrite writes what the socket takes; again: it takes nothing now.
func rawWrite(fd uintptr, p []byte) (n int, again bool, err error) {
	for {
		n, err = syscall.Write(int(fd), p)
		switch err {
		case nil:
			return n, n == 0, nil
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return 0, true, nil
		}
		return 0, false, err
	}
}
