//go:build !linux

package server

import "net"

// descriptor is -1: there is no POLLRDHUP, so every connection is looked at by reading.
func descriptor(net.Conn) int32 { return -1 }

// poller looks at connections one by one.
type poller struct{}

// look tells those whose client has closed its side.
func (*poller) look(conns []*conn) {
	for _, c := range conns {
		if c.watch.peek != nil {
			c.watch.peek.look(c.tell)
		}
	}
}
