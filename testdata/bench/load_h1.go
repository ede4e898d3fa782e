package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
)

// h1Caller is a keep-alive connection of HTTP/1.1.
type h1Caller struct {
	*load

	fd      int
	slot    int
	request request
	parser  answerParser
	buf     []byte
	have    int
}

func (c *h1Caller) begin(_ int, rng *rand.Rand) error {
	c.request.vary(rng.Uint64(), rng.Uint64(), rng.Uint64())
	return write(c.fd, c.request.bytes)
}

func (c *h1Caller) flush() error { return nil }

func (c *h1Caller) receive(done func(int) error) (int, error) {
	n, err := read(c.fd, c.buf[c.have:])
	if err != nil {
		return 0, fmt.Errorf("connection closed with %d bytes of an answer read: %w", c.have, err)
	}
	c.have += n
	a, size, err := c.parser.parse(c.buf[:c.have])
	if err != nil {
		return 0, err
	}
	if size == 0 {
		if c.have == len(c.buf) {
			return 0, fmt.Errorf("answer above %d bytes", len(c.buf))
		}
		return 0, nil
	}
	if err := c.check(a); err != nil {
		return 0, err
	}
	if size != c.have {
		return 0, errors.New("more bytes than one answer")
	}
	c.have = 0
	return len(a.body), done(c.slot)
}

// h1Stream is one whose answers are long and come in chunks: the body is compared as it comes.
type h1Stream struct {
	h1Caller

	inBody bool
	chunk  int // bytes of the chunk under way that are still to come, with its line end
	got    int // bytes of the body that came
}

// receive implements caller.
func (c *h1Stream) receive(done func(int) error) (int, error) {
	n, err := read(c.fd, c.buf[c.have:])
	if err != nil {
		return 0, fmt.Errorf("connection closed with %d bytes of a stream read: %w", c.got, err)
	}
	c.have += n
	rest, before := c.buf[:c.have], c.got
	rest, ended, err := c.take(rest)
	if err != nil {
		return 0, err
	}
	came := c.got - before
	c.have = copy(c.buf, rest)
	if !ended {
		return came, nil
	}
	if c.got != len(c.body) || c.have > 0 {
		return 0, fmt.Errorf("the stream ended after %d bytes, want %d, and %d bytes follow", c.got, len(c.body), c.have)
	}
	c.inBody, c.got = false, 0
	return came, done(c.slot)
}

// take takes what is whole at the start of b and returns the rest, and whether the stream has ended.
func (c *h1Stream) take(b []byte) (rest []byte, ended bool, err error) {
	if !c.inBody {
		if b, err = c.takeHead(b); err != nil || !c.inBody {
			return b, false, err
		}
	}
	for {
		if c.chunk == 0 {
			end := bytes.Index(b, lineEnd)
			if end < 0 {
				return b, false, nil
			}
			size, err := strconv.ParseUint(string(b[:end]), 16, 24)
			if err != nil {
				return nil, false, fmt.Errorf("bad chunk size: %w", err)
			}
			if size == 0 {
				if len(b) < end+2*len(lineEnd) {
					return b, false, nil
				}
				if !bytes.HasPrefix(b[end:], headEnd) {
					return nil, false, fmt.Errorf("want no trailers, got %q", b[end:])
				}
				return b[end+len(headEnd):], true, nil
			}
			b = b[end+len(lineEnd):]
			c.chunk = int(size) + len(lineEnd) //nolint:gosec // 24 bits
		}
		part := b[:min(len(b), max(0, c.chunk-len(lineEnd)))]
		if !bytes.HasPrefix(c.body[min(c.got, len(c.body)):], part) {
			return nil, false, fmt.Errorf("unexpected bytes in the stream at %d: %.300q", c.got, part)
		}
		c.got += len(part)
		c.chunk -= len(part)
		b = b[len(part):]
		if c.chunk > len(lineEnd) {
			return b, false, nil
		}
		if len(b) < c.chunk {
			return b, false, nil
		}
		if !bytes.HasPrefix(b, lineEnd) {
			return nil, false, errors.New("chunk does not end where its size says")
		}
		b, c.chunk = b[len(lineEnd):], 0
	}
}

// takeHead takes the answer's head once it is whole.
func (c *h1Stream) takeHead(b []byte) ([]byte, error) {
	end := bytes.Index(b, headEnd)
	if end < 0 {
		return b, nil
	}
	head := bytes.ToLower(b[:end+len(lineEnd)])
	status := fmt.Appendf(nil, "http/1.1 %d ", c.call.status)
	if !bytes.HasPrefix(head, status) || !bytes.Contains(head, []byte("\r\ntransfer-encoding: chunked\r\n")) {
		return nil, fmt.Errorf("want status %d and chunks, got %q", c.call.status, b[:end])
	}
	c.inBody = true
	return b[end+len(headEnd):], nil
}
