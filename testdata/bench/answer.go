package main

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// answer is one HTTP/1.1 answer as the load reads it. The body aliases the buffer it was parsed from, or the parser's
// own when it came in chunks; both hold until the next answer is parsed.
type answer struct {
	status int
	body   []byte
}

// answerParser parses answers and keeps the buffer in which the chunks of a body are joined.
type answerParser struct{ joined []byte }

var (
	lineEnd       = []byte("\r\n")
	lengthName    = []byte("content-length")
	encodingName  = []byte("transfer-encoding")
	connName      = []byte("connection")
	chunkedCoding = []byte("chunked")
	closeOption   = []byte("close")
	http11        = []byte("HTTP/1.1 ")
)

// parse reads the first answer in b and returns the bytes it takes, 0 while it is not complete.
func (p *answerParser) parse(b []byte) (answer, int, error) {
	end := bytes.Index(b, headEnd)
	if end < 0 {
		return answer{}, 0, nil
	}
	if end < len(http11)+3 || !bytes.HasPrefix(b, http11) {
		return answer{}, 0, fmt.Errorf("want an HTTP/1.1 status line, got %q", b[:min(end, 80)])
	}
	status, err := strconv.Atoi(string(b[len(http11) : len(http11)+3]))
	if err != nil {
		return answer{}, 0, fmt.Errorf("bad status: %w", err)
	}
	length, chunked := -1, false
	head := b[:end+2]
	for at := bytes.Index(head, lineEnd) + 2; at < len(head); {
		line := head[at:]
		stop := bytes.Index(line, lineEnd)
		line = line[:stop]
		at += stop + 2
		colon := bytes.IndexByte(line, ':')
		if colon < 0 {
			return answer{}, 0, fmt.Errorf("header line without a colon: %q", line)
		}
		name, value := line[:colon], bytes.TrimSpace(line[colon+1:])
		switch {
		case len(name) == len(lengthName) && bytes.EqualFold(name, lengthName):
			if length, err = strconv.Atoi(string(value)); err != nil || length < 0 {
				return answer{}, 0, fmt.Errorf("bad content-length %q", value)
			}
		case len(name) == len(encodingName) && bytes.EqualFold(name, encodingName):
			if chunked = bytes.EqualFold(value, chunkedCoding); !chunked {
				return answer{}, 0, fmt.Errorf("transfer-encoding %q", value)
			}
		case len(name) == len(connName) && bytes.EqualFold(name, connName) && bytes.EqualFold(value, closeOption):
			return answer{}, 0, fmt.Errorf("the connection is closed after an answer with status %d", status)
		}
	}
	start := end + len(headEnd)
	if chunked {
		size, err := p.join(b[start:])
		if err != nil || size == 0 {
			return answer{}, 0, err
		}
		return answer{status, p.joined}, start + size, nil
	}
	if length < 0 {
		return answer{}, 0, errors.New("neither content-length nor chunks")
	}
	if len(b) < start+length {
		return answer{}, 0, nil
	}
	return answer{status, b[start : start+length]}, start + length, nil
}

// join takes the chunks at the start of b into p.joined and returns the bytes they take, 0 while they are not complete.
func (p *answerParser) join(b []byte) (int, error) {
	p.joined = p.joined[:0]
	at := 0
	for {
		stop := bytes.Index(b[at:], lineEnd)
		if stop < 0 {
			return 0, nil
		}
		n, err := strconv.ParseUint(string(b[at:at+stop]), 16, 24)
		if err != nil {
			return 0, fmt.Errorf("bad chunk size: %w", err)
		}
		at += stop + 2
		size := int(n) //nolint:gosec // 24 bits
		if len(b) < at+size+2 {
			return 0, nil
		}
		if !bytes.Equal(b[at+size:at+size+2], lineEnd) {
			return 0, errors.New("chunk does not end where its size says, or trailers follow")
		}
		p.joined = append(p.joined, b[at:at+size]...)
		at += size + 2
		if size == 0 {
			return at, nil
		}
	}
}
