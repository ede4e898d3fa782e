package http1

import (
	"net"
	"syscall"
)

// awaitEnd waits, without reading, until c's read deadline has passed.
func awaitEnd(c net.Conn) {
	s, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	rc, err := s.SyscallConn()
	if err != nil {
		return
	}
	_ = rc.Read(func(uintptr) (done bool) { return false }) // the deadline, which is what was waited for
}
