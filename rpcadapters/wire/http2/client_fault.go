package http2

import "fmt"

// FaultKind says how a call over a client's connection came to its end without a whole answer.
type FaultKind uint8

// The kinds of fault.
const (
	Unreachable    FaultKind = iota // there is no connection, and none could be made
	Refused                         // the peer said that it has not looked at the request: REFUSED_STREAM, GOAWAY
	Reset                           // the peer reset the stream; Code says why
	Broken                          // the connection ended
	Malformed                       // the answer breaks the rules of HTTP
	AnswerTooLarge                  // the answer is larger than the call takes
	HeadTooLarge                    // the peer does not take a header list of this size; nothing was sent
	Ended                           // the call's context ended
)

var faultNames = [...]string{"unreachable", "refused", "reset", "broken", "malformed", "answer too large", "head too large", "ended"}

// Fault is why a call failed. Its text is for logs: it may name addresses.
type Fault struct {
	Kind FaultKind
	Code ErrCode // of Reset and Refused
	// Sent tells whether some of the request may have reached who handles it. It is false only where that is certain.
	Sent bool
	// Cause is for logs. It is not unwrapped: the io.EOF of a connection that was cut is not that of an answer's end.
	Cause error
}

// Error returns kind, code and cause.
func (f *Fault) Error() string {
	s := "http2: " + faultNames[f.Kind]
	if f.Kind == Reset || f.Kind == Refused {
		s += " with " + f.Code.String()
	}
	if f.Cause != nil {
		return fmt.Sprintf("%s: %v", s, f.Cause)
	}
	return s
}

type malformed string

func (m malformed) Error() string { return string(m) }
