// Package websocket carries messages both ways over a connection that was taken over from an exchange (RFC 6455). The
// framing is github.com/coder/websocket's; what is here is the handshake on a wire.Exchange, the limits that a listener at
// the edge needs, and an end that reaches the client.
package websocket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
)

// Kind is what a message is made of.
type Kind uint8

// Text is UTF-8, Binary anything.
const (
	Text Kind = iota
	Binary
)

// Close codes (RFC 6455 section 7.4.1), those that are used here.
const (
	Normal          = int(websocket.StatusNormalClosure)
	GoingAway       = int(websocket.StatusGoingAway)
	ProtocolError   = int(websocket.StatusProtocolError)
	UnsupportedData = int(websocket.StatusUnsupportedData)
	InvalidText     = int(websocket.StatusInvalidFramePayloadData)
	PolicyViolation = int(websocket.StatusPolicyViolation)
	TooBig          = int(websocket.StatusMessageTooBig)
)

// Fault is what a client did against the protocol or its limits. Code is what the connection is closed with.
type Fault struct {
	Code int
	Text string
}

// Error says what it was.
func (f *Fault) Error() string { return f.Text }

// ErrGone is the error of reading from a client that has closed, or whose connection is lost.
var ErrGone = errors.New("the client has left the WebSocket")

// ErrStopped is the error of reading after StopRead.
var ErrStopped = errors.New("reading was stopped")

// Conn is one WebSocket. One goroutine may read while another writes; the other methods may be called at any time.
type Conn struct {
	ws      *websocket.Conn
	tap     *tap
	message io.Reader // that is being read

	stopped atomic.Bool
	reading atomic.Bool // somebody takes frames off the connection, pongs too
	writing atomic.Bool
	pinging atomic.Bool
}

// Protocol is the subprotocol that was agreed on, "" for none.
func (c *Conn) Protocol() string { return c.ws.Subprotocol() }

// Next waits for a message, which Read then gives. The error is a *Fault, ErrStopped or ErrGone.
func (c *Conn) Next() (Kind, error) {
	if c.stopped.Load() {
		return 0, ErrStopped
	}
	c.reading.Store(true)
	defer c.reading.Store(false)
	typ, r, err := c.ws.Reader(context.Background())
	if err != nil {
		return 0, c.readError(err)
	}
	c.message = r
	if typ == websocket.MessageBinary {
		return Binary, nil
	}
	return Text, nil
}

// Read reads the message that Next has found; io.EOF at its end. Other errors are those of Next.
func (c *Conn) Read(p []byte) (int, error) {
	c.reading.Store(true)
	defer c.reading.Store(false)
	c.tap.wanted = int64(len(p))
	n, err := c.message.Read(p)
	c.tap.payload += int64(n)
	c.tap.wanted = 0
	if errors.Is(err, io.EOF) {
		c.tap.messageDone()
		return n, io.EOF
	}
	if err != nil {
		return n, c.readError(err)
	}
	return n, nil
}

// readError sorts what a read came back with.
func (c *Conn) readError(err error) error {
	var fault *Fault
	var network net.Error
	switch {
	case errors.As(err, &fault):
		return fault
	case c.stopped.Load():
		return ErrStopped
	case websocket.CloseStatus(err) >= 0:
		return gone(err)
	case errors.Is(err, websocket.ErrMessageTooBig):
		return &Fault{TooBig, "the message is larger than it may be"}
	case errors.Is(err, errLost), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded),
		errors.Is(err, context.DeadlineExceeded), errors.As(err, &network):
		return gone(err)
	}
	return &Fault{ProtocolError, cut(lastPart(err.Error()))}
}

// gone says how the client left. The connection's own error is not wrapped: its io.EOF is not the end of what was to come.
func gone(err error) error { return fmt.Errorf("%w: %s", ErrGone, err.Error()) }

// lastPart is an error's text without what it was wrapped in.
func lastPart(s string) string {
	if i := strings.LastIndex(s, ": "); i >= 0 && !strings.ContainsAny(s[i:], `"`) {
		head := s[:i]
		if j := strings.LastIndex(head, ": "); j >= 0 {
			return s[j+2:]
		}
	}
	return s
}

// Write sends a message. It waits while the client does not take bytes, up to writeTime for those at hand. An error means
// that the client is lost.
func (c *Conn) Write(k Kind, p []byte) error {
	typ := websocket.MessageText
	if k == Binary {
		typ = websocket.MessageBinary
	}
	c.writing.Store(true)
	defer c.writing.Store(false)
	return c.ws.Write(context.Background(), typ, p)
}

// StopRead makes a Next or Read that waits, and all later ones, return an error. Writing goes on.
func (c *Conn) StopRead() {
	c.stopped.Store(true)
	_ = c.tap.SetReadDeadline(time.Unix(1, 0)) // a connection that is closed needs none
}

// closeWait is how long the client may take to answer the end of the conversation.
const closeWait = time.Second

// Close ends the conversation with a code and a reason, of which 123 bytes reach the client, waits for a moment for the
// client to answer, and closes the connection. Only the first end counts.
func (c *Conn) Close(code int, reason string) {
	c.tap.closing.Store(true)
	c.tap.linger.Store(true)
	_ = c.tap.SetReadDeadline(time.Now().Add(closeWait)) // as above
	_ = c.ws.Close(websocket.StatusCode(code), cut(reason))
}

// Cut closes the connection without a word: the client finds it lost.
func (c *Conn) Cut() {
	c.tap.closing.Store(true)
	c.tap.linger.Store(false)
	_ = c.tap.Conn.Close() // what waits on it is told by that
	_ = c.ws.CloseNow()
}

// Bytes are those read from and written to the connection, frames and all.
func (c *Conn) Bytes() (in, out int64) { return c.tap.in.Load(), c.tap.out.Load() }

// Silence is how long nothing has come from the client, while somebody was there to hear it.
func (c *Conn) silence(now time.Time) time.Duration {
	return now.Sub(epoch) - time.Duration(c.tap.heard.Load())
}

const (
	// pingAfter is how long a client may be silent before it is asked for a sign of life.
	pingAfter = 30 * time.Second
	// pongWithin is how long it may take to give one.
	pongWithin = 15 * time.Second
)

// Tend asks a client that has been silent for long for a sign of life, and cuts the connection of one that gives none. It is
// called every few seconds and does not wait. A client whose messages nobody takes at the moment, or which does not take
// ours, is not asked: its answer could not be heard.
func (c *Conn) Tend(now time.Time) {
	if c.tap.closing.Load() || !c.reading.Load() || c.writing.Load() || c.silence(now) < c.tap.pingAfter || c.pinging.Swap(true) {
		return
	}
	go c.ping()
}

func (c *Conn) ping() {
	defer c.pinging.Store(false)
	defer func() { _ = recover() }() // a sign of life is not worth the process
	ctx, cancel := context.WithTimeout(context.Background(), c.tap.pongWithin)
	defer cancel()
	err := c.ws.Ping(ctx)
	if err != nil && c.reading.Load() && !c.writing.Load() && c.silence(time.Now()) >= c.tap.pongWithin {
		c.Cut()
	}
}

// maxReason is how much of a reason fits into a close frame (RFC 6455 section 5.5).
const maxReason = 123

// cut shortens text to what fits, between characters.
func cut(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= maxReason {
		return s
	}
	n := maxReason
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
