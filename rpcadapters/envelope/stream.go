package envelope

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Codec turns messages between the caller's form and protobuf wire bytes. Errors of AppendWire are *rpc.Error for the caller.
type Codec interface {
	AppendWire(dst, form []byte, m *schema.Message) ([]byte, error)
	AppendForm(dst, wire []byte, m *schema.Message) ([]byte, error)
}

// Sink takes the bytes of an answer: an exchange, or what encodes them for one.
type Sink interface {
	Write(p []byte) error
	Flush() error
}

// Options of a Stream.
type Options struct {
	Method *schema.Method  // nil: none is read
	Limit  int             // bytes of one request message, as sent and unpacked
	Budget *rpc.Budget     // what bytes in work are taken from; nil: no bound
	Codec  Codec           // nil: messages are wire bytes on both sides
	In     rpc.Compression // of requests that say they are compressed
	Out    rpc.Compression // of answers that are worth it
	Always bool            // of all answers that are not empty, for callers that look for nothing else
}

// Stream reads the messages of a call's requests and writes those of its answers. The methods for requests may be used by
// one goroutine while another uses those for answers.
type Stream struct {
	Options
	reader Reader
	sink   Sink
	one    bool  // there is exactly one request, then the end of the body
	fault  error // why there are no more requests
	failed error // why the sink takes no more
	read   int   // budget taken for the last request, beside what the reader holds
	prefix [PrefixLen]byte
}

// Reset makes the stream ready for a call.
func (s *Stream) Reset(src io.Reader, sink Sink, o Options) {
	s.Close()
	*s = Stream{Options: o, sink: sink, one: o.Method != nil && (o.Method.Kind == schema.Unary || o.Method.Kind == schema.ServerStream)}
	s.reader.Reset(src, o.Limit, o.Budget)
}

// Close gives back what the stream holds. It may be called twice, and on the zero Stream.
func (s *Stream) Close() {
	s.reader.Close()
	s.Budget.Give(s.read)
	s.read = 0
}

// bound lowers the limit of messages that were not read yet.
func (s *Stream) bound(most int) {
	s.Limit = min(s.Limit, most)
	s.reader.limit = min(s.reader.limit, most)
}

// Recv gives the next request in wire bytes, as rpc.Stream has it. The budget counts a message until the next is asked for.
func (s *Stream) Recv(m *rpc.Message) error {
	if s.fault != nil {
		return s.fault
	}
	s.reader.Done()
	s.Budget.Give(s.read)
	s.read = 0
	buf := rpc.GetBuffer()
	flags, err := s.Frame(buf)
	var made *rpc.Buffer
	if err == nil {
		made, err = s.decode(flags, buf.B[PrefixLen:], s.Method.Input)
	}
	switch {
	case err != nil:
		buf.Free()
		s.fault = err
	case made != nil:
		buf.Free()
		m.Own(made)
	default:
		m.Own(buf)
		m.Data = m.Data[PrefixLen:]
	}
	return err
}

// Frame reads the next request as it was sent, prefix and all. Where the method takes one it
// waits for the end of the body behind it, and a body without a message is an error.
func (s *Stream) Frame(buf *rpc.Buffer) (flags byte, err error) {
	flags, err = s.reader.Next(buf)
	if err != nil {
		if s.one && errors.Is(err, io.EOF) {
			err = cardinality("the method takes one request message, found none")
		}
		return 0, err
	}
	if flags&^Compressed != 0 {
		return 0, malformed("a request message has the flags %#02x: want 0 or 1", flags)
	}
	if s.one {
		return flags, s.end()
	}
	return flags, nil
}

// end waits for the end of the body.
func (s *Stream) end() error {
	if s.reader.atEnd() {
		s.fault = io.EOF
		return nil
	}
	more := rpc.GetBuffer()
	defer more.Free()
	_, err := s.reader.Next(more)
	if err == nil {
		return cardinality("the method takes one request message, found more")
	}
	if errors.Is(err, io.EOF) {
		s.fault = io.EOF
		return nil
	}
	return err
}

// decode makes wire bytes of type m of a message as it was sent; nil where they are that already. The buffer is the caller's.
func (s *Stream) decode(flags byte, payload []byte, m *schema.Message) (*rpc.Buffer, error) {
	var unpacked *rpc.Buffer
	if flags&Compressed != 0 {
		if s.In == rpc.Identity {
			return nil, malformed("a message is marked as compressed, and the request names no compression")
		}
		unpacked = rpc.GetBuffer()
		out, taken, err := Decompress(unpacked.B, payload, s.In, s.Limit, s.Budget)
		unpacked.B = out
		s.read += taken
		if err != nil {
			unpacked.Free()
			return nil, err
		}
		payload = out
	}
	if s.Codec == nil {
		return unpacked, nil
	}
	made := rpc.GetBuffer()
	out, err := s.Codec.AppendWire(made.B, payload, m)
	made.B = out
	if unpacked != nil {
		unpacked.Free()
	}
	if err == nil && !s.take(len(out)) {
		err = overloaded()
	}
	if err != nil {
		made.Free()
		return nil, err
	}
	return made, nil
}

