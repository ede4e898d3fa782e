package http2

import (
	"strconv"
	"strings"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// headSize is how many bytes of memory a head holds, about.
func headSize(f *fields, list rpc.Metadata) int64 {
	n := len(f.method) + len(f.authority) + len(f.path)
	for i := range list {
		n += len(list[i].Key) + len(list[i].Value) + 32
	}
	return int64(n)
}

// request makes the exchange's request of a head. It returns a code to reset the stream with, or a status to answer it
// with, where the request is not one that the gateway could look at.
func (s *serverStream) request(f *fields, end bool) (ErrCode, int) {
	x := &s.x
	x.Proto, x.Peer = "HTTP/2.0", s.c.remote
	h := &x.HTTP
	h.Method, h.Scheme = f.method, s.c.scheme
	if f.method == "CONNECT" {
		return NoError, 405 // nothing is tunnelled
	}
	if f.scheme != "http" && f.scheme != "https" {
		return ProtocolError, 0
	}
	// What stands for a resource starts with a slash; all else about it is the edge's to judge.
	if f.path[0] != '/' && (f.path != "*" || f.method != "OPTIONS") || strings.IndexByte(f.path, ' ') >= 0 {
		return ProtocolError, 0
	}
	h.Path, h.Query, _ = strings.Cut(f.path, "?")
	authority := f.authority
	list, cookies := h.Header, 0
	n := 0
	for i := range list {
		switch list[i].Key {
		case "host":
			if authority != "" && !rpc.EqualFold(list[i].Value, authority) {
				return ProtocolError, 0
			}
			authority = list[i].Value
			continue
		case "content-length":
			if x.ContentLength >= 0 {
				return ProtocolError, 0
			}
			if x.ContentLength = parseLength(list[i].Value); x.ContentLength < 0 {
				return ProtocolError, 0
			}
		case "cookie":
			cookies++
		case "expect":
			s.expect = !end && rpc.EqualFold(list[i].Value, "100-continue")
		}
		list[n] = list[i]
		n++
	}
	clear(list[n:])
	h.Header = list[:n]
	if cookies > 1 {
		h.Header = joinCookies(h.Header)
	}
	if !validAuthority(authority) {
		return ProtocolError, 0
	}
	h.Host = hostOf(authority)
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && strings.IndexByte(authority[i:], ']') < 0 {
		h.Port = authority[i+1:]
	}
	if end && x.ContentLength > 0 {
		return ProtocolError, 0
	}
	return NoError, 0
}

// parseLength returns a content-length, -1 where it is not one decimal number.
func parseLength(v string) int64 {
	if v == "" || v[0] < '0' || v[0] > '9' {
		return -1 // a sign is none of it
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// joinCookies makes one field of the crumbs that clients make of a cookie for the sake of compression (RFC 9113 8.2.3).
func joinCookies(list rpc.Metadata) rpc.Metadata {
	size := 0
	for i := range list {
		if list[i].Key == "cookie" {
			size += len(list[i].Value) + 2
		}
	}
	joined := make([]byte, 0, size)
	at, n := -1, 0
	for i := range list {
		if list[i].Key == "cookie" {
			if at >= 0 {
				joined = append(append(joined, "; "...), list[i].Value...)
				continue
			}
			at, joined = n, append(joined, list[i].Value...)
		}
		list[n] = list[i]
		n++
	}
	list[at].Value = string(joined)
	clear(list[n:])
	return list[:n]
}

// validAuthority refuses what would be another host elsewhere: user information, a path, space. None at all is allowed.
func validAuthority(a string) bool {
	for i := range len(a) {
		switch c := a[i]; {
		case c <= ' ' || c >= 0x7f:
			return false
		case c == '@' || c == '/' || c == '\\' || c == '?' || c == '#' || c == ',' || c == '"' || c == '<' || c == '>':
			return false
		}
	}
	return true
}

// hostOf returns an authority's host: lower case, without port and without the dot of a rooted name.
func hostOf(a string) string {
	if i := strings.LastIndexByte(a, ':'); i >= 0 && strings.IndexByte(a[i:], ']') < 0 {
		a = a[:i]
	}
	return rpc.Lower(strings.TrimSuffix(a, "."))
}

// takeTrailers takes HEADERS on a stream that is open: its body ends. The trailers themselves are checked and dropped, for
// nothing asks for them.
func (c *serverConn) takeTrailers(s *serverStream, f *inFrame) error {
	if err := c.dec.decode(f.payload, trailerBlock, &c.head); err != nil {
		return err
	}
	c.w.Lock()
	defer c.w.Unlock()
	if c.streams.get(f.stream) != s {
		return c.takeLate(f.stream) // it was ended while the block was decoded
	}
	switch {
	case s.ended:
		c.fail(s, StreamClosed)
	case f.fault != NoError:
		c.fail(s, f.fault)
	case c.head.fault != "" || c.head.tooLarge || !f.has(flagEndStream) || !s.endBody():
		c.fail(s, ProtocolError)
	}
	return c.wasted()
}

// takeLate takes HEADERS on a stream that is not open and cannot be opened: no fault if it was we who reset it, for the
// client may not have known. With w locked.
func (c *serverConn) takeLate(id uint32) error {
	switch {
	case id%2 == 0 || !c.ids.wasUsed(id):
		return connFault(ProtocolError, "HEADERS on a stream that cannot be opened")
	case !c.ids.wasReset(id):
		return connFault(StreamClosed, "HEADERS on a stream that is closed")
	case !c.flood.spend():
		return errFlood
	}
	return nil
}
