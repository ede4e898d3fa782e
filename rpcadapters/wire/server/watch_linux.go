package server

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// descriptor is a connection's file descriptor; -1 if it has none.
func descriptor(nc net.Conn) int32 {
	s, ok := nc.(syscall.Conn)
	if !ok {
		return -1
	}
	rc, err := s.SyscallConn()
	if err != nil {
		return -1
	}
	found := int32(-1)
	if err := rc.Control(func(fd uintptr) { found = int32(fd) }); err != nil { //nolint:gosec // descriptors are small
		return -1
	}
	return found
}

// poller asks the kernel about many connections at once.
type poller struct {
	fds []unix.PollFd
}

// look tells those whose client has closed its side. A descriptor that has been closed meanwhile may be another
// connection's by now; the one that is told of it has ended then, and does not mind.
func (p *poller) look(conns []*conn) {
	const closed = unix.POLLRDHUP | unix.POLLHUP | unix.POLLERR
	p.fds = p.fds[:0]
	for _, c := range conns {
		if c.watch.peek != nil {
			c.watch.peek.look(c.tell)
		}
		p.fds = append(p.fds, unix.PollFd{Fd: c.watch.fd, Events: unix.POLLRDHUP}) // passed over where there is none
	}
	if n, err := unix.Poll(p.fds, 0); err != nil || n == 0 {
		return // interrupted: the next tick asks again
	}
	for i, c := range conns {
		if p.fds[i].Revents&closed != 0 {
			c.tell()
		}
	}
}
