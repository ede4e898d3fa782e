package devserver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

const (
	firstPacket = 4 << 10  // bytes that a connect request may have
	fullQueue   = 1 << 20  // bytes of answers after which no further request is read
	maxQueue    = 64 << 20 // bytes after which a client that does not read its events is left
	handshake   = 10 * time.Second
)

// conn is one connection. Its reader executes requests one by one; whatever is sent is queued under the server's lock, so
// the order of the queue is the order of the changes, and its writer empties the queue.
type conn struct {
	s   *Server
	nc  net.Conn
	ids []id // who the client has proved to be

	session  *session // under the server's lock, as is watching
	watching int

	mu     sync.Mutex
	change *sync.Cond // of what follows
	queue  []byte
	last   bool // to be shut when the queue is empty
	closed bool
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{s: s, nc: nc}
	c.change = sync.NewCond(&c.mu)
	if host, _, err := net.SplitHostPort(nc.RemoteAddr().String()); err == nil {
		c.ids = append(c.ids, id{"ip", host})
	}
	return c
}

// shut ends the connection at once.
func (c *conn) shut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.change.Broadcast()
	_ = c.nc.Close()
}

// shutAfterSending ends the connection when what is queued has been sent.
func (c *conn) shutAfterSending() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = true
	c.change.Broadcast()
}

// send queues a packet, whose length build leaves to it. It never blocks.
func (c *conn) send(build func(dst []byte) []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.last {
		return
	}
	at := len(c.queue)
	c.queue = build(append(c.queue, 0, 0, 0, 0))
	binary.BigEndian.PutUint32(c.queue[at:], uint32(len(c.queue)-at-4)) //nolint:gosec // bounded by maxQueue
	if len(c.queue) > maxQueue {
		c.closed = true
		_ = c.nc.Close()
	}
	c.change.Broadcast()
}

func (c *conn) sendConnected(ses *session, knowsReadOnly bool) {
	c.send(func(dst []byte) []byte {
		dst = appendInt32(dst, 0)
		dst = appendInt32(dst, int32(ses.timeout.Milliseconds())) //nolint:gosec // the client's own number or less, or 20 ticks
		dst = appendInt64(dst, ses.id)
		dst = appendBuffer(dst, ses.password[:])
		if knowsReadOnly {
			dst = appendBool(dst, false)
		}
		return dst
	})
}

func (c *conn) sendEvent(e event) {
	c.send(func(dst []byte) []byte {
		dst = appendHeader(dst, -1, -1, ok)
		dst = appendInt32(dst, e.typ)
		dst = appendInt32(dst, 3) // SyncConnected
		return appendString(dst, e.path)
	})
}

func appendHeader(dst []byte, xid int32, zxid int64, err code) []byte {
	return appendInt32(appendInt64(appendInt32(dst, xid), zxid), int32(err))
}

// write empties the queue until the connection is shut.
func (c *conn) write() {
	defer c.shut()
	var out []byte
	for {
		c.mu.Lock()
		for len(c.queue) == 0 && !c.closed && !c.last {
			c.change.Wait()
		}
		if c.closed || len(c.queue) == 0 {
			c.mu.Unlock()
			return
		}
		out, c.queue = c.queue, out[:0]
		c.change.Broadcast()
		c.mu.Unlock()
		_ = c.nc.SetWriteDeadline(time.Now().Add(handshake))
		if _, err := c.nc.Write(out); err != nil {
			return
		}
		if cap(out) > fullQueue {
			out = nil
		}
	}
}

// room waits until the client has read its answers.
func (c *conn) room() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) > fullQueue && !c.closed {
		c.change.Wait()
	}
	return !c.closed && !c.last
}

// read executes what the client asks for, until one of them leaves.
func (c *conn) read() {
	_ = c.nc.SetReadDeadline(time.Now().Add(handshake))
	var head [4]byte
	if _, err := io.ReadFull(c.nc, head[:]); err != nil {
		return
	}
	if answer, is := c.s.word(string(head[:])); is {
		_ = c.nc.SetWriteDeadline(time.Now().Add(handshake))
		_, _ = io.WriteString(c.nc, answer)
		return
	}
	frame, err := c.frame(head, firstPacket)
	if err == nil {
		_ = c.nc.SetReadDeadline(time.Time{}) // from here on the session's timeout ends it
		if !c.s.attach(c, frame) {
			c.shutAfterSending()
			c.drained()
			return
		}
	}
	for err == nil && c.room() {
		if _, err = io.ReadFull(c.nc, head[:]); err != nil {
			break
		}
		if frame, err = c.frame(head, c.s.cfg.MaxPacket); err != nil {
			break
		}
		if !c.s.execute(c, frame) {
			c.shutAfterSending()
			c.drained()
			return
		}
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		c.s.cfg.Log.Debug("connection ended", "error", err)
	}
}

// drained waits until the writer has ended the connection.
func (c *conn) drained() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.closed {
		c.change.Wait()
	}
}

// frame reads the packet whose length is in head.
func (c *conn) frame(head [4]byte, most int) ([]byte, error) {
	n := binary.BigEndian.Uint32(head[:])
	if n > uint32(most) { //nolint:gosec // most is a limit of some MiB
		return nil, fmt.Errorf("devserver: want a packet of at most %d bytes, found %d", most, n)
	}
	frame := make([]byte, n)
	_, err := io.ReadFull(c.nc, frame)
	return frame, err
}

// word answers a four-letter word.
func (s *Server) word(w string) (string, bool) {
	switch w {
	case "ruok":
		return "imok", true
	case "srvr", "stat":
		s.mu.Lock()
		defer s.mu.Unlock()
		var clients strings.Builder
		if w == "stat" {
			clients.WriteString("Clients:\n")
			for c := range s.conns {
				fmt.Fprintf(&clients, " /%s[1](queued=0,recved=0,sent=0)\n", c.nc.RemoteAddr())
			}
			clients.WriteString("\n")
		}
		return fmt.Sprintf("Zookeeper version: 3.8.0-causeway-devserver, built on 11/22/2026 00:00 UTC\n%sLatency min/avg/max: 0/0.0/0\nReceived: %d\nSent: %d\n"+
			"Connections: %d\nOutstanding: 0\nZxid: 0x%x\nMode: standalone\nNode count: %d\n",
			clients.String(), s.requests, s.requests, len(s.conns), s.tree.zxid, len(s.tree.nodes)), true
	}
	return "", false
}