func (s *Stream) take(n int) bool {
	if !s.Budget.Take(n) {
		return false
	}
	s.read += n
	return true
}

// worth is the size from which on a message is compressed: below it the packet that carries it gets no smaller.
const worth = 1 << 10

// Encoded is an answer in the caller's form, packed if that is worth it.
type Encoded struct {
	Payload []byte
	Flags   byte // Compressed or 0
	// unpacked is what the service had packed, form what the codec made, packed what is compressed for the caller.
	unpacked, form, packed *rpc.Buffer

	budget *rpc.Budget
	held   int
}

// Free gives back what Payload is made of; it is not used afterwards.
func (e *Encoded) Free() {
	e.budget.Give(e.held)
	for _, b := range [...]*rpc.Buffer{e.unpacked, e.form, e.packed} {
		if b != nil {
			b.Free()
		}
	}
	*e = Encoded{}
}

func (e *Encoded) take(n int) bool {
	if !e.budget.Take(n) {
		return false
	}
	e.held += n
	return true
}

// Encode makes of an answer's wire bytes what the caller gets. The result is freed, also after an error: INTERNAL for what
// is no message, an *rpc.Error like all of them.
func (s *Stream) Encode(m *rpc.Message) (e Encoded, err error) {
	e.Payload, e.budget = m.Data, s.Budget
	if m.Comp != rpc.Identity {
		if m.Comp == s.Out && s.Codec == nil {
			e.Flags = Compressed // as the service packed it
			return e, nil
		}
		e.unpacked = rpc.GetBuffer()
		out, taken, err := Decompress(e.unpacked.B, m.Data, m.Comp, maxAnswer, s.Budget)
		e.unpacked.B = out
		e.held += taken
		if err != nil {
			return e, invalidAnswer(s.Method).WithCause(err)
		}
		e.Payload = out
	}
	if s.Codec != nil {
		e.form = rpc.GetBuffer()
		out, err := s.Codec.AppendForm(e.form.B, e.Payload, s.Method.Output)
		e.form.B = out
		if err != nil {
			return e, invalidAnswer(s.Method).WithCause(err)
		}
		if !e.take(len(out)) {
			return e, overloaded()
		}
		e.Payload = out
	}
	if s.Out == rpc.Identity || len(e.Payload) == 0 || !s.Always && len(e.Payload) < worth {
		return e, nil
	}
	e.packed = rpc.GetBuffer()
	out, err := Compress(e.packed.B, e.Payload, s.Out)
	e.packed.B = out
	if err != nil {
		return e, rpc.AsError(err)
	}
	if !e.take(len(out)) {
		return e, overloaded()
	}
	if s.Always || len(out) < len(e.Payload) {
		e.Payload, e.Flags = out, Compressed
	}
	return e, nil
}

// maxAnswer bounds what an answer that the service has packed may unpack to, where its transport has not.
const maxAnswer = 64 << 20

func invalidAnswer(m *schema.Method) *rpc.Error {
	return rpc.Refuse(codes.Internal, "INVALID_ANSWER", "the service's answer is not a valid %s", m.Output.Name).WithStatus(502)
}

// Send writes one answer, in the caller's form, and has it sent unless another follows at once. The error is an *rpc.Error:
// Encode's, before anything of it was written; else the caller has gone.
func (s *Stream) Send(m *rpc.Message, more bool) error {
	e, err := s.Encode(m)
	if err == nil {
		err = s.Write(e.Flags, e.Payload)
	}
	e.Free()
	if err != nil || more {
		return err
	}
	return s.Flush()
}

// Write writes a message as it is. The error is an *rpc.Error.
func (s *Stream) Write(flags byte, payload []byte) error {
	s.prefix = Prefix(flags, len(payload))
	err := s.sink.Write(s.prefix[:])
	if err == nil && len(payload) > 0 {
		err = s.sink.Write(payload)
	}
	return s.gone(err)
}

// Flush sends what was written. The error is an *rpc.Error; when the call's deadline has passed, the end of the answer can
// still go out behind what was written.
func (s *Stream) Flush() error {
	err := s.sink.Flush()
	if errors.Is(err, context.DeadlineExceeded) {
		return rpc.AsError(err)
	}
	return s.gone(err)
}

// Failed is why the sink takes no more; nil while it does. The answer cannot be finished then.
func (s *Stream) Failed() error { return s.failed }

// gone makes the error of the call of one that the sink gave, and keeps it.
func (s *Stream) gone(err error) error {
	if err == nil {
		return nil
	}
	s.failed = err
	return Gone(err)
}

// Gone is the error of a call whose answer could not be written.
func Gone(err error) *rpc.Error {
	if errors.Is(err, context.DeadlineExceeded) {
		return rpc.AsError(err)
	}
	return rpc.Refuse(codes.Canceled, "CLIENT_GONE", "the caller left before the answer was written").WithCause(err)
}
