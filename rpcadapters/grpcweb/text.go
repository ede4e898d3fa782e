package grpcweb

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// textReader decodes the text form of a body: base64 that may be padded anywhere between two groups of four, wherever the
// sender has flushed (PROTOCOL-WEB.md, "Text-encoded (response) streams"; senders of requests do the same).
type textReader struct {
	src io.Reader
	raw [1024]byte // read; the first n are the start of a group
	n   int
	out [3]byte // decoded and not given yet: the last left of them
	// left of out, and the error that comes behind it
	left int
	err  error
}

func (t *textReader) reset(src io.Reader) {
	t.src, t.n, t.left, t.err = src, 0, 0, nil
}

// Read implements io.Reader. Text that is not base64 is an *rpc.Error.
func (t *textReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if t.left > 0 {
			n := copy(p, t.out[len(t.out)-t.left:])
			t.left -= n
			return n, nil
		}
		if t.err != nil {
			return 0, t.err
		}
		small := len(p) < len(t.out)
		most := len(t.raw)
		if small {
			most = 4
		} else {
			most = min(most, len(p)/3*4)
		}
		m, err := t.src.Read(t.raw[t.n:most])
		have := t.n + m
		whole := have &^ 3
		dst := p
		if small {
			dst = t.out[:]
		}
		n, derr := decode(dst, t.raw[:whole])
		t.n = copy(t.raw[:], t.raw[whole:have])
		switch {
		case derr != nil:
			t.err = notText()
		case errors.Is(err, io.EOF) && t.n > 0:
			t.err = notText()
		case err != nil:
			t.err = err
		}
		if small && n > 0 {
			copy(t.out[len(t.out)-n:], t.out[:n])
			t.left = n
		} else if n > 0 {
			return n, nil
		}
	}
}

func notText() *rpc.Error {
	return rpc.Refuse(codes.Internal, "MALFORMED_MESSAGE", "the request body is not base64, or is cut").WithStatus(400)
}

// decode decodes groups of four, of which any may be padded. dst has room for three bytes of each.
func decode(dst, text []byte) (n int, err error) {
	for len(text) > 0 {
		end := len(text)
		if i := bytes.IndexByte(text, '='); i >= 0 {
			end = i&^3 + 4
		}
		k, err := base64.StdEncoding.Decode(dst[n:], text[:end])
		n += k
		if err != nil {
			return n, err
		}
		text = text[end:]
	}
	return n, nil
}

// sink takes the bytes of an answer's body: those of a unary call are collected, those of a stream go to the exchange, in
// base64 if the answer is text. Text is padded where it is flushed.
type sink struct {
	x interface {
		Write(p []byte) error
		Flush() error
	}
	text  bool
	whole *rpc.Buffer // nil: it goes to the exchange
	rest  [3]byte     // bytes that are no group of three yet
	n     int
	err   error // of a write that failed in the middle: nothing can stand behind it
}

// Write implements envelope.Sink.
func (s *sink) Write(p []byte) error {
	if s.whole != nil {
		s.whole.B = append(s.whole.B, p...)
		return nil
	}
	if !s.text {
		return s.x.Write(p)
	}
	if s.n > 0 {
		k := copy(s.rest[s.n:], p)
		if s.n, p = s.n+k, p[k:]; s.n < len(s.rest) {
			return nil
		}
		if err := s.encode(s.rest[:]); err != nil {
			return err
		}
		s.n = 0
	}
	whole := len(p) / 3 * 3
	s.n = copy(s.rest[:], p[whole:])
	return s.encode(p[:whole])
}

// piece is how many bytes are encoded at a time: a multiple of three.
const piece = 3 << 10

func (s *sink) encode(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	buf := rpc.GetBuffer()
	defer buf.Free()
	for len(p) > 0 {
		k := min(len(p), piece)
		buf.B = base64.StdEncoding.AppendEncode(buf.B[:0], p[:k])
		if s.err != nil {
			return s.err
		}
		if s.err = s.x.Write(buf.B); s.err != nil {
			return s.err
		}
		p = p[k:]
	}
	return nil
}

// pad ends the group that has begun.
func (s *sink) pad() error {
	n := s.n
	s.n = 0
	return s.encode(s.rest[:n])
}

// Flush implements envelope.Sink.
func (s *sink) Flush() error {
	if s.whole != nil {
		return nil
	}
	if err := s.pad(); err != nil {
		return err
	}
	return s.x.Flush()
}
