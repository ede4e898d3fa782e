package envelope

import (
	"context"
	"encoding/binary"
	"errors"
	"io"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// Reader takes messages with their prefixes out of a body. It is used by one goroutine.
type Reader struct {
	src    io.Reader
	limit  int // bytes of one message
	budget *rpc.Budget
	held   int         // bytes of the budget
	ahead  *rpc.Buffer // read beyond the last message, from off on; nil: nothing
	off    int
	eof    bool
	fault  error
}

// Reset makes r read from src. limit is the most bytes of one message as sent; bytes that are held are taken from budget,
// which may be nil.
func (r *Reader) Reset(src io.Reader, limit int, budget *rpc.Budget) {
	r.Close()
	*r = Reader{src: src, limit: limit, budget: budget}
}

// Close gives back what r holds. It may be called twice, and on the zero Reader.
func (r *Reader) Close() {
	r.budget.Give(r.held)
	r.held = 0
	if r.ahead != nil {
		r.ahead.Free()
		r.ahead = nil
	}
}

// Done gives the budget back what was taken for messages that were returned; what was read ahead stays held.
func (r *Reader) Done() {
	keep := 0
	if r.ahead != nil {
		keep = len(r.ahead.B) - r.off
	}
	r.budget.Give(r.held - keep)
	r.held = keep
}

// Next reads the next message into dst, prefix and all, and returns its flags. io.EOF says that the body ended after the
// message before; other errors are *rpc.Error and stay.
func (r *Reader) Next(dst *rpc.Buffer) (flags byte, err error) {
	if r.fault != nil {
		return 0, r.fault
	}
	flags, err = r.next(dst)
	r.fault = err
	return flags, err
}

func (r *Reader) next(dst *rpc.Buffer) (byte, error) {
	dst.B = r.takeAhead(dst.B[:0])
	total := -1
	for {
		b := dst.B
		if total < 0 && len(b) >= PrefixLen {
			size := int64(binary.BigEndian.Uint32(b[1:PrefixLen]))
			if size > int64(r.limit) {
				return 0, tooLarge(r.limit)
			}
			total = PrefixLen + int(size)
			b = r.takeMore(b, total)
			dst.B = b
		}
		if total >= 0 && len(b) >= total {
			r.keep(b[total:])
			dst.B = b[:total]
			return b[0], nil
		}
		if r.eof {
			return 0, ended(len(b), total)
		}
		if len(b) == cap(b) {
			b = rpc.Grow(b, PrefixLen, total)
		}
		n, err := r.src.Read(b[len(b):cap(b)])
		dst.B = b[:len(b)+n]
		if !r.budget.Take(n) {
			return 0, overloaded()
		}
		r.held += n
		if errors.Is(err, io.EOF) {
			r.eof = true
		} else if err != nil {
			return 0, readFault(err)
		}
	}
}

// atEnd tells whether it is known that nothing follows.
func (r *Reader) atEnd() bool { return r.eof && r.ahead == nil }

// ended is the error of a body that ends within or before a message.
func ended(have, total int) error {
	switch {
	case have == 0:
		return io.EOF
	case total < 0:
		return malformed("the body ends within the prefix of a message: want %d bytes, found %d", PrefixLen, have)
	}
	return malformed("the body ends within a message: want %d bytes, found %d", total-PrefixLen, have-PrefixLen)
}

// readFault is the error of a body that cannot be read.
func readFault(err error) error {
	if e, ok := errors.AsType[*rpc.Error](err); ok {
		return e
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return rpc.AsError(err)
	}
	return rpc.Refuse(codes.Internal, "BODY_INCOMPLETE", "the request body is cut or malformed").WithStatus(400).WithCause(err)
}

// takeAhead appends of what was read ahead a prefix and what belongs to its message.
func (r *Reader) takeAhead(b []byte) []byte {
	if r.ahead == nil {
		return b
	}
	return r.takeMore(b, PrefixLen)
}

// takeMore appends of what was read ahead as much as b needs to be total bytes long.
func (r *Reader) takeMore(b []byte, total int) []byte {
	if r.ahead == nil || len(b) >= total {
		return b
	}
	rest := r.ahead.B[r.off:]
	n := min(total-len(b), len(rest))
	b = append(b, rest[:n]...)
	if r.off += n; r.off == len(r.ahead.B) {
		r.ahead.Free()
		r.ahead, r.off = nil, 0
	}
	return b
}

// keep keeps what was read beyond a message. There is nothing ahead then: only an empty one is read past.
func (r *Reader) keep(rest []byte) {
	if len(rest) == 0 {
		return
	}
	r.ahead, r.off = rpc.GetBuffer(), 0
	r.ahead.B = append(r.ahead.B, rest...)
}
