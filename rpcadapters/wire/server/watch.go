package server

import (
	"errors"
	"net"
	"os"
	"sync"
)

// watcher looks whether the client of a connection is still there: by the connection's descriptor where the kernel can be
// asked, else by a read in the background.
type watcher struct {
	fd   int32 // -1: none
	peek *peeker
}

// init makes the watcher ready and returns the connection to use.
func (w *watcher) init(nc net.Conn) net.Conn {
	if w.fd = descriptor(nc); w.fd >= 0 {
		return nc
	}
	w.peek = &peeker{Conn: nc}
	w.peek.done.L = &w.peek.mu
	return w.peek
}

// tell tells what serves the connection that its client has gone. A panic there ends nothing else.
func (c *conn) tell() {
	defer c.s.survive("panic while a call was told that its client has gone")
	if p := c.serving(); p != nil {
		p.Gone()
	}
}

// peeker is a connection on which somebody may read ahead one byte, to see whether its end comes. Reads wait for that, and
// get the byte or the error.
type peeker struct {
	net.Conn

	mu      sync.Mutex
	done    sync.Cond
	reading bool // Read is under way: it will see the end itself
	peeking bool
	have    bool
	ahead   byte
	err     error
}

// Read implements net.Conn.
func (p *peeker) Read(b []byte) (int, error) {
	if n, err := p.begin(b); n > 0 || err != nil {
		return n, err
	}
	n, err := p.Conn.Read(b)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reading = false
	return n, err
}

// begin waits for a look ahead and takes what it brought, or marks that a read begins.
func (p *peeker) begin(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.peeking {
		p.done.Wait()
	}
	if p.have && len(b) > 0 {
		b[0], p.have = p.ahead, false
		return 1, nil
	}
	err := p.err
	p.err = nil
	p.reading = err == nil
	return 0, err
}

// look begins to look ahead, and calls gone when the end of the connection comes.
func (p *peeker) look(gone func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reading || p.peeking || p.have || p.err != nil {
		return
	}
	p.peeking = true
	go func() {
		if p.ahead1() {
			gone()
		}
	}()
}

// ahead1 reads one byte and tells whether the end came instead.
func (p *peeker) ahead1() (ended bool) {
	var b [1]byte
	n, err := p.Conn.Read(b[:])
	p.mu.Lock()
	defer p.mu.Unlock()
	p.peeking = false
	p.have, p.ahead = n > 0, b[0]
	if n == 0 {
		p.err = err
	}
	p.done.Broadcast()
	return n == 0 && err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

// CloseWrite ends the sending side, where the connection has sides.
func (p *peeker) CloseWrite() error {
	if c, ok := p.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}
