package framed

import (
	"errors"
	"fmt"
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

var (
	errClosed  = errors.New("the client is closed")
	errRetired = errors.New("the connection is no longer needed")
	errGone    = errors.New("the stream is closed")
)
