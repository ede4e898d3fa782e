package framed

import "syscall"

// tcpUserTimeout is TCP_USER_TIMEOUT of linux/tcp.h: how long what was sent may stay unacknowledged.
const tcpUserTimeout = 18

const userTimeoutMillis = 3000

func control(_, _ string, c syscall.RawConn) error {
	var err error
	if cerr := c.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, userTimeoutMillis)
	}); cerr != nil {
		return cerr
	}
	return err
}
