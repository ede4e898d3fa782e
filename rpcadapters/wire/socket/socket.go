// Package socket reads and writes plain sockets with as little ado as they allow: what the kernel has or takes at once is
// moved in one system call that the scheduler is not told of.
//
// The scheduler counts on system calls that wait. Around each of them it makes itself ready to give the caller's processor
// to another thread, and wakes the thread that would do so every 20 us. A socket of the network poller never waits, so all
// of that is for nothing; where a call of the gateway costs 10 us it is a tenth of it.
package socket

import (
	"io"
	"net"
	"os"
	"syscall"
)

// plain returns the way to the socket under c; nil where there is something else in between, like TLS, or where this platform
// has no such way.
func plain(c net.Conn) syscall.RawConn {
	switch c.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return nil
	}
	sc, ok := c.(syscall.Conn)
	if !ok || !supported {
		return nil
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return rc
}

// NewReader returns what reads from c: c itself where plain has no way. It is used by one goroutine at a time; deadlines
// and closing are c's, and end a Read that waits as they end one of c's own.
func NewReader(c net.Conn) io.Reader {
	rc := plain(c)
	if rc == nil {
		return c
	}
	r := &reader{rc: rc}
	r.try = r.attempt
	return r
}

type reader struct {
	rc  syscall.RawConn
	try func(fd uintptr) bool // made once: a closure per read would be an allocation
	p   []byte
	n   int
	err error
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	r.p, r.n, r.err = p, 0, nil
	err := r.rc.Read(r.try)
	r.p = nil
	switch {
	case err != nil:
		return 0, err
	case r.err != nil:
		return 0, os.NewSyscallError("read", r.err)
	case r.n == 0:
		return 0, io.EOF
	}
	return r.n, nil
}

func (r *reader) attempt(fd uintptr) bool {
	var again bool
	r.n, again, r.err = read(fd, r.p)
	return !again
}

// NewWriter returns what writes to c without waiting; nil where plain has no way.
func NewWriter(c net.Conn) *Writer {
	rc := plain(c)
	if rc == nil {
		return nil
	}
	w := &Writer{rc: rc}
	w.try = w.attempt
	return w
}

// Writer writes to a socket what the kernel takes at once. It is used by one goroutine at a time.
type Writer struct {
	rc  syscall.RawConn
	try func(fd uintptr) bool
	p   []byte
	n   int
	err error
}

// Write returns how much of p was taken; less than all of it is no error. It does not hold p.
func (w *Writer) Write(p []byte) (int, error) {
	w.p, w.n, w.err = p, 0, nil
	err := w.rc.Write(w.try)
	n := w.n
	if err == nil && w.err != nil {
		err = os.NewSyscallError("write", w.err)
	}
	w.p = nil
	return n, err
}

func (w *Writer) attempt(fd uintptr) bool {
	for w.n < len(w.p) {
		n, again, err := write(fd, w.p[w.n:])
		if err != nil {
			w.err = err
			break
		}
		if again {
			break
		}
		w.n += n
	}
	return true
}
