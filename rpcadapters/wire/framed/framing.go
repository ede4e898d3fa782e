package framed

import "github.com/causeway-gateway/causeway/rpcadapters/rpc"

// Framing is what is to be known of a protocol's frames. It has no state and is safe for concurrent use.
type Framing interface {
	// Head is how many bytes it takes to tell how long a frame is: at most 64.
	Head() int
	// Length is how many bytes the frame has that begins with head, which is Head() bytes and part of it. The error says that
	// this is no frame, and ends the connection.
	Length(head []byte) (int, error)
	// Label says what a frame is. frame is all of it, or the first bytes (at least 512) where it is too large to be taken. The error
	// ends the connection.
	Label(frame []byte) (Label, error)
}

// Label says to whom a frame belongs.
type Label struct {
	Kind Kind
	// Form tells apart what peers of a protocol speak that lays its frames out in several ways; see ServerConfig.LeaveIn.
	Form uint8
	ID   uint32
}

// Kind sorts frames.
type Kind uint8

// The kinds of frames.
const (
	Unary    Kind = iota // a request, or an answer, that is one frame
	OfStream             // one of many frames of a stream; numbers of streams are a space of their own
	Noise                // passed over: a push that nobody asked for
	Leave                // the peer takes no further calls on this connection; those in flight are finished
)

// Frame appends itself to what goes out.
type Frame interface {
	// AppendFrame appends the frame, with its length, to dst. id is the number of the call or stream. It is called once, with
	// the connection's lock held: it copies, and does nothing else.
	AppendFrame(dst []byte, id uint32) []byte
}

// Sink takes the frames of a stream. Its methods are called by the goroutine that reads the connection, one at a time, and
// must not block. One may still run while the stream is being closed.
type Sink interface {
	// Frame takes a frame; the buffer is the sink's, who frees it.
	Frame(frame *rpc.Buffer)
	// Broken says that the connection has ended: nothing more comes.
	Broken(f *Fault)
}
