package framed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// FaultKind says how a call came to its end without an answer.
type FaultKind uint8

// The kinds of fault.
const (
	Unreachable    FaultKind = iota // there is no connection, and none could be made
	Broken                          // the connection ended
	AnswerTooLarge                  // the answer is larger than is taken
	Ended                           // the call's context ended, or the stream was closed
)

var faultNames = [...]string{"unreachable", "broken", "answer too large", "ended"}

// Fault is why a call failed. Its text is for logs: it may name addresses.
type Fault struct {
	Kind FaultKind
	// Sent tells whether some of the request may have reached who handles it. It is false only where that is certain.
	Sent bool
	// Cause is for logs. It is not unwrapped: the io.EOF of a connection that was cut is not that of an answer's end.
	Cause error
}

// Error returns kind and cause.
func (f *Fault) Error() string {
	if f.Cause != nil {
		return fmt.Sprintf("%s: %v", faultNames[f.Kind], f.Cause)
	}
	return faultNames[f.Kind]
}

// Failed makes the gateway's error of a call of a Client that ended with err, a *Fault, and had ctx. What is said of
// addresses and causes is for the log only.
func Failed(ctx context.Context, err error) *rpc.Error {
	f, ok := errors.AsType[*Fault](err)
	if !ok {
		return rpc.AsError(err)
	}
	if ended := f.ended(ctx); ended != nil {
		e := rpc.AsError(ended)
		e.Executed = f.Sent
		return e.WithCause(f)
	}
	e := &rpc.Error{Code: codes.Unavailable, Class: rpc.Transport, Executed: f.Sent}
	switch f.Kind {
	case Unreachable:
		e.Reason, e.Message = "UPSTREAM_UNREACHABLE", "the service cannot be reached"
	case AnswerTooLarge:
		e = TooLargeAnswer()
	case Broken, Ended:
		e.Reason, e.Message = "UPSTREAM_RESET", "the connection to the service broke before it answered"
		if f.Sent {
			e.Status = 502
		}
	}
	return e.WithCause(f)
}

// TooLargeAnswer is the error of a call whose answer has more bytes than the target takes.
func TooLargeAnswer() *rpc.Error {
	return &rpc.Error{
		Code: codes.ResourceExhausted, Class: rpc.Framework, Executed: true,
		Reason: "ANSWER_TOO_LARGE", Message: "the service's answer is larger than the gateway takes", Status: 502,
	}
}

// ended tells whether a call was cut off because its context had ended, or its deadline passed by the clock while whoever
// watches it has yet to notice: the service may be faster.
func (f *Fault) ended(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if f.Kind == Unreachable || f.Kind == AnswerTooLarge {
		return nil
	}
	if due, ok := ctx.Deadline(); ok && !time.Now().Before(due) {
		return context.DeadlineExceeded
	}
	return nil
}

var (
	errClosed  = errors.New("the client is closed")
	errRetired = errors.New("the connection is no longer needed")
	errStuck   = errors.New("a frame has begun and does not come to its end")
	errGone    = errors.New("the stream is closed")
)
