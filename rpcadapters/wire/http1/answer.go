package http1

import (
	"errors"
	"slices"
	"strconv"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// Respond writes the whole answer, head and body in one write where the body is not large. It implements wire.Engine.
// Headers about framing and the connection are the engine's; those it is given are passed over, and so is a header that
// cannot be written: a name that is no token, a value with a control character. A body that nobody read to its end ends
// the connection, unless the rest of it is small and comes at once.
func (c *conn) Respond(status int, header rpc.Metadata, body []byte) error {
	if c.answered {
		return errAnswered
	}
	c.answered, c.ended = true, true
	c.keep = c.mayKeep(c.settled())
	buf := rpc.GetBuffer()
	defer buf.Free()
	b := c.appendHead(buf.B, status, header, false)
	if !bodiless(status) {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, int64(len(body)), 10)
		b = append(b, "\r\n"...)
		if c.headOnly {
			body = nil
		}
	} else {
		body = nil
	}
	b = append(b, "\r\n"...)
	first := min(len(body), copied)
	b = append(b, body[:first]...)
	buf.B = b
	if err := c.write(b); err != nil {
		return err
	}
	if first < len(body) {
		return c.write(body[first:])
	}
	return nil
}

var errAnswered = errors.New("the request has its answer already")

// mayKeep tells whether the connection may live on after the answer that begins now.
func (c *conn) mayKeep(bodyDone bool) bool {
	if c.expect.pending.Load() {
		c.uninvite()
		bodyDone = c.left == 0 && c.chunk == chunkNone // whether one that was not asked for comes or not, nobody knows
	}
	return bodyDone && !c.req.close && !c.rbroken.Load() && !c.leave.Load() && !c.gone.Load()
}

// bodiless tells whether answers of a status have no body and no length.
func bodiless(status int) bool { return status == 204 || status == 304 || status < 200 }

// appendHead appends status line and headers, without the empty line at the end. trailers: the client may be told which
// trailers will follow.
func (c *conn) appendHead(b []byte, status int, header rpc.Metadata, trailers bool) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, ' ')
	b = append(b, phrase(status)...)
	b = append(b, "\r\n"...)
	dated := false
	for i := range header {
		key, value := header[i].Key, header[i].Value
		switch key {
		case "connection", "keep-alive", "transfer-encoding", "content-length", "upgrade", "proxy-connection":
			continue
		case "trailer":
			if !trailers {
				continue
			}
		case "date":
			dated = true
		}
		b = appendField(b, key, value)
	}
	if !dated {
		b = append(b, "Date: "...)
		b = c.p.dates.append(b, c.x.Start)
		b = append(b, "\r\n"...)
	}
	switch {
	case !c.keep:
		b = append(b, "Connection: close\r\n"...)
	case c.req.minor == '0':
		b = append(b, "Connection: keep-alive\r\n"...)
	}
	return b
}

// appendField appends a header or trailer line with the name as HTTP/1.1 spells it, or nothing if it cannot be one.
func appendField(b []byte, key, value string) []byte {
	mark := len(b)
	upper := true
	for i := range len(key) {
		l := lowerToken[key[i]]
		if l == 0 {
			return b[:mark]
		}
		if upper && 'a' <= l && l <= 'z' {
			l -= 'a' - 'A'
		}
		b = append(b, l)
		upper = l == '-'
	}
	if len(b) == mark {
		return b
	}
	b = append(b, ": "...)
	at := len(b)
	b = append(b, value...)
	if unclean(b[at:]) >= 0 {
		return b[:mark]
	}
	return append(b, "\r\n"...)
}

// write sends b. The sweeper sees how long it takes.
func (c *conn) write(b []byte) error {
	c.writes.Add(1)
	var n int
	var err error
	if c.once != nil {
		n, err = c.once.Write(b)
	}
	if err == nil && n < len(b) {
		_, err = c.nc.Write(b[n:])
	}
	c.writes.Add(1)
	if err != nil {
		c.wbroken = true
	}
	return err
}

// WriteHead begins an answer that is written piece by piece: in chunks, or to an HTTP/1.0 client up to the end of the
// connection. It implements wire.Streamer.
func (c *conn) WriteHead(status int, header rpc.Metadata) error {
	if c.answered {
		return errAnswered
	}
	c.answered = true
	// The body may still be read while the answer is written; what is left then is waited for.
	c.keep = c.mayKeep(true) && c.req.minor != '0'
	c.headOnly = c.headOnly || bodiless(status)
	c.chunked = c.req.minor != '0' && !c.headOnly
	c.out = rpc.GetBuffer()
	b := c.appendHead(c.out.B, status, header, c.chunked && c.req.trailers)
	if c.req.minor != '0' && !bodiless(status) {
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	c.headEnd = len(b)
	c.out.B = append(b, "\r\n"...)
	return nil
}

// Write appends to the answer. It implements wire.Streamer.
func (c *conn) Write(p []byte) error {
	if c.out == nil {
		return errNoAnswer
	}
	if len(p) == 0 || c.headOnly {
		return nil
	}
	if c.chunked {
		c.out.B = strconv.AppendUint(c.out.B, uint64(len(p)), 16)
		c.out.B = append(c.out.B, "\r\n"...)
	}
	if len(c.out.B)+len(p) <= streamBuffer {
		c.out.B = append(c.out.B, p...)
	} else {
		// What fills up the buffer goes out in one write with what is there; the rest is not copied.
		n := max(0, streamBuffer-len(c.out.B))
		c.out.B = append(c.out.B, p[:n]...)
		if err := c.Flush(); err != nil {
			return err
		}
		if err := c.write(p[n:]); err != nil {
			return err
		}
	}
	if c.chunked {
		c.out.B = append(c.out.B, "\r\n"...)
	}
	return nil
}

var errNoAnswer = errors.New("the answer has not begun, or is at its end")

// Flush sends what was written. It implements wire.Streamer.
func (c *conn) Flush() error {
	if c.out == nil {
		return errNoAnswer
	}
	if len(c.out.B) == 0 {
		return nil
	}
	err := c.write(c.out.B)
	c.out.B, c.headEnd = c.out.B[:0], 0
	return err
}

// End finishes the answer; trailers go to clients that asked for them. It implements wire.Streamer.
func (c *conn) End(trailer rpc.Metadata) error {
	if c.out == nil {
		return errNoAnswer
	}
	if c.keep && c.headEnd > 0 && !c.settled() {
		// The head has yet to go out, and what is left of the body is not to be waited for.
		c.keep = false
		c.out.B = slices.Insert(c.out.B, c.headEnd, []byte("Connection: close\r\n")...)
	}
	if c.chunked {
		b := append(c.out.B, "0\r\n"...)
		if c.req.trailers {
			for i := range trailer {
				if !framingField(trailer[i].Key) {
					b = appendField(b, trailer[i].Key, trailer[i].Value)
				}
			}
		}
		c.out.B = append(b, "\r\n"...)
	}
	err := c.Flush()
	c.out.Free()
	c.out = nil
	c.ended = err == nil
	return err
}

// framingField tells whether a name says how a message is framed or where it goes: no trailer may.
func framingField(key string) bool {
	switch key {
	case "content-length", "transfer-encoding", "host", "connection", "keep-alive", "trailer", "te", "upgrade":
		return true
	}
	return false
}
