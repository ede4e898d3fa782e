package rpc

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
)

// Error is the one error type that crosses the middle. Message and Details are meant for the caller; the wrapped cause is
// for logs only and is never shown.
type Error struct {
	Code    codes.Code
	Message string
	// Details are encoded google.protobuf.Any messages, as in google.rpc.Status. Read-only.
	Details [][]byte
	Class   Class
	// Executed is false where it is certain that no upstream has run the method: the call may be tried again.
	Executed bool
	Native   int32  // the upstream protocol's own code, for logs
	Reason   string // set on errors made by the gateway: the ErrorInfo reason, "ROUTE_NOT_FOUND"
	Status   int    // HTTP status where it differs from the code's (413, 404, ...); 0: by the table
	Fields   []FieldViolation
	Header   Metadata // HTTP headers that go with the answer: Allow, Retry-After
	Bare     bool     // the caller is told code and message alone
	cause    error
}

// FieldViolation names one place of a request that is at fault, as google.rpc.BadRequest has it.
type FieldViolation struct {
	Field       string // JSON path, "items[2].price"
	Description string
}

// Class tells whose fault an error is; it decides on retries, breakers and outliers.
type Class uint8

// The classes: the method itself answered with an error; the RPC framework or the gateway refused; the network failed.
const (
	Business Class = iota
	Framework
	Transport
)

// String returns the class as logs have it.
func (c Class) String() string { return [...]string{"business", "framework", "transport", ""}[c&3] }

// Error returns code, message and cause: for logs.
func (e *Error) Error() string {
	if e.cause != nil {
		return fmt.Sprintf("%s: %s (%v)", e.Code, e.Message, e.cause)
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Message)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// Refuse makes an error of the gateway's own: class Framework, nothing executed. The reason becomes the ErrorInfo detail.
func Refuse(code codes.Code, reason, format string, args ...any) *Error {
	return &Error{Code: code, Reason: reason, Class: Framework, Message: fmt.Sprintf(format, args...)}
}

// WithStatus sets the HTTP status and returns e.
func (e *Error) WithStatus(status int) *Error { e.Status = status; return e }

// WithCause sets the cause, which is logged and never shown, and returns e.
func (e *Error) WithCause(err error) *Error { e.cause = err; return e }

// AsError turns any error into an *Error: its own, one for a context that ended, or INTERNAL with the text kept from the
// caller.
func AsError(err error) *Error {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, context.DeadlineExceeded):
		return Refuse(codes.DeadlineExceeded, "DEADLINE_EXCEEDED", "deadline exceeded").WithCause(err)
	case errors.Is(err, context.Canceled):
		return Refuse(codes.Canceled, "CANCELLED", "the caller cancelled the call").WithCause(err)
	}
	return Refuse(codes.Internal, "INTERNAL", "internal error").WithCause(err)
}

// Answer is an error that is an HTTP answer of a plugin's own (a redirect, a cookie). Faces not borne by HTTP send Code
// and Message instead.
type Answer struct {
	Status  int
	Header  Metadata
	Body    []byte
	Code    codes.Code
	Message string
	Reason  string // as Error.Reason
}

// Error returns the answer's message.
func (a *Answer) Error() string {
	return fmt.Sprintf("answered with status %d: %s", a.Status, a.Message)
}
