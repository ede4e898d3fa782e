package adaptertest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire"
	"github.com/causeway-gateway/causeway/transcode/jsonwire"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Engine carries one exchange without a network: what it is given as the body is read, and what is written stays in it.
type Engine struct {
	X    wire.Exchange
	Body []byte // of the request
	// Piece is how many bytes a read gives at most; 0: all there are. Cut is the error at the end of Body; nil: io.EOF.
	Piece int
	Cut   error
	// Break is the error of writes once Room bytes of body were written; nil: none.
	Break error
	Room  int
	Late  error // the error of flushes; nil: none

	Status          int
	Header, Trailer rpc.Metadata
	Out             bytes.Buffer
	Flushes         int
	Ended, Aborted  bool
	Whole           bool // written by Respond

	off  int
	Sent rpc.Sent // what the finisher heard
	Done int      // how often
}

// Reset makes the engine ready for a request. Header keys are lower case.
func (e *Engine) Reset(method, path, proto string, header rpc.Metadata, body []byte) {
	e.X.Reset(e, nil)
	e.X.HTTP.Method, e.X.HTTP.Path, e.X.HTTP.Scheme, e.X.HTTP.Host = method, path, "http", "test"
	e.X.HTTP.Header = append(e.X.HTTP.Header, header...)
	e.X.Proto, e.X.Start, e.X.ID = proto, time.Now(), "id-1"
	e.Body, e.off = body, 0
	e.Status, e.Header, e.Trailer, e.Flushes, e.Ended, e.Aborted, e.Whole, e.Done = 0, e.Header[:0], e.Trailer[:0], 0, false, false, false, 0
	e.Out.Reset()
}

// Read implements wire.Engine.
func (e *Engine) Read(p []byte) (int, error) {
	if e.off == len(e.Body) {
		if e.Cut != nil {
			return 0, e.Cut
		}
		return 0, io.EOF
	}
	if e.Piece > 0 && len(p) > e.Piece {
		p = p[:e.Piece]
	}
	n := copy(p, e.Body[e.off:])
	e.off += n
	return n, nil
}

var errOrder = errors.New("the answer is written out of order")

// Respond implements wire.Engine.
func (e *Engine) Respond(status int, header rpc.Metadata, body []byte) error {
	if e.Status != 0 {
		return errOrder
	}
	e.Status, e.Whole, e.Ended = status, true, true
	e.Header = append(e.Header, header...)
	e.Out.Write(body)
	return e.Break
}

// WriteHead implements wire.Streamer.
func (e *Engine) WriteHead(status int, header rpc.Metadata) error {
	if e.Status != 0 {
		return errOrder
	}
	e.Status = status
	e.Header = append(e.Header, header...)
	return nil
}

// Write implements wire.Streamer.
func (e *Engine) Write(p []byte) error {
	if e.Status == 0 || e.Ended {
		return errOrder
	}
	if e.Break != nil && e.Out.Len()+len(p) > e.Room {
		return e.Break
	}
	e.Out.Write(p)
	return nil
}

// Flush implements wire.Streamer.
func (e *Engine) Flush() error {
	e.Flushes++
	return e.Late
}

// End implements wire.Streamer.
func (e *Engine) End(trailer rpc.Metadata) error {
	if e.Status == 0 || e.Ended {
		return errOrder
	}
	e.Ended = true
	e.Trailer = append(e.Trailer, trailer...)
	return nil
}

// Abort implements wire.Streamer.
func (e *Engine) Abort() { e.Aborted = true }

// StopRead implements wire.ReadStopper.
func (e *Engine) StopRead() { e.Cut = context.Canceled }

// Matched is what the edge would find for a call of m. The engine is its finisher.
func (e *Engine) Matched(m *schema.Method) *rpcadapters.Matched {
	return &rpcadapters.Matched{Method: m, Options: Options(), Finish: finisher{e}}
}

type finisher struct{ e *Engine }

// Done implements rpc.Finisher.
func (f finisher) Done(_ *rpc.Call, sent rpc.Sent) {
	f.e.Sent = sent
	f.e.Done++
}

// MaxBody is the limit of Options.
const MaxBody = 1 << 20

// Options are those of a route in tests.
func Options() *rpcadapters.Options {
	return &rpcadapters.Options{Route: "r", Service: "s", MaxBody: MaxBody, JSON: &jsonwire.Options{}, Budget: rpc.NewBudget(64 << 20)}
}
