package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
)

// floor is the least that an HTTP/1.1 server in Go can cost: a goroutine per connection, one read and one write of a
// canned answer per call, no routing, no upstream. Every candidate is given as a ratio to it.
func floor(ctx context.Context, l net.Listener, status int, answer []byte) error {
	out := fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		status, "Canned", len(answer), answer)
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		go floorConn(conn, out)
	}
}

func floorConn(conn net.Conn, out []byte) {
	defer conn.Close()
	buf := make([]byte, 16<<10)
	have := 0
	for {
		n, err := conn.Read(buf[have:])
		if err != nil {
			return
		}
		have += n
		for {
			size, err := requestSize(buf[:have])
			if err != nil {
				return
			}
			if size == 0 || size > have {
				break
			}
			if _, err := conn.Write(out); err != nil {
				return
			}
			have = copy(buf, buf[size:have])
		}
		if have == len(buf) {
			return // larger than anything the bench sends
		}
	}
}

var (
	headEnd       = []byte("\r\n\r\n")
	contentLength = []byte("\r\nContent-Length: ")
)

// requestSize is the size of the first request in b with its body, 0 while its head is not complete.
func requestSize(b []byte) (int, error) {
	head := bytes.Index(b, headEnd)
	if head < 0 {
		return 0, nil
	}
	size := head + len(headEnd)
	at := bytes.Index(b[:head], contentLength)
	if at < 0 {
		return size, nil
	}
	digits := b[at+len(contentLength) : head]
	if end := bytes.IndexByte(digits, '\r'); end >= 0 {
		digits = digits[:end]
	}
	n, err := strconv.Atoi(string(digits))
	if err != nil || n < 0 {
		return 0, errors.New("bad content-length")
	}
	return size + n, nil
}
